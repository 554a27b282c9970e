/*
 * KVM root retention: what is asked for, against what the host offers
 *
 * Nothing here touches KVM, so that a unit test can hold all of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/kvm-root-retention.h"

#define CAP_NAME "KVM_CAP_X86_TDP_ROOT_RETENTION"

static uint32_t root_policy_number(KvmRootRetention retention)
{
    switch (retention) {
    case KVM_ROOT_RETENTION_DEFAULT:
        return KVM_X86_TDP_ROOT_DEFAULT;
    case KVM_ROOT_RETENTION_DROP:
        return KVM_X86_TDP_ROOT_DROP;
    case KVM_ROOT_RETENTION_KEEP:
        return KVM_X86_TDP_ROOT_KEEP;
    case KVM_ROOT_RETENTION_QUOTA:
        return KVM_X86_TDP_ROOT_QUOTA;
    default:
        /* auto is resolved before anybody asks for its number */
        g_assert_not_reached();
    }
}

bool kvm_root_offers_policy(const KVMRootOffer *offer,
                            KvmRootRetention retention)
{
    /* Without the capability the kernel does "default", and only that. */
    return retention == KVM_ROOT_RETENTION_DEFAULT ||
           (offer->capability & (1u << root_policy_number(retention)));
}

bool kvm_root_offers_flag(const KVMRootOffer *offer, uint32_t flag)
{
    return offer->capability & (flag << KVM_X86_TDP_ROOT_FLAGS_SHIFT);
}

bool kvm_root_offers_slot_zap(const KVMRootOffer *offer)
{
    return offer->slot_quirk || offer->slot_quirk_disabled ||
           kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_SLOT);
}

/* Does KVM hold on to roots that it was not told to let go? */
static bool retains(const KVMRootEffect *effect)
{
    return effect->retention == KVM_ROOT_RETENTION_KEEP ||
           effect->retention == KVM_ROOT_RETENTION_QUOTA;
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

/* What can be told without the host; false if the two contradict each other */
static bool check_quota(const KVMRootRequest *request, Error **errp)
{
    ERRP_GUARD();

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
                   "root-retention=%s",
                   KvmRootRetention_str(request->retention));
        return false;
    }
    return true;
}

static bool resolve_retention(const KVMRootRequest *request,
                              const KVMRootOffer *offer,
                              KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();

    /* Rounded up, for a quota of 0 pages would be another policy. */
    effect->quota_pages = DIV_ROUND_UP(request->quota, KVM_ROOT_PAGE_SIZE);

    if (request->retention == KVM_ROOT_RETENTION_AUTO) {
        effect->retention =
            kvm_root_offers_policy(offer, KVM_ROOT_RETENTION_KEEP) ?
            KVM_ROOT_RETENTION_KEEP : KVM_ROOT_RETENTION_DEFAULT;
        return true;
    }

    if (!kvm_root_offers_policy(offer, request->retention)) {
        error_setg(errp, "root-retention=%s needs %s%s, which host kernel %s "
                   "does not offer",
                   KvmRootRetention_str(request->retention),
                   offer->capability ? "that policy in " : "", CAP_NAME,
                   offer->kernel);
        hint_capability(offer, errp);
        error_append_hint(errp, "This host takes root-retention=auto");
        for (int i = KVM_ROOT_RETENTION_DEFAULT;
             i < KVM_ROOT_RETENTION__MAX; i++) {
            if (kvm_root_offers_policy(offer, i)) {
                error_append_hint(errp, "|%s", KvmRootRetention_str(i));
            }
        }
        error_append_hint(errp, ".\n");
        return false;
    }

    effect->retention = request->retention;
    return true;
}

/*
 * auto is on if roots are retained: with "drop" the root of another mode is
 * gone when it is needed again, and "default" is to change nothing.
 */
static bool resolve_reset_elision(const KVMRootRequest *request,
                                  const KVMRootOffer *offer,
                                  KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();
    bool offered = kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_ELIDE);

    if (request->reset_elision == ON_OFF_AUTO_ON && !offered) {
        error_setg(errp, "reset-elision=on needs %s%s, which host kernel %s "
                   "does not offer",
                   offer->capability ? "KVM_X86_TDP_ROOT_ELIDE in " : "",
                   CAP_NAME, offer->kernel);
        hint_capability(offer, errp);
        error_append_hint(errp, "This host takes reset-elision=auto|off.\n");
        return false;
    }

    effect->reset_elision = request->reset_elision == ON_OFF_AUTO_AUTO ?
        offered && retains(effect) :
        request->reset_elision == ON_OFF_AUTO_ON;
    return true;
}

