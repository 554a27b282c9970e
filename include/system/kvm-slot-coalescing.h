/*
 * KVM slot coalescing: fewer changes of memory slots
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_KVM_SLOT_COALESCING_H
#define SYSTEM_KVM_SLOT_COALESCING_H

#include "exec/hwaddr.h"
#include "qemu/stats64.h"

struct KVMState;

/* In KVMState */
typedef struct KVMSlotCoalescing {
    bool enabled;
    Stat64 ioctls, deletes, saved;      /* see KVMSlotCounters */
} KVMSlotCoalescing;

/* Since the VM was created, of all address spaces */
typedef struct KVMSlotCounters {
    uint64_t ioctls;            /* KVM_SET_USER_MEMORY_REGION and ..._REGION2 */
    uint64_t deletes;           /* of them those that delete a slot */
    int64_t saved;              /* how many more ioctls one slot per section
                                   would have taken; 0 if not coalescing */
} KVMSlotCounters;

/* Any thread may call this at any time. */
void kvm_get_slot_counters(struct KVMState *s, KVMSlotCounters *counters);

/**
 * kvm_slot_cut: never let a slot cross an address
 * @gpa: in bytes; a multiple of the host's page size, or nothing is cut
 *
 * For slots in all address spaces whose listeners are registered later.
 */
void kvm_slot_cut(hwaddr gpa);

#endif
