/*
 * KVM on x86: retention of second-level page tables (TDP roots)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_KVM_TDP_ROOT_RETENTION_H
#define TARGET_I386_KVM_TDP_ROOT_RETENTION_H

#include "qapi/qapi-types-common.h"
#include "qapi/qapi-types-kvm-root-retention.h"
#include "qemu/notify.h"

struct KVMState;

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

/* The unit of args[2], in bytes */
#define KVM_ROOT_PAGE_SIZE              4096

/* The properties of -accel kvm */
typedef struct KVMRootRequest {
    KvmRootRetention retention;
    uint64_t quota;             /* bytes, 0: not given */
    KvmSlotZap slot_zap;
    OnOffAuto reset_elision;
} KVMRootRequest;

/* What the host kernel can give to this VM */
typedef struct KVMRootOffer {
    uint32_t capability;        /* KVM_CHECK_EXTENSION's answer, 0 if none */
    bool slot_quirk;            /* KVM_X86_QUIRK_SLOT_ZAP_ALL can be disabled */
    bool slot_quirk_disabled;   /* it was, and can't be enabled again */
    const char *kernel;         /* its release, for error messages */
} KVMRootOffer;

typedef struct KVMRootEffect {
    KvmRootPolicy policy;
    uint64_t quota_pages;       /* 0 unless the policy is quota */
    KvmSlotZapScope slot_zap;
    bool reset_elision;
} KVMRootEffect;

/* All of it under the BQL */
typedef struct KVMRootRetention {
    KVMRootRequest request;
    KVMRootOffer offer;
    KVMRootEffect effect;
    bool told;                  /* KVM, of something that is not its default */
    bool vfio;                  /* the VM has, or has had, a VFIO device */
    NotifierWithReturn vfio_added;
} KVMRootRetention;

/* tdp-root-policy.c, which touches no KVM */

bool kvm_root_offers_policy(const KVMRootOffer *offer, KvmRootPolicy policy);
bool kvm_root_offers_flag(const KVMRootOffer *offer, uint32_t flag);
bool kvm_root_offers_slot_zap(const KVMRootOffer *offer);

/* Is @quota, in bytes, in the range of root-quota?  Else sets @errp. */
bool kvm_root_quota_valid(uint64_t quota, Error **errp);

/**
 * kvm_root_decide: what takes effect
 * @request: what was asked for
 * @offer: what the host kernel can give
 * @vfio: the VM has, or has had, a VFIO device
 * @effect: filled in on success, else untouched
 * @errp: set if a value that was asked for by name can't be given, or if the
 *        values contradict each other
 *
 * Values of auto never fail.
 *
 * Returns: true on success
 */
bool kvm_root_decide(const KVMRootRequest *request, const KVMRootOffer *offer,
                     bool vfio, KVMRootEffect *effect, Error **errp);

/**
 * kvm_root_cap_args: the arguments of KVM_ENABLE_CAP
 * @effect: set by kvm_root_decide()
 * @args: set to args[0] to args[2]
 *
 * Returns: false if the kernel does the same by default
 */
bool kvm_root_cap_args(const KVMRootEffect *effect, uint64_t args[3]);

/* tdp-root-retention.c */

/* Add the properties to the accelerator's class */
void kvm_root_retention_class_init(ObjectClass *oc);

/*
 * Look what the host offers, and put what was asked for into effect.  The VM
 * must exist, vCPUs and memory need not.
 *
 * Returns: 0; -ENOTSUP, reported, if the host can't give what was asked for
 */
int kvm_root_retention_init(struct KVMState *s);

/*
 * The VM's, with the BQL held and after the machine was created; NULL, with
 * @errp set, if it does not run on KVM.
 */
const KVMRootRetention *kvm_root_retention_get(Error **errp);

/*
 * Change what is asked for and put it into effect, all or nothing.  With the
 * BQL held, after the machine was created; vCPUs may be running.
 *
 * Returns: true on success
 */
bool kvm_root_retention_set(const KVMRootRequest *request, Error **errp);

#endif
