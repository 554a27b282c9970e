/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab.h"

static int plan_phase(struct plan *plan, const char *value)
{
	struct phase *phase = &plan->phases[plan->nphases];

	if (plan->nphases == MAX_PHASES ||
	    sscanf(value, "%31s %u", phase->name, &phase->seconds) != 2)
		return -EINVAL;
	plan->nphases++;
	return 0;
}

/* `test SECONDS PROGRAM ARGUMENT...`, its name is that of the file. */
static int plan_test(struct plan *plan, char *value)
{
	struct test *test = &plan->tests[plan->ntests];
	char *word, *save = NULL;
	int argc = 0;

	if (plan->ntests == MAX_TESTS || sscanf(value, "%u", &test->seconds) != 1)
		return -EINVAL;
	strtok_r(value, " ", &save);
	while ((word = strtok_r(NULL, " ", &save))) {
		if (argc == MAX_TEST_ARGS)
			return -EINVAL;
		test->argv[argc++] = word;
	}
	if (!argc)
		return -EINVAL;
	test->name = strrchr(test->argv[0], '/');
	test->name = test->name ? test->name + 1 : test->argv[0];
	plan->ntests++;
	return 0;
}

/* `expect PATH VALUE` */
static int plan_expect(struct plan *plan, char *value)
{
	char *space = strchr(value, ' ');

	if (plan->nexpects == MAX_EXPECTS || !space)
		return -EINVAL;
	*space = '\0';
	plan->expects[plan->nexpects].path = value;
	plan->expects[plan->nexpects++].value = space + 1;
	return 0;
}

static int plan_word(struct plan *plan, const char *key, char *value)
{
	if (!strcmp(key, "scenario"))
		plan->scenario = value;
	else if (!strcmp(key, "run"))
		plan->run = value;
	else if (!strcmp(key, "kind"))
		plan->kind = value;
	else if (!strcmp(key, "huge-pages"))
		plan->huge_pages = !strcmp(value, "on");
	else if (!strcmp(key, "expect-capability"))
		plan->expect_capability = !strcmp(value, "on");
	else if (!strcmp(key, "compare-stats"))
		plan->compare_stats = !strcmp(value, "on");
	else if (!strcmp(key, "count-sptes"))
		plan->count_sptes = !strcmp(value, "on");
	else if (!strcmp(key, "count-exits"))
		plan->count_exits = !strcmp(value, "on");
	else if (!strcmp(key, "quiet-phase"))
		plan->quiet_phase = !strcmp(value, "on");
	else if (!strcmp(key, "debug"))
		plan->debug = !strcmp(value, "on");
	else if (!strcmp(key, "trace"))
		plan->trace = value;
	else if (!strcmp(key, "phase"))
		return plan_phase(plan, value);
	else if (!strcmp(key, "test"))
		return plan_test(plan, value);
	else if (!strcmp(key, "expect"))
		return plan_expect(plan, value);
	else if (!strcmp(key, "env"))
		return putenv(value);
	else if (!strcmp(key, "arg") && plan->argc < MAX_ARGS)
		plan->argv[plan->argc++] = value;
	else
		return -EINVAL;
	return 0;
}

/* One `key value` a line; the value is the rest of the line, as it stands. */
int plan_load(struct plan *plan, const char *path)
{
	char *line, *save = NULL;

	plan->text = read_file(path);
	if (!plan->text)
		return -errno;
	for (line = strtok_r(plan->text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (!value)
			return -EINVAL;
		*value++ = '\0';
		if (plan_word(plan, line, value)) {
			say("plan: %s %s: not understood", line, value);
			return -EINVAL;
		}
	}
	if (!plan->scenario || !plan->run || !plan->kind ||
	    (!plan->argc && !plan->ntests))
		return -EINVAL;
	return 0;
}
