/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a debug kernel has to say at the end of a run.  Its reports stand on the
 * console, where the judge reads them; here is asked whether it was able to
 * find anything, and what kmemleak finds, which only looks when told to.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lab.h"

#define KMEMLEAK "/sys/kernel/debug/kmemleak"

/* Younger objects than 5 s are not taken for leaks. */
#define MIN_AGE 6

static void tick(void)
{
	report("tick ns=%llu", (unsigned long long)now_ns());
}

/* After its first report, or without room for more locks, it turns itself off. */
static void check_lockdep(void)
{
	static const char key[] = "debug_locks:";
	char *text = read_file("/proc/lockdep_stats");
	const char *at = text ? strstr(text, key) : NULL;

	if (!at)
		report_test("lockdep", "fail", "the kernel has none");
	else if (strtoul(at + sizeof(key) - 1, NULL, 10) != 1)
		report_test("lockdep", "fail", "it turned itself off");
	else
		report_test("lockdep", "pass", "on to the end");
	free(text);
}

/* An object changed since the last scan is no leak: it takes two. */
static int scan(void)
{
	int err = 0;

	for (int i = 0; i < MIN_AGE; i++) {
		nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
		tick();
	}
	for (int i = 0; i < 2 && !err; i++) {
		err = write_file(KMEMLEAK, "scan");
		tick();
	}
	return err;
}

static void check_kmemleak(void)
{
	int err = scan();
	char *text = err ? NULL : read_file(KMEMLEAK);

	if (!text) {
		report_test("kmemleak", "fail", "can't scan: %s",
			    strerror(err ? -err : errno));
	} else if (text[0]) {
		say("kmemleak:");
		printf("%s", text);
		fflush(stdout);
		report_test("kmemleak", "fail", "%.*s, and more on the console",
			    (int)strcspn(text, "\n"), text);
	} else {
		report_test("kmemleak", "pass", "nothing leaked");
	}
	free(text);
}

void debug_check(void)
{
	check_lockdep();
	check_kmemleak();
}
