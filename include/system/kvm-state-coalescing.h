/*
 * KVM state coalescing: fewer reads and writes of vCPU state
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_KVM_STATE_COALESCING_H
#define SYSTEM_KVM_STATE_COALESCING_H

#include "qemu/stats64.h"

struct KVMState;

/* In KVMState */
typedef struct KVMStateCoalescing {
    bool enabled;
    bool verify;                /* the property x-state-verify */
    /* Does all ioctls of vCPUs; NULL: kvm_vcpu_ioctl_now() */
    int (*vcpu_ioctl)(CPUState *cpu, unsigned long type, void *arg);
    /* Of all vCPUs, ioctls; of KVM_{GET,SET}_MSRS, values that were left out */
    Stat64 writes_sent, writes_saved, reads_sent, reads_saved, msrs_saved;
} KVMStateCoalescing;

/* As kvm_vcpu_ioctl(), but nothing is left out. */
int kvm_vcpu_ioctl_now(CPUState *cpu, unsigned long type, void *arg);

#endif
