/*
 * KVM root retention: what is asked for, against what the host offers
 *
 * Nothing here touches KVM, so that a unit test can hold all of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "tdp-root-retention.h"

#define CAP_NAME "KVM_CAP_X86_TDP_ROOT_RETENTION"

/* A policy has the number that it has in the kernel. */
QEMU_BUILD_BUG_ON(KVM_ROOT_POLICY_DEFAULT != KVM_X86_TDP_ROOT_DEFAULT);
QEMU_BUILD_BUG_ON(KVM_ROOT_POLICY_DROP != KVM_X86_TDP_ROOT_DROP);
QEMU_BUILD_BUG_ON(KVM_ROOT_POLICY_KEEP != KVM_X86_TDP_ROOT_KEEP);
QEMU_BUILD_BUG_ON(KVM_ROOT_POLICY_QUOTA != KVM_X86_TDP_ROOT_QUOTA);

bool kvm_root_offers_policy(const KVMRootOffer *offer, KvmRootPolicy policy)
{
    /* Without the capability the kernel does "default", and only that. */
    return policy == KVM_ROOT_POLICY_DEFAULT ||
           (offer->capability & (1u << policy));
}

bool kvm_root_offers_flag(const KVMRootOffer *offer, uint32_t flag)
{
    return offer->capability & (flag << KVM_X86_TDP_ROOT_FLAGS_SHIFT);
}

/* The quirk is for kernels without the capability. */
bool kvm_root_offers_slot_zap(const KVMRootOffer *offer)
{
    return offer->capability ?
        kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_SLOT) : offer->slot_quirk;
}

/* Does KVM hold on to roots that it was not told to let go? */
static bool retains(const KVMRootEffect *effect)
{
    return effect->policy == KVM_ROOT_POLICY_KEEP ||
           effect->policy == KVM_ROOT_POLICY_QUOTA;
}

static void hint_capability(const KVMRootOffer *offer, Error *const *errp)
{
    if (!offer->capability) {
        error_append_hint(errp, "The capability takes a kernel that has the "
                          "TDP root retention patches, and a KVM whose TDP MMU "
                          "is on (module parameters tdp_mmu, and ept or npt)."
                          "\n");
    }
}

bool kvm_root_quota_valid(uint64_t quota, Error **errp)
{
    /* A negative number from QMP looks like a very large one. */
    if (!quota || quota > INT64_MAX) {
        error_setg(errp, "Parameter 'root-quota' expects a size of at least "
                   "1 byte and less than 8 EiB");
        return false;
    }
    return true;
}

static bool decide_policy(const KVMRootRequest *request,
                          const KVMRootOffer *offer, KVMRootEffect *effect,
                          Error **errp)
{
    ERRP_GUARD();
    const char *name = KvmRootRetention_str(request->retention);
    int policy;

    if (request->retention == KVM_ROOT_RETENTION_QUOTA) {
        if (!request->quota) {
            error_setg(errp, "root-retention=quota needs root-quota=SIZE");
            error_append_hint(errp, "SIZE is what the page tables that no vCPU "
                              "uses may hold, at least 1 byte, "
                              "for instance root-quota=64M.\n");
            return false;
        }
    } else if (request->quota) {
        error_setg(errp, "root-quota is for root-retention=quota, not for "
                   "root-retention=%s", name);
        return false;
    }
    /* Rounded up, for a quota of 0 pages would be another policy. */
    effect->quota_pages = DIV_ROUND_UP(request->quota, KVM_ROOT_PAGE_SIZE);

    if (request->retention == KVM_ROOT_RETENTION_AUTO) {
        effect->policy = kvm_root_offers_policy(offer, KVM_ROOT_POLICY_KEEP) ?
            KVM_ROOT_POLICY_KEEP : KVM_ROOT_POLICY_DEFAULT;
        return true;
    }

    policy = qapi_enum_parse(&KvmRootPolicy_lookup, name, -1, &error_abort);
    if (!kvm_root_offers_policy(offer, policy)) {
        error_setg(errp, "root-retention=%s needs %s%s, which host kernel %s "
                   "does not offer", name,
                   offer->capability ? "that policy in " : "", CAP_NAME,
                   offer->kernel);
        hint_capability(offer, errp);
        error_append_hint(errp, "This host takes root-retention=auto");
        for (int i = 0; i < KVM_ROOT_POLICY__MAX; i++) {
            if (kvm_root_offers_policy(offer, i)) {
                error_append_hint(errp, "|%s", KvmRootPolicy_str(i));
            }
        }
        error_append_hint(errp, ".\n");
        return false;
    }

    effect->policy = policy;
    return true;
}

