/*
 * KVM state coalescing on x86
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_KVM_STATE_COALESCE_H
#define TARGET_I386_KVM_STATE_COALESCE_H

#include "cpu.h"

/* Before there are vCPUs; without @enabled ioctls are counted alone. */
void kvm_state_coalescing_init(struct KVMState *s, bool enabled);

/* Once the size of its XSAVE buffer is known, and before its state is set */
void kvm_state_coalescing_init_vcpu(X86CPU *cpu);
void kvm_state_coalescing_destroy_vcpu(X86CPU *cpu);

/* Send the next write of each kind of state, whatever KVM may hold. */
void kvm_state_coalescing_forget(X86CPU *cpu);

#endif
