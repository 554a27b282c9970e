/*
 * KVM root retention on x86: QMP, HMP, and the event about the quota
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-kvm-root-retention.h"
#include "qapi/qapi-commands-stats.h"
#include "qapi/qapi-events-kvm-root-retention.h"
#include "qemu/cutils.h"
#include "qemu/timer.h"
#include "monitor/hmp.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "system/kvm.h"
#include "system/kvm-root-retention.h"
#include "system/kvm-slot-coalescing.h"
#include "trace.h"

/* How often a quota is watched, hence how often there may be an event */
#define QUOTA_WATCH_MS  1000

/* The kernel's statistics of the VM; pages are of 4 KiB */
typedef struct RootStats {
    uint64_t roots, pages, allocs, evictions;
} RootStats;

static const struct {
    const char *name;
    size_t offset;              /* into RootStats */
} root_stats[] = {
    { "tdp_roots", offsetof(RootStats, roots) },
    { "tdp_root_pages", offsetof(RootStats, pages) },
    { "tdp_root_allocs", offsetof(RootStats, allocs) },
    { "tdp_root_evictions", offsetof(RootStats, evictions) },
};

static bool set_stat(RootStats *stats, const Stats *stat)
{
    if (stat->value->type != QTYPE_QNUM) {
        return false;
    }
    for (int i = 0; i < ARRAY_SIZE(root_stats); i++) {
        if (g_str_equal(stat->name, root_stats[i].name)) {
            *(uint64_t *)((char *)stats + root_stats[i].offset) =
                stat->value->u.scalar;
            return true;
        }
    }
    return false;
}

/* Returns false if the kernel does not have all of them */
static bool read_stats(RootStats *stats)
{
    strList names[ARRAY_SIZE(root_stats)];
    StatsRequest request = {
        .provider = STATS_PROVIDER_KVM,
        .has_names = true,
        .names = names,
    };
    StatsRequestList requests = { .value = &request };
    StatsFilter filter = {
        .target = STATS_TARGET_VM,
        .has_providers = true,
        .providers = &requests,
    };
    StatsResultList *results;
    int found = 0;

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        names[i].value = (char *)root_stats[i].name;
        names[i].next = i + 1 < ARRAY_SIZE(names) ? &names[i + 1] : NULL;
    }

    results = qmp_query_stats(&filter, NULL);
    for (StatsResultList *r = results; r; r = r->next) {
        for (StatsList *s = r->value->stats; s; s = s->next) {
            found += set_stat(stats, s->value);
        }
    }
    qapi_free_StatsResultList(results);

    return found == ARRAY_SIZE(root_stats);
}

/* The event */

static QEMUTimer *quota_timer;          /* NULL: there is no quota */
static uint64_t quota_pages;
static uint64_t quota_evicted;          /* what the events told so far */

static void quota_check(void)
{
    RootStats stats;
    uint64_t roots;

    if (!read_stats(&stats) || stats.evictions == quota_evicted) {
        return;
    }

    roots = stats.evictions - quota_evicted;
    quota_evicted = stats.evictions;
    trace_kvm_root_quota_evicted(roots, quota_pages);
    qapi_event_send_kvm_root_quota_evicted(roots,
                                           quota_pages * KVM_ROOT_PAGE_SIZE);
}

static void quota_timer_cb(void *opaque)
{
    quota_check();
    timer_mod(quota_timer,
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + QUOTA_WATCH_MS);
}

void kvm_root_quota_watch(uint64_t pages)
{
    RootStats stats;

    if (quota_timer && pages != quota_pages) {
        quota_check();
    }
    if (pages && !quota_timer) {
        quota_evicted = read_stats(&stats) ? stats.evictions : 0;
        quota_timer = timer_new_ms(QEMU_CLOCK_REALTIME, quota_timer_cb, NULL);
        timer_mod(quota_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + QUOTA_WATCH_MS);
    } else if (!pages && quota_timer) {
        timer_free(quota_timer);
        quota_timer = NULL;
    }
    quota_pages = pages;
}

