/*
 * KVM root retention on x86: QMP and HMP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-kvm-root-retention.h"
#include "qemu/cutils.h"
#include "monitor/hmp.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "tdp-root-retention.h"

static KvmRootRetentionSetting *requested(const KVMRootRequest *request)
{
    KvmRootRetentionSetting *setting = g_new0(KvmRootRetentionSetting, 1);

    setting->root_retention = request->retention;
    setting->has_slot_zap = true;
    setting->slot_zap = request->slot_zap;
    if (request->retention == KVM_ROOT_RETENTION_QUOTA) {
        setting->u.quota.root_quota = request->quota;
    }
    return setting;
}

static KvmRootRetentionEffect *effective(const KVMRootEffect *effect)
{
    KvmRootRetentionEffect *e = g_new0(KvmRootRetentionEffect, 1);

    e->policy = effect->policy;
    e->slot_zap = effect->slot_zap;
    e->reset_elision = effect->reset_elision;
    if (effect->policy == KVM_ROOT_POLICY_QUOTA) {
        e->u.quota.root_quota = effect->quota_pages * KVM_ROOT_PAGE_SIZE;
    }
    return e;
}

static KvmRootRetentionHost *host(const KVMRootOffer *offer)
{
    KvmRootRetentionHost *h = g_new0(KvmRootRetentionHost, 1);
    KvmRootPolicyList **policies = &h->policies;
    KvmSlotZapScopeList **scopes = &h->slot_zap;

    for (int i = 0; i < KVM_ROOT_POLICY__MAX; i++) {
        if (kvm_root_offers_policy(offer, i)) {
            QAPI_LIST_APPEND(policies, i);
        }
    }
    if (!offer->slot_quirk_disabled) {
        QAPI_LIST_APPEND(scopes, KVM_SLOT_ZAP_SCOPE_ALL);
    }
    if (kvm_root_offers_slot_zap(offer)) {
        QAPI_LIST_APPEND(scopes, KVM_SLOT_ZAP_SCOPE_SLOT);
    }
    h->slot_zap_revocable = kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_SLOT);
    h->reset_elision = kvm_root_offers_flag(offer, KVM_X86_TDP_ROOT_ELIDE);
    return h;
}

KvmRootRetentionInfo *qmp_query_kvm_root_retention(Error **errp)
{
    const KVMRootRetention *r = kvm_root_retention_get(errp);
    KvmRootRetentionInfo *info;

    if (!r) {
        return NULL;
    }
    info = g_new0(KvmRootRetentionInfo, 1);
    info->requested = requested(&r->request);
    info->effective = effective(&r->effect);
    info->host = host(&r->offer);
    return info;
}

void qmp_set_kvm_root_retention(KvmRootRetentionSetting *setting, Error **errp)
{
    const KVMRootRetention *r = kvm_root_retention_get(errp);
    KVMRootRequest request;

    if (!r) {
        return;
    }
    request = r->request;
    request.retention = setting->root_retention;
    request.quota = 0;
    if (setting->root_retention == KVM_ROOT_RETENTION_QUOTA) {
        request.quota = setting->u.quota.root_quota;
        if (!kvm_root_quota_valid(request.quota, errp)) {
            return;
        }
    }
    if (setting->has_slot_zap) {
        request.slot_zap = setting->slot_zap;
    }
    kvm_root_retention_set(&request, errp);
}

static char *quota_str(bool present, uint64_t quota)
{
    return present ? size_to_str(quota) : g_strdup("-");
}

void hmp_info_kvm_roots(Monitor *mon, const QDict *qdict)
{
    g_autoptr(KvmRootRetentionInfo) info = NULL;
    g_autofree char *asked_quota = NULL, *given_quota = NULL;
    KvmRootRetentionSetting *asked;
    KvmRootRetentionEffect *given;
    Error *err = NULL;

    info = qmp_query_kvm_root_retention(&err);
    if (hmp_handle_error(mon, err)) {
        return;
    }

    asked = info->requested;
    given = info->effective;
    asked_quota = quota_str(asked->root_retention == KVM_ROOT_RETENTION_QUOTA,
                            asked->u.quota.root_quota);
    given_quota = quota_str(given->policy == KVM_ROOT_POLICY_QUOTA,
                            given->u.quota.root_quota);
    monitor_printf(mon, "%-18s%-12s%s\n", "", "asked for", "in effect");
    monitor_printf(mon, "%-18s%-12s%s\n", "root-retention",
                   KvmRootRetention_str(asked->root_retention),
                   KvmRootPolicy_str(given->policy));
    monitor_printf(mon, "%-18s%-12s%s\n", "root-quota", asked_quota,
                   given_quota);
    monitor_printf(mon, "%-18s%-12s%s\n", "slot-zap",
                   KvmSlotZap_str(asked->slot_zap),
                   KvmSlotZapScope_str(given->slot_zap));
    monitor_printf(mon, "%-18s%-12s%s\n", "reset-elision", "",
                   given->reset_elision ? "on" : "off");

    monitor_printf(mon, "the host offers   ");
    for (KvmRootPolicyList *p = info->host->policies; p; p = p->next) {
        monitor_printf(mon, "%s%s", KvmRootPolicy_str(p->value),
                       p->next ? "|" : "\n");
    }
}
