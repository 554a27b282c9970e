/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A test program run on the host itself: a qtest, a KVM selftest.  If it
 * speaks TAP, each of its lines is a verdict; if not, its exit status is one.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab.h"

#define KSFT_SKIP 4
#define GTEST_SKIP 77

struct program {
	const char *name;
	pid_t pid;
	int out;
	char line[512];
	size_t len;
	unsigned int tests;
};

static bool spawn(struct program *prog, const struct plan *plan)
{
	int fd[2];

	prog->name = strrchr(plan->argv[0], '/');
	prog->name = prog->name ? prog->name + 1 : plan->argv[0];
	if (pipe2(fd, O_CLOEXEC))
		return false;
	prog->pid = fork();
	if (prog->pid == 0) {
		dup2(fd[1], STDOUT_FILENO);
		dup2(fd[1], STDERR_FILENO);
		execv(plan->argv[0], plan->argv);
		fprintf(stderr, "%s: %s\n", plan->argv[0], strerror(errno));
		_exit(127);
	}
	close(fd[1]);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	prog->out = fd[0];
	return prog->pid > 0;
}

/*
 * `ok 3 - name # SKIP why`, `ok 3 /path`, `not ok 3 name`, and from the kernel's
 * kselftest.h `ok 3 # SKIP name: why`.
 */
static void tap(struct program *prog, char *line)
{
	bool bad = !strncmp(line, "not ok ", 7);
	char *at = line + (bad ? 7 : 3), *skip;
	char name[96];

	if ((!bad && strncmp(line, "ok ", 3)) || !isdigit(*at))
		return;
	at += strspn(at, "0123456789 -");
	skip = strstr(at, "# SKIP");
	if (skip)
		skip += 6 + strspn(skip + 6, " ");
	if (*at == '#' && skip)
		at = skip;
	snprintf(name, sizeof(name), "%s:%.*s", prog->name,
		 (int)strcspn(at, at == skip ? " :" : " #"), at);
	prog->tests++;
	report_test(name, bad ? "fail" : skip ? "skip" : "pass", "%s",
		    skip ? skip : "TAP");
}

static void read_output(struct program *prog)
{
	char c;

	while (read(prog->out, &c, 1) == 1) {
		if (c != '\n' && prog->len < sizeof(prog->line) - 1) {
			prog->line[prog->len++] = c;
			continue;
		}
		prog->line[prog->len] = '\0';
		prog->len = 0;
		printf("test| %s\n", prog->line);
		tap(prog, prog->line);
	}
	fflush(stdout);
}

/* The exit status counts when TAP said nothing, and when it is a failure. */
static void judge(struct program *prog, int status)
{
	if (WIFSIGNALED(status))
		report_test(prog->name, "fail", "killed by signal %d",
			    WTERMSIG(status));
	else if (WEXITSTATUS(status) == KSFT_SKIP ||
		 WEXITSTATUS(status) == GTEST_SKIP)
		report_test(prog->name, "skip", "exit status %d",
			    WEXITSTATUS(status));
	else if (WEXITSTATUS(status))
		report_test(prog->name, "fail", "exit status %d",
			    WEXITSTATUS(status));
	else if (!prog->tests)
		report_test(prog->name, "pass", "exit status 0");
}

/*
 * Has the program ended?  As PID 1, init is also the parent of what a daemon
 * leaves behind, which would look alive to the daemon until it is reaped.
 */
static bool ended(pid_t program, int *status)
{
	pid_t pid;

	while ((pid = waitpid(-1, status, WNOHANG)) > 0)
		if (pid == program)
			return true;
	return false;
}

void program_run(const struct plan *plan)
{
	struct program prog = { 0 };
	uint64_t deadline, tick = 0;
	int status;

	if (!plan->nphases || !spawn(&prog, plan)) {
		report_test("setup", "fail", "infrastructure: can't start");
		return;
	}
	deadline = now_ns() + plan->phases[0].seconds * 1000000000ull;
	while (!ended(prog.pid, &status)) {
		struct pollfd pfd = { .fd = prog.out, .events = POLLIN };

		poll(&pfd, 1, 200);
		read_output(&prog);
		if (now_ns() > deadline) {
			kill_child(prog.pid);
			waitpid(prog.pid, &status, 0);
			report_test(prog.name, "fail",
				    "time-out: of host virtual time");
			return;
		}
		if (now_ns() >= tick) {
			tick = now_ns() + 1000000000ull;
			report("tick ns=%llu", (unsigned long long)now_ns());
		}
	}
	read_output(&prog);
	judge(&prog, status);
}