/* QMP */

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
    config->slot_coalescing = request->slot_coalescing;
    config->state_coalescing = request->state_coalescing;
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
    config->slot_coalescing = on_off(effect->slot_coalescing);
    config->state_coalescing = on_off(effect->state_coalescing);
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

/* HMP */

static char *quota_str(const KvmRootRetentionConfig *config)
{
    return config->has_root_quota ? size_to_str(config->root_quota) :
        g_strdup("-");
}

static void print_config(Monitor *mon, const KvmRootRetentionInfo *info)
{
    const KvmRootRetentionConfig *asked = info->requested;
    const KvmRootRetentionConfig *given = info->effective;
    g_autofree char *asked_quota = quota_str(asked);
    g_autofree char *given_quota = quota_str(given);

    monitor_printf(mon, "%-18s%-12s%s\n", "", "asked for", "in effect");
    monitor_printf(mon, "%-18s%-12s%s\n", "root-retention",
                   KvmRootRetention_str(asked->root_retention),
                   KvmRootRetention_str(given->root_retention));
    monitor_printf(mon, "%-18s%-12s%s\n", "root-quota", asked_quota,
                   given_quota);
    monitor_printf(mon, "%-18s%-12s%s\n", "reset-elision",
                   OnOffAuto_str(asked->reset_elision),
                   OnOffAuto_str(given->reset_elision));
    monitor_printf(mon, "%-18s%-12s%s\n", "slot-zap",
                   KvmSlotZap_str(asked->slot_zap),
                   KvmSlotZap_str(given->slot_zap));
    monitor_printf(mon, "%-18s%-12s%s\n", "slot-coalescing",
                   OnOffAuto_str(asked->slot_coalescing),
                   OnOffAuto_str(given->slot_coalescing));
    monitor_printf(mon, "%-18s%-12s%s\n", "state-coalescing",
                   OnOffAuto_str(asked->state_coalescing),
                   OnOffAuto_str(given->state_coalescing));
}

static void print_host(Monitor *mon, const KvmRootRetentionHost *host)
{
    monitor_printf(mon, "host: Linux %s; root-retention", host->kernel);
    for (KvmRootRetentionList *p = host->root_retention; p; p = p->next) {
        monitor_printf(mon, "%c%s", p == host->root_retention ? '=' : '|',
                       KvmRootRetention_str(p->value));
    }
    monitor_printf(mon, "; reset-elision %s; slot-zap=slot %s\n",
                   host->reset_elision ? "yes" : "no",
                   !host->slot_zap ? "no" :
                   host->slot_zap_revocable ? "yes" : "yes, for good");
}

static void print_stats(Monitor *mon)
{
    KVMSlotCounters slots;
    RootStats stats;

    if (read_stats(&stats)) {
        monitor_printf(mon, "roots: %" PRIu64 ", pages of 4 KiB: %" PRIu64
                       "; roots allocated %" PRIu64 ", evicted %" PRIu64 "\n",
                       stats.roots, stats.pages, stats.allocs,
                       stats.evictions);
    } else {
        monitor_printf(mon, "The host kernel has no statistics of roots\n");
    }

    kvm_get_slot_counters(kvm_state, &slots);
    monitor_printf(mon, "slot ioctls: %" PRIu64 ", of them deletes %" PRIu64
                   "; saved %" PRId64 "\n", slots.ioctls, slots.deletes,
                   slots.saved);
}

void hmp_info_kvm_roots(Monitor *mon, const QDict *qdict)
{
    g_autoptr(KvmRootRetentionInfo) info = NULL;
    Error *err = NULL;

    info = qmp_query_kvm_root_retention(&err);
    if (hmp_handle_error(mon, err)) {
        return;
    }

    print_config(mon, info);
    print_host(mon, info->host);
    print_stats(mon);
}
