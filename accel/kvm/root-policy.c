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
    default:
        /* auto is resolved before anybody asks for its number */
        g_assert_not_reached();
    }
}

static bool offers_policy(const KVMRootOffer *offer, KvmRootRetention retention)
{
    /* Without the capability the kernel does "default", and only that. */
    return retention == KVM_ROOT_RETENTION_DEFAULT ||
           (offer->capability & (1u << root_policy_number(retention)));
}

static bool offers_elision(const KVMRootOffer *offer)
{
    return offer->capability &
           (KVM_X86_TDP_ROOT_ELIDE << KVM_X86_TDP_ROOT_FLAGS_SHIFT);
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

static bool resolve_retention(const KVMRootRequest *request,
                              const KVMRootOffer *offer,
                              KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();

    if (request->retention == KVM_ROOT_RETENTION_AUTO) {
        effect->retention = offers_policy(offer, KVM_ROOT_RETENTION_KEEP) ?
            KVM_ROOT_RETENTION_KEEP : KVM_ROOT_RETENTION_DEFAULT;
        return true;
    }

    if (!offers_policy(offer, request->retention)) {
        error_setg(errp, "root-retention=%s needs %s%s, which host kernel %s "
                   "does not offer",
                   KvmRootRetention_str(request->retention),
                   offer->capability ? "that policy in " : "", CAP_NAME,
                   offer->kernel);
        hint_capability(offer, errp);
        error_append_hint(errp, "This host takes root-retention=auto");
        for (int i = KVM_ROOT_RETENTION_DEFAULT;
             i < KVM_ROOT_RETENTION__MAX; i++) {
            if (offers_policy(offer, i)) {
                error_append_hint(errp, "|%s", KvmRootRetention_str(i));
            }
        }
        error_append_hint(errp, ".\n");
        return false;
    }

    effect->retention = request->retention;
    return true;
}

static bool resolve_elision(const KVMRootRequest *request,
                            const KVMRootOffer *offer,
                            KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();

    switch (request->reset_elision) {
    case ON_OFF_AUTO_AUTO:
        /*
         * An elided switch leaves the other root cached, which is what "drop"
         * was chosen to avoid, and "default" is to change nothing.
         */
        effect->reset_elision = offers_elision(offer) &&
            effect->retention == KVM_ROOT_RETENTION_KEEP;
        return true;
    case ON_OFF_AUTO_OFF:
        effect->reset_elision = false;
        return true;
    default:
        break;
    }

    if (!offers_elision(offer)) {
        error_setg(errp, "reset-elision=on needs %s%s, which host kernel %s "
                   "does not offer",
                   offer->capability ? "KVM_X86_TDP_ROOT_ELIDE in " : "",
                   CAP_NAME, offer->kernel);
        hint_capability(offer, errp);
        error_append_hint(errp, "This host takes reset-elision=auto|off.\n");
        return false;
    }

    effect->reset_elision = true;
    return true;
}

static bool resolve_slot_zap(const KVMRootRequest *request,
                             const KVMRootOffer *offer,
                             KVMRootEffect *effect, Error **errp)
{
    ERRP_GUARD();

    if (request->slot_zap == KVM_SLOT_ZAP_AUTO) {
        effect->slot_zap = offer->slot_zap &&
            effect->retention == KVM_ROOT_RETENTION_KEEP ?
            KVM_SLOT_ZAP_AUTO : KVM_SLOT_ZAP_ALL;
        return true;
    }

    if (request->slot_zap == KVM_SLOT_ZAP_SLOT && !offer->slot_zap) {
        error_setg(errp, "slot-zap=slot needs KVM_X86_QUIRK_SLOT_ZAP_ALL in "
                   "KVM_CAP_DISABLE_QUIRKS2, which host kernel %s does not "
                   "offer", offer->kernel);
        error_append_hint(errp, "Linux 6.12 and later offer it.\n"
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
    KVMRootEffect result;

    /* What auto means for the next two follows from the first. */
    if (!resolve_retention(request, offer, &result, errp) ||
        !resolve_elision(request, offer, &result, errp) ||
        !resolve_slot_zap(request, offer, &result, errp) ||
        !resolve_state_coalescing(request, offer, &result, errp)) {
        return false;
    }
    resolve_slot_coalescing(request, offer, &result);

    *effect = result;
    return true;
}

KvmSlotZap kvm_root_policy_slot_zap(const KVMRootEffect *effect,
                                    bool vfio_present, bool vfio_pluggable)
{
    if (effect->slot_zap != KVM_SLOT_ZAP_AUTO) {
        return effect->slot_zap;
    }

    return vfio_present || vfio_pluggable ?
        KVM_SLOT_ZAP_ALL : KVM_SLOT_ZAP_SLOT;
}

bool kvm_root_policy_cap_args(const KVMRootEffect *effect,
                              uint64_t *policy, uint64_t *flags)
{
    *policy = root_policy_number(effect->retention);
    *flags = effect->reset_elision ? KVM_X86_TDP_ROOT_ELIDE : 0;

    return *policy != KVM_X86_TDP_ROOT_DEFAULT || *flags;
}
