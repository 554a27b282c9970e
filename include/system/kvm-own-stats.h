/*
 * KVM: counters of QEMU's own among the kernel's statistics
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_KVM_OWN_STATS_H
#define SYSTEM_KVM_OWN_STATS_H

#include "qapi/qapi-types-stats.h"

typedef struct KVMOwnStat {
    const char *name;           /* "qemu_...", as the kernel has none */
    StatsTarget target;         /* STATS_TARGET_VM or STATS_TARGET_VCPU */
    StatsType type;             /* STATS_TYPE_CUMULATIVE or ..._INSTANT */
    /* With the BQL held; @cpu is NULL for the VM */
    uint64_t (*get)(CPUState *cpu);
} KVMOwnStat;

/*
 * Have query-stats tell @n counters more.  With the BQL held; @stats has to
 * stay where it is.
 */
void kvm_own_stats_register(const KVMOwnStat *stats, int n);

/*
 * For query-stats of the provider KVM: put the counters of @target in front of
 * @list and return the new list.  @names is a filter, NULL for all of them.
 */
StatsList *kvm_own_stats_query(StatsList *list, StatsTarget target,
                               strList *names, CPUState *cpu);
StatsSchemaValueList *kvm_own_stats_schema(StatsSchemaValueList *list,
                                           StatsTarget target);

#endif
