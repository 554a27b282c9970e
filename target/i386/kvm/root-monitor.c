/*
 * KVM root retention on x86: QMP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-kvm-root-retention.h"
#include "system/kvm-root-retention.h"

static OnOffAuto on_off(bool on)
{
    return on ? ON_OFF_AUTO_ON : ON_OFF_AUTO_OFF;
}

static KvmRootRetentionConfig *requested_config(const KVMRootRequest *request)
{
    KvmRootRetentionConfig *config = g_new0(KvmRootRetentionConfig, 1);

    config->root_retention = request->retention;
    config->has_root_quota = request->quota;
    config->root_quota = request->quota;
    config->reset_elision = request->reset_elision;
    config->slot_zap = request->slot_zap;
    config->root_reclaim = request->reclaim;
    config->slot_coalescing = request->slot_coalescing;
    return config;
}

static KvmRootRetentionConfig *effective_config(const KVMRootEffect *effect)
{
    KvmRootRetentionConfig *config = g_new0(KvmRootRetentionConfig, 1);

    config->root_retention = effect->retention;
    config->has_root_quota = effect->quota_pages;
    config->root_quota = effect->quota_pages * KVM_ROOT_PAGE_SIZE;
    config->reset_elision = on_off(effect->reset_elision);
    config->slot_zap = effect->slot_zap;
    config->root_reclaim = on_off(effect->reclaim);
    config->slot_coalescing = on_off(effect->slot_coalescing);
    return config;
}

static KvmRootRetentionHost *host_offer(const KVMRootOffer *offer)
{
    KvmRootRetentionHost *host = g_new0(KvmRootRetentionHost, 1);
    KvmRootRetentionList **tail = &host->root_retention;

    host->kernel = g_strdup(offer->kernel);
    for (int i = KVM_ROOT_RETENTION_DEFAULT; i < KVM_ROOT_RETENTION__MAX; i++) {
        if (kvm_root_offers_policy(offer, i)) {
            QAPI_LIST_APPEND(tail, i);
        }
    }
    host->reset_elision = kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_ELIDE);
    host->slot_zap = kvm_root_offers_slot_zap(offer);
    host->slot_zap_revocable =
        kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_SLOT);
    host->root_reclaim = kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_RECLAIM);
    return host;
}

KvmRootRetentionInfo *qmp_query_kvm_root_retention(Error **errp)
{
    KvmRootRetentionInfo *info;
    KVMRootState state;

    if (!kvm_arch_root_retention_get(&state, errp)) {
        return NULL;
    }

    info = g_new0(KvmRootRetentionInfo, 1);
    info->requested = requested_config(state.request);
    info->effective = effective_config(state.effect);
    info->host = host_offer(state.offer);
    return info;
}

void qmp_set_kvm_root_retention(KvmRootRetentionChange *change, Error **errp)
{
    kvm_arch_root_retention_set(change, errp);
}
