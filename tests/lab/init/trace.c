/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters kept by the host kernel's own tracing, which knows nothing of the
 * feature: kprobe_profile counts hits, hist triggers sort them by an argument.
 * The ring buffer stays off, so that a hit costs as little as it can.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "lab.h"

#define TRACING "/sys/kernel/tracing/"
#define LOADS "kvmmmu/kvm_tdp_root_load"
#define TEARDOWNS "kvmmmu/kvm_tdp_root_teardown"

#define KVM_MR_DELETE "1"
#define KVM_MMU_ROOTS_ALL "15"	/* the current root and three earlier ones */

/* A control register's @bit in the arguments (vcpu, old, new) of a function. */
#define CR_ARGS "old=%si:u64 new=%dx:u64"
#define TOGGLES(bit) \
	"(old & " bit " && !(new & " bit ")) || (!(old & " bit ") && new & " bit ")"
#define CR0_PG "0x80000000"
#define CR4_PAE "0x20"
#define CR4_PGE "0x80"

/* The entries of its histogram are the distinct SPTEs that were installed. */
#define SPTES "kvmmmu/kvm_mmu_set_spte"
#define MAX_SPTES "131072"	/* the kernel's limit */

/* Read and write of an emulated access to what is above 0xff000000. */
#define MMIO "kvm/kvm_mmio"
#define FLASH " if gpa >= 0xff000000 && type != 0"
#define EXITS "kvm/kvm_userspace_exit"
/* What a guest reads while it waits: the ACPI PM timer of q35 and of pc */
#define PIO "kvm/kvm_pio"
#define PM_TIMER " if rw == 0 && (port == 0x608 || port == 0xb008)"
/* Writes that went to KVM's ring instead */
#define COALESCED "coalesced"
/* From the entry of SMM to its exit, by one vCPU */
#define SMM "kvm/kvm_smm_transition"
#define SMM_ENTRY "hist:keys=vcpu_id:since=common_timestamp.usecs if entering == 1"
#define SMM_EXIT "hist:keys=vcpu_id:us=common_timestamp.usecs-$since:" \
	"onmax($us).save(smbase) if entering == 0"
#define EMULATED "kvm/kvm_emulate_insn"

typedef void hist_fn(struct snapshot *snap, const char *line, uint64_t hits,
		     int counter);

static hist_fn add_hits, add_unloads, add_exit, add_flash;

/*
 * Functions that count together make one counter; a kernel may lack some of
 * them, under whose names other versions or the other vendor count, not all.
 */
static const struct probe {
	const char *counter;
	const char *symbol;
	/* With a filter, or counted by an argument, it takes a histogram: */
	const char *fetch, *filter, *keys;
	hist_fn *count;
} probes[] = {
	{ "mmu_resets", "kvm_mmu_reset_context" },
	/*
	 * The compiler is free to inline kvm_mmu_unload(), but not the two
	 * calls in it, which free all roots of the vCPU's two MMUs.
	 */
	{ "mmu_unloads", "kvm_mmu_free_roots", "mmu=%si:u64 roots=%dx:u64",
	  "roots==" KVM_MMU_ROOTS_ALL, "mmu", add_unloads },
	{ "root_loads", "kvm_mmu_load" },
	{ "root_invalidations", "kvm_tdp_mmu_invalidate_all_roots" },
	{ "root_invalidations", "kvm_tdp_mmu_invalidate_roots" },	/* 7.2 */
	{ "tdp_maps", "kvm_tdp_mmu_map" },
	{ "tlb_flushes", "svm_flush_tlb_asid" },
	{ "tlb_flushes", "vmx_flush_tlb_current" },
	{ "tlb_flushes", "vmx_flush_tlb_all" },
	{ "slot_ioctls", "kvm_set_memslot" },
	{ "slot_deletes", "kvm_set_memslot", "change=%cx:u32",
	  "change==" KVM_MR_DELETE, "change", add_hits },
	{ "smm_transitions", "kvm_smm_changed" },
	/* What flushes the guest's TLB besides SMM and root loads. */
	{ "cr0_pg_toggles", "kvm_post_set_cr0", CR_ARGS, TOGGLES(CR0_PG), "new",
	  add_hits },
	{ "cr4_pae_toggles", "kvm_post_set_cr4", CR_ARGS, TOGGLES(CR4_PAE), "new",
	  add_hits },
	{ "cr4_pge_toggles", "kvm_post_set_cr4", CR_ARGS, TOGGLES(CR4_PGE), "new",
	  add_hits },
	{ "remote_tlb_flushes", "kvm_flush_remote_tlbs" },
};

