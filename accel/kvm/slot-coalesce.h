/*
 * KVM slot coalescing: between kvm-all.c and slot-coalesce.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_SLOT_COALESCE_H
#define ACCEL_KVM_SLOT_COALESCE_H

#include "qemu/timer.h"
#include "system/kvm_int.h"

/*
 * Of slot-coalesce.c.  A listener that has a coalescer leaves it to decide on
 * its slots.  All but the last need the BQL; _commit, _settle and _lookup are
 * called with the slots lock held.  @settle is to call kvm_coalesce_settle() for
 * the listener that it is given.
 */
void kvm_coalesce_register(KVMState *s, KVMMemoryListener *kml,
                           hwaddr max_slot_size, QEMUTimerCB *settle);
void kvm_coalesce_add(KVMMemoryListener *kml, MemoryRegionSection *section);
void kvm_coalesce_del(KVMMemoryListener *kml, MemoryRegionSection *section);
bool kvm_coalesce_pending(const KVMMemoryListener *kml);
void kvm_coalesce_commit(KVMMemoryListener *kml);
void kvm_coalesce_settle(KVMMemoryListener *kml);
KVMSlot *kvm_coalesce_lookup(KVMMemoryListener *kml, hwaddr start_addr,
                             hwaddr size, hwaddr *slot_size);
void kvm_count_slot_ioctl(KVMState *s, uint64_t memory_size);

/* Of kvm-all.c.  Those with a listener are called with the slots lock held. */
hwaddr kvm_align_section(MemoryRegionSection *section, hwaddr *start);
KVMSlot *kvm_numbered_slot(KVMMemoryListener *kml, unsigned int number);
int kvm_slot_update_flags(KVMMemoryListener *kml, KVMSlot *mem,
                          MemoryRegion *mr);
void kvm_delete_slot(KVMMemoryListener *kml, KVMSlot *mem);
void kvm_create_slot(KVMMemoryListener *kml, KVMSlot *mem, MemoryRegion *mr,
                     hwaddr mr_offset, hwaddr start_addr, hwaddr size);

#endif
