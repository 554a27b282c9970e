/*
 * KVM: retention of second-level page tables (TDP roots)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_KVM_ROOT_RETENTION_H
#define SYSTEM_KVM_ROOT_RETENTION_H

#include "qapi/qapi-types-common.h"
#include "qapi/qapi-types-kvm-root-retention.h"

/*
 * The capability's ABI.  Upstream's kernel headers don't have it, so it
 * stands here until they do.
 *
 * KVM_CHECK_EXTENSION on the VM returns BIT(policy) of each policy offered,
 * and the flags offered from KVM_X86_TDP_ROOT_FLAGS_SHIFT up; 0 if the TDP
 * MMU is off.  KVM_ENABLE_CAP takes the policy in args[0], the flags in
 * args[1]; args[2] and args[3] are 0.
 */
#ifndef KVM_CAP_X86_TDP_ROOT_RETENTION
#define KVM_CAP_X86_TDP_ROOT_RETENTION  20549

#define KVM_X86_TDP_ROOT_DEFAULT        0
#define KVM_X86_TDP_ROOT_DROP           1
#define KVM_X86_TDP_ROOT_KEEP           2

#define KVM_X86_TDP_ROOT_ELIDE          (1 << 0)
#endif

#define KVM_X86_TDP_ROOT_FLAGS_SHIFT    16

struct KVMState;

/* What was asked for: the properties of -accel kvm */
typedef struct KVMRootRequest {
    KvmRootRetention retention;
    OnOffAuto reset_elision;
    KvmSlotZap slot_zap;
    OnOffAuto slot_coalescing;
    OnOffAuto state_coalescing;
} KVMRootRequest;

/* With fewer slots than this, slot-coalescing=auto leaves them to the VM. */
#define KVM_SLOT_COALESCING_MIN_SLOTS   256

/* What the host kernel can give to this VM */
typedef struct KVMRootOffer {
    uint32_t capability;        /* KVM_CHECK_EXTENSION's answer, 0 if none */
    bool slot_zap;              /* KVM_X86_QUIRK_SLOT_ZAP_ALL can be disabled */
    unsigned int slots;         /* memory slots per address space */
    bool confidential;          /* a confidential guest */
    const char *kernel;         /* its release, for error messages */
} KVMRootOffer;

/*
 * What is in effect.  @slot_zap stays KVM_SLOT_ZAP_AUTO where it depends on
 * the VM's devices: see kvm_root_policy_slot_zap().
 */
typedef struct KVMRootEffect {
    KvmRootRetention retention;
    bool reset_elision;
    KvmSlotZap slot_zap;
    bool slot_coalescing;
    bool state_coalescing;
} KVMRootEffect;

/**
 * kvm_root_policy_resolve: decide what takes effect
 * @request: what was asked for
 * @offer: what the host kernel can give
 * @effect: filled in on success, else untouched
 * @errp: set if a value that was asked for by name can't be given
 *
 * Values of auto never fail.
 *
 * Returns: true on success
 */
bool kvm_root_policy_resolve(const KVMRootRequest *request,
                             const KVMRootOffer *offer,
                             KVMRootEffect *effect, Error **errp);

/**
 * kvm_root_policy_slot_zap: decide slot-zap=auto once the devices are known
 * @effect: the outcome of kvm_root_policy_resolve()
 * @vfio_present: the VM has a VFIO device
 * @vfio_pluggable: the VM may get one later
 *
 * KVM can't go back to zapping all once it was told not to, so that a device
 * which may come later counts as much as one that is there.
 *
 * Returns: KVM_SLOT_ZAP_ALL or KVM_SLOT_ZAP_SLOT
 */
KvmSlotZap kvm_root_policy_slot_zap(const KVMRootEffect *effect,
                                    bool vfio_present, bool vfio_pluggable);

/**
 * kvm_root_policy_cap_args: the arguments of KVM_ENABLE_CAP
 * @effect: the outcome of kvm_root_policy_resolve()
 * @policy: set to args[0]
 * @flags: set to args[1]
 *
 * Returns: false if there is nothing to enable, as the kernel does the same
 * by default
 */
bool kvm_root_policy_cap_args(const KVMRootEffect *effect,
                              uint64_t *policy, uint64_t *flags);

/* Add the properties to the accelerator's class */
void kvm_root_retention_class_init(ObjectClass *oc);

/*
 * Put the properties of @s into effect.  The VM must exist, vCPUs need not.
 * Reports its own errors.
 *
 * Returns: 0 on success, negative errno on failure
 */
int kvm_arch_root_retention_init(struct KVMState *s);

#endif