/* What count-exits counts; some of it goes to further counters. */
static const struct {
	const char *counter, *event, *keys;
	const char *size;	/* and a filter */
	hist_fn *count;
} exit_hists[] = {
	{ "userspace_exits", EXITS, "reason", "256", add_exit },
	{ "flash_reads", MMIO, "type", "256" FLASH, add_flash },
	{ "emulated_instructions", EMULATED, "failed", "256", add_hits },
	{ "coalesced_writes", COALESCED, "ret", "256 if ret == 0", add_hits },
	{ "pm_timer_reads", PIO, "port", "256" PM_TIMER, add_hits },
};

/* Where triggers are set, and our probes' group, which all instances see. */
static char instance[80] = TRACING;
static char group[32] = "lab";

static bool present[ARRAY_SIZE(probes)];
static const char *names[MAX_COUNTERS];
static int nnames;
static bool own, on, roles, sptes, exits;

/* An instance and probes of our own, where tracing has other users. */
int trace_use(const char *name)
{
	own = true;
	snprintf(group, sizeof(group), "%s", name);
	snprintf(instance, sizeof(instance), TRACING "instances/%s/", name);
	if (mkdir(instance, 0700) && errno != EEXIST)
		return -errno;
	return 0;
}

static int name_index(const char *name)
{
	for (int i = 0; i < nnames; i++)
		if (!strcmp(names[i], name))
			return i;
	names[nnames] = name;
	return nnames++;
}

int trace_counters(void)
{
	return nnames;
}

const char *trace_counter_name(int i)
{
	return names[i];
}

uint64_t trace_counter(const struct snapshot *snap, const char *name)
{
	return snap->counter[name_index(name)];
}

bool trace_is_on(void)
{
	return on;
}

bool trace_has_exits(void)
{
	return exits;
}

bool trace_has_roles(void)
{
	return roles;
}

/* The path of an event's file; one of ours has no group in its name. */
static char *event_file(char *path, size_t size, const char *event,
			const char *file)
{
	if (strchr(event, '/'))
		snprintf(path, size, "%sevents/%s/%s", instance, event, file);
	else
		snprintf(path, size, "%sevents/%s/%s_%s/%s", instance, group,
			 group, event, file);
	return path;
}

/* @kind is p or r; the profile has no groups, so the name has it, too. */
static int add_probe(char kind, const char *event, const char *definition)
{
	char text[256];

	snprintf(text, sizeof(text), "%c:%s/%s_%s %s\n", kind, group, group,
		 event, definition);
	return append_file(TRACING "kprobe_events", text);
}

static int add_trigger(const char *event, const char *text)
{
	char path[160];

	return append_file(event_file(path, sizeof(path), event, "trigger"),
			   text);
}

static int set_probe(size_t p)
{
	const struct probe *probe = &probes[p];
	char path[160], text[160], event[16];
	int err;

	snprintf(event, sizeof(event), "c%zu", p);
	snprintf(text, sizeof(text), "%s %s", probe->symbol,
		 probe->fetch ? probe->fetch : "");
	err = add_probe('p', event, text);
	if (err)	/* an unknown symbol is EINVAL to some kernels */
		return err == -EINVAL ? -ENOENT : err;
	if (probe->fetch) {
		snprintf(text, sizeof(text), "hist:keys=%s if %s", probe->keys,
			 probe->filter);
		return add_trigger(event, text);
	}
	return write_file(event_file(path, sizeof(path), event, "enable"), "1");
}

/* @size may be followed by a filter. */
static int set_hist(const char *event, const char *keys, const char *size)
{
	char text[160];

	snprintf(text, sizeof(text), "hist:keys=%s:size=%s", keys, size);
	return add_trigger(event, text);
}

static int set_exits(void)
{
	int err = add_probe('r', COALESCED,
			    "coalesced_mmio_write ret=$retval:s32");

	for (size_t i = 0; i < ARRAY_SIZE(exit_hists) && !err; i++) {
		name_index(exit_hists[i].counter);
		err = set_hist(exit_hists[i].event, exit_hists[i].keys,
			       exit_hists[i].size);
	}
	name_index("userspace_exits_io");
	name_index("userspace_exits_mmio");
	name_index("flash_writes");
	err = err ? err : add_trigger(SMM, SMM_ENTRY);
	return err ? err : add_trigger(SMM, SMM_EXIT);
}

