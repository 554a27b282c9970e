/*
 * KVM: counters of QEMU's own among the kernel's statistics
 *
 * One result of query-stats holds both, so that what QEMU did and what came of
 * it in the kernel are told by one command.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/util.h"
#include "system/kvm.h"
#include "system/kvm-own-stats.h"
#include "system/kvm-slot-coalescing.h"
#include "system/stats.h"

static uint64_t get_slot_ioctls(CPUState *cpu)
{
    KVMSlotCounters counters;

    kvm_get_slot_counters(kvm_state, &counters);
    return counters.ioctls;
}

static uint64_t get_slot_deletes(CPUState *cpu)
{
    KVMSlotCounters counters;

    kvm_get_slot_counters(kvm_state, &counters);
    return counters.deletes;
}

/* Statistics can't be negative, and where slots were cut first this may be. */
static uint64_t get_slot_ioctls_saved(CPUState *cpu)
{
    KVMSlotCounters counters;

    kvm_get_slot_counters(kvm_state, &counters);
    return MAX(counters.saved, 0);
}

static const KVMOwnStat slot_stats[] = {
    { "qemu_slot_ioctls", STATS_TARGET_VM, STATS_TYPE_CUMULATIVE,
      get_slot_ioctls },
    { "qemu_slot_deletes", STATS_TARGET_VM, STATS_TYPE_CUMULATIVE,
      get_slot_deletes },
    { "qemu_slot_ioctls_saved", STATS_TARGET_VM, STATS_TYPE_INSTANT,
      get_slot_ioctls_saved },
};

/* Of const KVMOwnStat, under the BQL */
static GPtrArray *own_stats(void)
{
    static GPtrArray *stats;

    if (!stats) {
        stats = g_ptr_array_new();
        for (int i = 0; i < ARRAY_SIZE(slot_stats); i++) {
            g_ptr_array_add(stats, (gpointer)&slot_stats[i]);
        }
    }
    return stats;
}

void kvm_own_stats_register(const KVMOwnStat *stats, int n)
{
    for (int i = 0; i < n; i++) {
        g_ptr_array_add(own_stats(), (gpointer)&stats[i]);
    }
}

StatsList *kvm_own_stats_query(StatsList *list, StatsTarget target,
                               strList *names, CPUState *cpu)
{
    for (int i = 0; i < own_stats()->len; i++) {
        const KVMOwnStat *own = g_ptr_array_index(own_stats(), i);
        Stats *stat;

        if (own->target != target ||
            !apply_str_list_filter(own->name, names)) {
            continue;
        }
        stat = g_new0(Stats, 1);
        stat->name = g_strdup(own->name);
        stat->value = g_new0(StatsValue, 1);
        stat->value->type = QTYPE_QNUM;
        stat->value->u.scalar = own->get(cpu);
        QAPI_LIST_PREPEND(list, stat);
    }
    return list;
}

StatsSchemaValueList *kvm_own_stats_schema(StatsSchemaValueList *list,
                                           StatsTarget target)
{
    for (int i = 0; i < own_stats()->len; i++) {
        const KVMOwnStat *own = g_ptr_array_index(own_stats(), i);
        StatsSchemaValue *value;

        if (own->target == target) {
            value = g_new0(StatsSchemaValue, 1);
            value->name = g_strdup(own->name);
            value->type = own->type;
            QAPI_LIST_PREPEND(list, value);
        }
    }
    return list;
}
