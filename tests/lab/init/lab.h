/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lab's host init: runs one plan on an emulated host and reports on ttyS1.
 *
 * Everything here runs as PID 1 of a throw-away host, and what ../runner takes
 * of it on a machine that it leaves as it is.  Whatever goes wrong is reported
 * as a verdict, and ends the run; nothing is retried.
 */
#ifndef LAB_H
#define LAB_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MAX_ARGS     128
#define MAX_PHASES   16
#define MAX_TESTS    256
#define MAX_TEST_ARGS 16
#define MAX_EXPECTS  8
#define MAX_COUNTERS 24
#define MAX_ROLES    32
#define MAX_STATS    160
#define MAX_MMUS     512	/* two of each vCPU */

/* util.c */
uint64_t now_ns(void);
int write_file(const char *path, const char *text);
int append_file(const char *path, const char *text);
char *read_file(const char *path);	/* malloc'd, NULL with errno */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void kill_child(pid_t pid);		/* which has not been reaped */

/* report.c: the verdict channel */
int report_open(const char *path);
void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void report_test(const char *name, const char *result, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void report_begin(const char *scenario, const char *run);
void report_end(void);

/* plan.c: what to do, written by tests/lab/run into the initramfs */
struct phase {
	char name[32];
	unsigned int seconds;		/* of host virtual time */
};

/* A program of a list, and what it may take. */
struct test {
	const char *name;
	unsigned int seconds;
	char *argv[MAX_TEST_ARGS + 1];
};

/* What a file must hold before any program runs. */
struct expect {
	const char *path, *value;
};

struct plan {
	char *text;
	const char *scenario;
	const char *run;
	const char *kind;		/* "nested", "program", "programs" */
	bool huge_pages;
	bool expect_capability;
	bool compare_stats;
	bool count_sptes, count_exits;
	bool quiet_phase;		/* nothing is counted in the first one */
	bool debug;			/* ask the debug kernel at the end */
	const char *trace;		/* "off", or an instance; NULL: the lab's */
	char *argv[MAX_ARGS + 1];
	int argc;
	struct phase phases[MAX_PHASES];
	int nphases;
	struct test tests[MAX_TESTS];
	int ntests;
	struct expect expects[MAX_EXPECTS];
	int nexpects;
};

int plan_load(struct plan *plan, const char *path);

/* trace.c: counters kept by the host kernel's tracing */
struct role {
	uint32_t word;
	uint64_t loads, reused, teardowns, evicted, pages_torn, pages_max;
};

struct mmu_hits {
	uint64_t address, hits;
};

struct snapshot {
	uint64_t ns;
	uint64_t counter[MAX_COUNTERS];
	uint64_t missed;
	struct role role[MAX_ROLES];
	int nroles;
	struct mmu_hits mmu[MAX_MMUS];
	int nmmus;
	uint64_t longest_smi_us;	/* since the guest was started */
};

int trace_use(const char *name);
int trace_setup(const struct plan *plan);
bool trace_is_on(void);
bool trace_has_roles(void);
bool trace_has_exits(void);
int trace_read(struct snapshot *snap);
int trace_counters(void);
const char *trace_counter_name(int i);
uint64_t trace_counter(const struct snapshot *snap, const char *name);

/* qmp.c: the nested QEMU's monitor */
struct kvm_stat {
	char name[56];
	uint64_t value;			/* summed over vCPUs */
};

struct stats {
	struct kvm_stat item[MAX_STATS];
	int count;
};

struct qmp;
struct qmp *qmp_open(int in, int out);
int qmp_command(struct qmp *qmp, const char *json, char **reply,
		unsigned int seconds);
int qmp_stats(struct qmp *qmp, struct stats *stats);
bool stats_find(const struct stats *stats, const char *name, uint64_t *value);
/* Read what has arrived; true once the guest's end has been announced. */
bool qmp_poll(struct qmp *qmp);
const char *qmp_shutdown_reason(struct qmp *qmp);

/* verdict.c: what is reported at the end of a phase, and what must agree */
void verdict_phase(const char *phase, const struct snapshot *from,
		   const struct snapshot *to, const struct stats *sfrom,
		   const struct stats *sto);
void verdict_compare(const struct plan *plan, const struct snapshot *from,
		     const struct snapshot *to, const struct stats *stats);

/* nested.c, program.c, programs.c, debug.c */
void nested_run(const struct plan *plan);
void program_run(const struct plan *plan);
void programs_run(const struct plan *plan);
void debug_check(void);

#endif