static bool counted(const char *name)
{
	for (size_t p = 0; p < ARRAY_SIZE(probes); p++)
		if (present[p] && !strcmp(probes[p].counter, name))
			return true;
	return false;
}

/*
 * A counter that nothing counts would be missing from the lab's report unseen;
 * another machine's kernel need not have them all.
 */
static int check_counters(void)
{
	int kept = 0;

	for (int i = 0; i < nnames; i++) {
		if (counted(names[i])) {
			names[kept++] = names[i];
			continue;
		}
		say("trace: this kernel has no function that counts %s",
		    names[i]);
		if (!own)
			return -ENOENT;
	}
	nnames = kept;
	return 0;
}

/* 0, or what failed first. */
int trace_setup(const struct plan *plan)
{
	char path[160];
	int err;

	on = true;
	snprintf(path, sizeof(path), "%stracing_on", instance);
	write_file(path, "0");
	for (size_t p = 0; p < ARRAY_SIZE(probes); p++) {
		name_index(probes[p].counter);
		err = set_probe(p);
		if (err && err != -ENOENT)
			return err;
		present[p] = !err;
	}
	err = check_counters();
	sptes = plan->count_sptes;
	exits = plan->count_exits;
	if (sptes && !err) {
		name_index("tdp_sptes");
		err = set_hist(SPTES, "sptep", MAX_SPTES);
	}
	if (exits && !err)
		err = set_exits();
	roles = !access(event_file(path, sizeof(path), LOADS, "trigger"), F_OK);
	if (err || !roles)
		return err;
	err = set_hist(LOADS, "role,pages,reused", "16384");
	return err ? err : set_hist(TEARDOWNS, "role,pages,evicted", "16384");
}

/* "key: value" within one line of a hist file; false if it isn't there. */
static bool hist_field(const char *line, const char *key, uint64_t *value)
{
	size_t len = strlen(key);
	const char *at = line;

	while ((at = strstr(at, key))) {
		bool starts = at == line || at[-1] == ' ';

		at += len;
		if (starts && *at == ':') {
			*value = strtoull(at + 1, NULL, 0);
			return true;
		}
	}
	return false;
}

/* Call @fn for each entry of a hist; -ENOSPC if entries were dropped. */
static int hist_each(const char *event, hist_fn *fn, struct snapshot *snap,
		     int arg)
{
	char path[160], *text, *line, *save = NULL;
	uint64_t n;
	int err = 0;

	text = read_file(event_file(path, sizeof(path), event, "hist"));
	if (!text)
		return -errno;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (line[0] == '{' && hist_field(line, "hitcount", &n))
			fn(snap, line, n, arg);
		else if (hist_field(line, "Dropped", &n) && n)
			err = -ENOSPC;
	}
	free(text);
	return err;
}

static int read_longest_smi(struct snapshot *snap)
{
	char path[160];
	char *text = read_file(event_file(path, sizeof(path), SMM, "hist"));
	char *at = text;

	if (!text)
		return -errno;
	while ((at = strstr(at, "max:"))) {
		uint64_t us = strtoull(at + 4, NULL, 0);

		if (us > snap->longest_smi_us)
			snap->longest_smi_us = us;
		at++;
	}
	free(text);
	return 0;
}

static void add_hits(struct snapshot *snap, const char *line, uint64_t hits,
		     int counter)
{
	(void)line;
	snap->counter[counter] += hits;
}

static void add_entry(struct snapshot *snap, const char *line, uint64_t hits,
		      int counter)
{
	(void)line;
	(void)hits;
	snap->counter[counter]++;
}

static void add_exit(struct snapshot *snap, const char *line, uint64_t hits,
		     int all)
{
	uint64_t reason = 0;

	hist_field(line, "reason", &reason);
	snap->counter[all] += hits;
	if (reason == KVM_EXIT_IO)
		snap->counter[name_index("userspace_exits_io")] += hits;
	if (reason == KVM_EXIT_MMIO)
		snap->counter[name_index("userspace_exits_mmio")] += hits;
}