/*
 * auto is on if roots are retained: with "drop" the root of another mode is
 * gone when it is needed again, and "default" is to change nothing.
 */
static bool decide_reset_elision(const KVMRootRequest *request,
                                 const KVMRootOffer *offer,
                                 KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();
    bool offered = kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_ELIDE);

    if (request->reset_elision == ON_OFF_AUTO_ON && !offered) {
        error_setg(errp, "x-reset-elision=on needs %s%s, which host kernel %s "
                   "does not offer",
                   offer->capability ? "KVM_X86_TDP_ROOT_ELIDE in " : "",
                   CAP_NAME, offer->kernel);
        hint_capability(offer, errp);
        error_append_hint(errp, "This host takes x-reset-elision=auto|off.\n");
        return false;
    }

    effect->reset_elision = request->reset_elision == ON_OFF_AUTO_AUTO ?
        offered && retains(effect) :
        request->reset_elision == ON_OFF_AUTO_ON;
    return true;
}

static bool decide_slot_zap(const KVMRootRequest *request,
                            const KVMRootOffer *offer, bool vfio,
                            KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();
    bool slot = request->slot_zap == KVM_SLOT_ZAP_SLOT;

    if (offer->slot_quirk_disabled) {
        if (request->slot_zap == KVM_SLOT_ZAP_ALL) {
            error_setg(errp, "slot-zap=all: slot-zap=slot is in effect through "
                       "KVM_CAP_DISABLE_QUIRKS2, and host kernel %s can't be "
                       "told to go back", offer->kernel);
            error_append_hint(errp, "Until the VM ends it takes "
                              "slot-zap=auto|slot.\n");
            return false;
        }
        slot = true;
    } else if (slot && !kvm_root_offers_slot_zap(offer)) {
        error_setg(errp, "slot-zap=slot needs KVM_X86_TDP_ROOT_SLOT in "
                   CAP_NAME " or KVM_X86_QUIRK_SLOT_ZAP_ALL in "
                   "KVM_CAP_DISABLE_QUIRKS2, and host kernel %s "
                   "offers neither", offer->kernel);
        error_append_hint(errp, "Linux 6.12 and later offer the latter.\n"
                          "This host takes slot-zap=auto|all.\n");
        return false;
    } else if (request->slot_zap == KVM_SLOT_ZAP_AUTO) {
        slot = retains(effect) && kvm_root_offers_slot_zap(offer) && !vfio;
    }

    effect->slot_zap = slot ? KVM_SLOT_ZAP_SCOPE_SLOT : KVM_SLOT_ZAP_SCOPE_ALL;
    return true;
}

bool kvm_root_decide(const KVMRootRequest *request, const KVMRootOffer *offer,
                     bool vfio, KVMRootEffect *effect, Error **errp)
{
    KVMRootEffect result = {};

    /* What auto means for the others follows from the first. */
    if (!decide_policy(request, offer, &result, errp) ||
        !decide_reset_elision(request, offer, &result, errp) ||
        !decide_slot_zap(request, offer, vfio, &result, errp)) {
        return false;
    }

    *effect = result;
    return true;
}

bool kvm_root_cap_args(const KVMRootEffect *effect, uint64_t args[3])
{
    args[0] = effect->policy;
    args[1] = (effect->reset_elision ? KVM_X86_TDP_ROOT_ELIDE : 0) |
              (effect->slot_zap == KVM_SLOT_ZAP_SCOPE_SLOT ?
               KVM_X86_TDP_ROOT_SLOT : 0);
    args[2] = effect->quota_pages;

    return args[0] || args[1];
}
