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
 * args[1], the quota in 4 KiB pages in args[2] if the policy is
 * KVM_X86_TDP_ROOT_QUOTA, else 0; args[3] is 0.  It may be called at any
 * time, and either sets all of it or changes nothing.
 */
#ifndef KVM_CAP_X86_TDP_ROOT_RETENTION
#define KVM_CAP_X86_TDP_ROOT_RETENTION  20549

#define KVM_X86_TDP_ROOT_DEFAULT        0
#define KVM_X86_TDP_ROOT_DROP           1
#define KVM_X86_TDP_ROOT_KEEP           2
#define KVM_X86_TDP_ROOT_QUOTA          3

#define KVM_X86_TDP_ROOT_ELIDE          (1 << 0)
#define KVM_X86_TDP_ROOT_SLOT           (1 << 1)
#endif

#define KVM_X86_TDP_ROOT_FLAGS_SHIFT    16

/* The unit of args[2] and of the kernel's statistics about pages, in bytes */
#define KVM_ROOT_PAGE_SIZE              4096

struct KVMState;

/* What was asked for: the properties of -accel kvm */
typedef struct KVMRootRequest {
    KvmRootRetention retention;
    OnOffAuto reset_elision;
    KvmSlotZap slot_zap;
    uint64_t quota;             /* bytes, 0: not given */
    OnOffAuto slot_coalescing;
    OnOffAuto state_coalescing;
} KVMRootRequest;

/* With fewer slots than this, slot-coalescing=auto leaves them to the VM. */
#define KVM_SLOT_COALESCING_MIN_SLOTS   256

/* What the host kernel can give to this VM */
typedef struct KVMRootOffer {
    uint32_t capability;        /* KVM_CHECK_EXTENSION's answer, 0 if none */
    bool slot_quirk;            /* KVM_X86_QUIRK_SLOT_ZAP_ALL can be disabled */
    bool slot_quirk_disabled;   /* it was, and can't be enabled again */
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
    bool slot_flag;             /* slot-zap=slot is a flag, not the quirk */
    uint64_t quota_pages;       /* 0 unless the policy is quota */
    bool slot_coalescing;
    bool state_coalescing;
} KVMRootEffect;

/* Does the host kernel offer a policy (never auto), or a flag? */
bool kvm_root_offers_policy(const KVMRootOffer *offer,
                            KvmRootRetention retention);
bool kvm_root_offers_flag(const KVMRootOffer *offer, uint32_t flag);
/* ... or slot-zap=slot, by flag or by quirk? */
bool kvm_root_offers_slot_zap(const KVMRootOffer *offer);

/* Is @quota, in bytes, in the range of root-quota?  Else sets @errp. */
bool kvm_root_quota_valid(uint64_t quota, Error **errp);

/**
 * kvm_root_policy_resolve: decide what takes effect
 * @request: what was asked for
 * @offer: what the host kernel can give
 * @effect: filled in on success, else untouched
 * @errp: set if a value that was asked for by name can't be given, or if the
 *        values contradict each other
 *
 * Values of auto never fail.
 *
 * Returns: true on success
 */
bool kvm_root_policy_resolve(const KVMRootRequest *request,
                             const KVMRootOffer *offer,
                             KVMRootEffect *effect, Error **errp);

/**
 * kvm_root_policy_change: what is asked for after a change
 * @request: what was asked for before
 * @change: members that are absent leave theirs as it was, but a quota is
 *          forgotten with the policy that it was for
 * @result: filled in on success, else untouched; may be @request
 * @errp: set if a value is out of range
 *
 * Whether the values fit together is up to kvm_root_policy_resolve().
 *
 * Returns: true on success
 */
bool kvm_root_policy_change(const KVMRootRequest *request,
                            const KvmRootRetentionChange *change,
                            KVMRootRequest *result, Error **errp);

/**
 * kvm_root_policy_slot_zap: decide slot-zap=auto once the devices are known
 * @effect: the outcome of kvm_root_policy_resolve()
 * @vfio_present: the VM has a VFIO device, or is about to get one
 * @vfio_pluggable: the VM may get one later
 *
 * With the quirk KVM can't go back to zapping all, so that a device which may
 * come later counts as much as one that is there.
 *
 * Returns: KVM_SLOT_ZAP_ALL or KVM_SLOT_ZAP_SLOT
 */
KvmSlotZap kvm_root_policy_slot_zap(const KVMRootEffect *effect,
                                    bool vfio_present, bool vfio_pluggable);

/**
 * kvm_root_policy_cap_args: the arguments of KVM_ENABLE_CAP
 * @effect: the outcome of kvm_root_policy_resolve(); the flag for
 *          slot-zap=slot is not set while that is auto
 * @args: set to args[0] to args[2]
 *
 * Returns: false if there is nothing to enable, as the kernel does the same
 * by default
 */
bool kvm_root_policy_cap_args(const KVMRootEffect *effect, uint64_t args[3]);

/* Add the properties to the accelerator's class */
void kvm_root_retention_class_init(ObjectClass *oc);

/*
 * Put the properties of @s into effect.  The VM must exist, vCPUs need not.
 * Reports its own errors.
 *
 * Returns: 0 on success, negative errno on failure
 */
int kvm_arch_root_retention_init(struct KVMState *s);

/* What was asked for, what is in effect, and what the host offers */
typedef struct KVMRootState {
    const KVMRootRequest *request;
    const KVMRootEffect *effect;
    const KVMRootOffer *offer;
} KVMRootState;

/*
 * With the BQL held, after the machine was created.  Returns false, with @errp
 * set, if the VM does not run on KVM.
 */
bool kvm_arch_root_retention_get(KVMRootState *state, Error **errp);

/*
 * Change what is asked for and put it into effect, all or nothing.  With the
 * BQL held, after the machine was created; vCPUs may be running.  Page tables
 * that lose the right to stay may go a moment later.
 *
 * Returns: true on success
 */
bool kvm_arch_root_retention_set(const KvmRootRetentionChange *change,
                                 Error **errp);

/*
 * Watch what a quota of @pages of 4 KiB evicts, and tell it in events; 0 ends
 * that.  With the BQL held; before a quota takes effect that is smaller than
 * what was in effect, so that no eviction is missed, and after a larger one.
 * Again does no harm.
 */
void kvm_root_quota_watch(uint64_t pages);

#endif