static bool resolve_slot_zap(const KVMRootRequest *request,
                             const KVMRootOffer *offer,
                             KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();

    effect->slot_flag = kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_SLOT);

    if (offer->slot_quirk_disabled) {
        if (request->slot_zap == KVM_SLOT_ZAP_ALL) {
            error_setg(errp, "slot-zap=all: slot-zap=slot is in effect through "
                       "KVM_CAP_DISABLE_QUIRKS2, and host kernel %s can't be "
                       "told to go back", offer->kernel);
            error_append_hint(errp, "Until the VM ends it takes "
                              "slot-zap=auto|slot.\n");
            return false;
        }
        effect->slot_zap = KVM_SLOT_ZAP_SLOT;
        return true;
    }

    if (request->slot_zap == KVM_SLOT_ZAP_AUTO) {
        effect->slot_zap = kvm_root_offers_slot_zap(offer) && retains(effect) ?
            KVM_SLOT_ZAP_AUTO : KVM_SLOT_ZAP_ALL;
        return true;
    }

    if (request->slot_zap == KVM_SLOT_ZAP_SLOT &&
        !kvm_root_offers_slot_zap(offer)) {
        error_setg(errp, "slot-zap=slot needs KVM_X86_TDP_ROOT_SLOT in "
                   CAP_NAME " or KVM_X86_QUIRK_SLOT_ZAP_ALL in "
                   "KVM_CAP_DISABLE_QUIRKS2, and host kernel %s "
                   "offers neither", offer->kernel);
        error_append_hint(errp, "Linux 6.12 and later offer the latter.\n"
                          "This host takes slot-zap=auto|all.\n");
        return false;
    }

    effect->slot_zap = request->slot_zap;
    return true;
}

/* It takes nothing of the host kernel, so that "on" is always granted. */
static void resolve_slot_coalescing(const KVMRootRequest *request,
                                    const KVMRootOffer *offer,
                                    KVMRootEffect *effect)
{
    effect->slot_coalescing = request->slot_coalescing == ON_OFF_AUTO_AUTO ?
        offer->slots >= KVM_SLOT_COALESCING_MIN_SLOTS && !offer->confidential :
        request->slot_coalescing == ON_OFF_AUTO_ON;
}

static bool resolve_state_coalescing(const KVMRootRequest *request,
                                     const KVMRootOffer *offer,
                                     KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();

    if (request->state_coalescing == ON_OFF_AUTO_ON && offer->confidential) {
        error_setg(errp, "state-coalescing=on is not for confidential guests: "
                   "KVM does not tell the state of their vCPUs");
        error_append_hint(errp, "This guest takes state-coalescing=auto|off."
                          "\n");
        return false;
    }

    effect->state_coalescing = !offer->confidential &&
        request->state_coalescing != ON_OFF_AUTO_OFF;
    return true;
}

bool kvm_root_policy_resolve(const KVMRootRequest *request,
                             const KVMRootOffer *offer,
                             KVMRootEffect *effect, Error **errp)
{
    KVMRootEffect result = {};

    /* What auto means for the others follows from the first. */
    if (!check_quota(request, errp) ||
        !resolve_retention(request, offer, &result, errp) ||
        !resolve_reset_elision(request, offer, &result, errp) ||
        !resolve_slot_zap(request, offer, &result, errp) ||
        !resolve_state_coalescing(request, offer, &result, errp)) {
        return false;
    }
    resolve_slot_coalescing(request, offer, &result);

    *effect = result;
    return true;
}

bool kvm_root_policy_change(const KVMRootRequest *request,
                            const KvmRootRetentionChange *change,
                            KVMRootRequest *result, Error **errp)
{
    KVMRootRequest r = *request;

    if (change->has_root_quota &&
        !kvm_root_quota_valid(change->root_quota, errp)) {
        return false;
    }

    if (change->has_root_retention) {
        r.retention = change->root_retention;
        if (r.retention != KVM_ROOT_RETENTION_QUOTA) {
            r.quota = 0;
        }
    }
    if (change->has_root_quota) {
        r.quota = change->root_quota;
    }
    if (change->has_reset_elision) {
        r.reset_elision = change->reset_elision;
    }
    if (change->has_slot_zap) {
        r.slot_zap = change->slot_zap;
    }

    *result = r;
    return true;
}

KvmSlotZap kvm_root_policy_slot_zap(const KVMRootEffect *effect,
                                    bool vfio_present, bool vfio_pluggable)
{
    if (effect->slot_zap != KVM_SLOT_ZAP_AUTO) {
        return effect->slot_zap;
    }

    return vfio_present || (vfio_pluggable && !effect->slot_flag) ?
        KVM_SLOT_ZAP_ALL : KVM_SLOT_ZAP_SLOT;
}

bool kvm_root_policy_cap_args(const KVMRootEffect *effect, uint64_t args[3])
{
    args[0] = root_policy_number(effect->retention);
    args[1] = (effect->reset_elision ? KVM_X86_TDP_ROOT_ELIDE : 0) |
              (effect->slot_flag && effect->slot_zap == KVM_SLOT_ZAP_SLOT ?
               KVM_X86_TDP_ROOT_SLOT : 0);
    args[2] = effect->quota_pages;

    return args[0] != KVM_X86_TDP_ROOT_DEFAULT || args[1];
}
