/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "lab.h"

static const char *const stat_prefix[] = {
	"tdp_", "mmu_", "tlb_flush", "remote_tlb_flush", "exits", "pages_",
};

static bool wanted(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(stat_prefix); i++)
		if (!strncmp(name, stat_prefix[i], strlen(stat_prefix[i])))
			return true;
	return false;
}

/* What stands at the end of the phase, not a sum over it. */
static bool instant(const char *name)
{
	return !strcmp(name, "tdp_roots") || !strcmp(name, "tdp_root_pages") ||
	       !strncmp(name, "pages_", 6);
}

static void phase_stats(const char *phase, const struct stats *from,
			const struct stats *to)
{
	for (int i = 0; i < to->count; i++) {
		const struct kvm_stat *stat = &to->item[i];
		uint64_t before = 0;

		if (!wanted(stat->name))
			continue;
		if (!instant(stat->name))
			stats_find(from, stat->name, &before);
		report("stat phase=%s name=%s value=%llu", phase, stat->name,
		       (unsigned long long)(stat->value - before));
	}
}

static const struct role *role_before(const struct snapshot *snap,
				      uint32_t word)
{
	static const struct role none;

	for (int i = 0; i < snap->nroles; i++)
		if (snap->role[i].word == word)
			return &snap->role[i];
	return &none;
}

static void phase_roles(const char *phase, const struct snapshot *from,
			const struct snapshot *to)
{
	for (int i = 0; i < to->nroles; i++) {
		const struct role *r = &to->role[i];
		const struct role *b = role_before(from, r->word);

		report("role phase=%s role=0x%x loads=%llu reused=%llu "
		       "teardowns=%llu pages_torn_down=%llu pages_max=%llu",
		       phase, r->word,
		       (unsigned long long)(r->loads - b->loads),
		       (unsigned long long)(r->reused - b->reused),
		       (unsigned long long)(r->teardowns - b->teardowns),
		       (unsigned long long)(r->pages_torn - b->pages_torn),
		       (unsigned long long)r->pages_max);
	}
}

void verdict_phase(const char *phase, const struct snapshot *from,
		   const struct snapshot *to, const struct stats *sfrom,
		   const struct stats *sto)
{
	report("phase name=%s", phase);
	for (int i = 0; i < trace_counters(); i++)
		report("counter phase=%s name=%s value=%llu", phase,
		       trace_counter_name(i),
		       (unsigned long long)(to->counter[i] - from->counter[i]));
	if (trace_has_exits())
		report("counter phase=%s name=longest_smi_us value=%llu", phase,
		       (unsigned long long)to->longest_smi_us);
	report("counter phase=%s name=guest_ns value=%llu", phase,
	       (unsigned long long)(to->ns - from->ns));
	phase_roles(phase, from, to);
	phase_stats(phase, sfrom, sto);
}

/* Sum over roles of what the tracepoints counted. */
static uint64_t role_sum(const struct snapshot *snap, const char *what)
{
	uint64_t sum = 0;

	for (int i = 0; i < snap->nroles; i++) {
		const struct role *r = &snap->role[i];

		if (!strcmp(what, "evicted"))
			sum += r->evicted;
		else
			sum += r->loads - r->reused;
	}
	return sum;
}

static void check(const char *what, uint64_t traced, uint64_t counted)
{
	char name[64];

	snprintf(name, sizeof(name), "agree-%s", what);
	report_test(name, traced == counted ? "pass" : "fail",
		    "traced %llu, the statistic says %llu",
		    (unsigned long long)traced, (unsigned long long)counted);
}

/* The feature's own statistics against tracing, since the VM began. */
static void compare_statistics(const struct snapshot *from,
			       const struct snapshot *to,
			       const struct stats *stats)
{
	static const struct {
		const char *counter;	/* NULL: summed over roles */
		const char *roles;
		const char *stat;
	} pair[] = {
		{ "mmu_resets", NULL, "mmu_resets" },
		{ "root_loads", NULL, "mmu_root_loads" },
		{ NULL, "fresh", "tdp_root_allocs" },
		{ NULL, "evicted", "tdp_root_evictions" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pair); i++) {
		uint64_t counted, traced;

		if (!stats_find(stats, pair[i].stat, &counted)) {
			report_test(pair[i].stat, "fail",
				    "the kernel lacks this statistic");
			continue;
		}
		traced = pair[i].counter ?
			 trace_counter(to, pair[i].counter) -
			 trace_counter(from, pair[i].counter) :
			 role_sum(to, pair[i].roles);
		check(pair[i].stat, traced, counted);
	}
}

void verdict_compare(const struct plan *plan, const struct snapshot *from,
		     const struct snapshot *to, const struct stats *stats)
{
	if (!trace_is_on())
		return;
	report_test("probes-missed", to->missed ? "fail" : "pass",
		    "%llu hits missed", (unsigned long long)to->missed);
	if (plan->compare_stats)
		compare_statistics(from, to, stats);
}