/* Of kvm_mmio, 1 is a read, 2 a write. */
static void add_flash(struct snapshot *snap, const char *line, uint64_t hits,
		      int reads)
{
	uint64_t type = 0;

	hist_field(line, "type", &type);
	snap->counter[type == 1 ? reads : name_index("flash_writes")] += hits;
}

static uint64_t min_hits(const struct mmu_hits *a, const struct mmu_hits *b)
{
	return a->hits < b->hits ? a->hits : b->hits;
}

/*
 * An unload frees root_mmu and then guest_mmu, neighbours in one vCPU's struct.
 * Freeing obsolete roots may free all of root_mmu alone, and an elided reset
 * frees guest_mmu alone: what was freed of both was unloaded.
 */
static void add_unloads(struct snapshot *snap, const char *line, uint64_t hits,
			int counter)
{
	uint64_t address;
	int i = snap->nmmus;

	if (!hist_field(line, "mmu", &address) || i == MAX_MMUS)
		return;
	for (; i > 0 && snap->mmu[i - 1].address > address; i--)
		snap->mmu[i] = snap->mmu[i - 1];
	snap->mmu[i] = (struct mmu_hits){ address, hits };
	snap->nmmus++;
	snap->counter[counter] = 0;
	for (i = 1; i < snap->nmmus; i++)
		if (snap->mmu[i].address - snap->mmu[i - 1].address < 4096)
			snap->counter[counter] +=
				min_hits(&snap->mmu[i - 1], &snap->mmu[i]);
}

static struct role *role_of(struct snapshot *snap, const char *line)
{
	uint64_t word;

	if (!hist_field(line, "role", &word))
		return NULL;
	for (int i = 0; i < snap->nroles; i++)
		if (snap->role[i].word == word)
			return &snap->role[i];
	if (snap->nroles == MAX_ROLES)
		return NULL;
	snap->role[snap->nroles].word = word;
	return &snap->role[snap->nroles++];
}

static void add_role(struct snapshot *snap, const char *line, uint64_t hits,
		     int teardown)
{
	struct role *role = role_of(snap, line);
	uint64_t pages = 0, reused = 0, evicted = 0;

	if (!role)
		return;
	hist_field(line, "pages", &pages);
	hist_field(line, "reused", &reused);
	hist_field(line, "evicted", &evicted);
	if (pages > role->pages_max)
		role->pages_max = pages;
	if (teardown) {
		role->teardowns += hits;
		role->evicted += evicted ? hits : 0;
		role->pages_torn += hits * pages;
	} else {
		role->loads += hits;
		role->reused += reused ? hits : 0;
	}
}

static int read_profile(struct snapshot *snap)
{
	char *text = read_file(TRACING "kprobe_profile"), *line, *save = NULL;
	unsigned long long hits, missed;
	char format[64];
	size_t p;

	if (!text)
		return -errno;
	snprintf(format, sizeof(format), " %s_c%%zu %%llu %%llu", group);
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, format, &p, &hits, &missed) != 3 ||
		    p >= ARRAY_SIZE(probes))
			continue;
		snap->missed += missed;
		if (!probes[p].fetch)
			snap->counter[name_index(probes[p].counter)] += hits;
	}
	free(text);
	return 0;
}

int trace_read(struct snapshot *snap)
{
	char event[16];
	int err;

	memset(snap, 0, sizeof(*snap));
	snap->ns = now_ns();
	if (!on)
		return 0;
	err = read_profile(snap);
	for (size_t p = 0; p < ARRAY_SIZE(probes) && !err; p++) {
		if (!present[p] || !probes[p].fetch)
			continue;
		snprintf(event, sizeof(event), "c%zu", p);
		err = hist_each(event, probes[p].count, snap,
				name_index(probes[p].counter));
	}
	if (sptes && !err)
		err = hist_each(SPTES, add_entry, snap, name_index("tdp_sptes"));
	for (size_t i = 0; exits && i < ARRAY_SIZE(exit_hists) && !err; i++)
		err = hist_each(exit_hists[i].event, exit_hists[i].count, snap,
				name_index(exit_hists[i].counter));
	if (exits && !err)
		err = read_longest_smi(snap);
	if (roles && !err)
		err = hist_each(LOADS, add_role, snap, 0);
	if (roles && !err)
		err = hist_each(TEARDOWNS, add_role, snap, 1);
	return err;
}
