/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * runner FOLDER: run the nested guest of FOLDER/plan on this machine as it is,
 * and report to FOLDER/verdict.log, as the lab's host init does on ttyS1; what
 * it, QEMU and the guest print goes to FOLDER/console.log.  Both files exist.
 *
 * Nothing is mounted, loaded or set for others: huge pages are turned off for
 * this process and QEMU alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../init/lab.h"

static int redirect(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
	    dup2(fd, STDERR_FILENO) < 0)
		return -errno;
	return 0;
}

static void run(const struct plan *plan)
{
	report_begin(plan->scenario, plan->run);
	if (strcmp(plan->kind, "nested"))
		report_test("plan", "fail",
			    "infrastructure: a %s needs the lab", plan->kind);
	else if (prctl(PR_SET_THP_DISABLE, !plan->huge_pages, 0, 0, 0))
		report_test("thp", "fail", "infrastructure: huge pages: %s",
			    strerror(errno));
	else
		nested_run(plan);
}

int main(int argc, char **argv)
{
	static struct plan plan;
	int err;

	if (argc != 2 || chdir(argv[1])) {
		fprintf(stderr, "runner: one folder is accepted\n");
		return 2;
	}
	/* Whoever waits for the report takes the guest along. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	err = redirect("console.log");
	if (!err)
		err = report_open("verdict.log");
	if (!err)
		err = plan_load(&plan, "plan");
	if (err) {
		fprintf(stderr, "runner: %s: %s\n", argv[1], strerror(-err));
		return 1;
	}
	run(&plan);
	report_end();
	return 0;
}
