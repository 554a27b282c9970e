/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A list of test programs, one after the other, in one boot of the host.
 *
 * While a program runs nothing else writes to the console: its output is kept
 * and shown afterwards, so that the kernel's messages stand in whole lines
 * between the kernel's own record of which program began and which ended.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "lab.h"

#define KSFT_SKIP 4
#define SECOND	  1000000000ull
#define KEPT	  8192		/* bytes of output, the first and the last */
#define PATIENCE  30		/* seconds for a killed program to go */

struct output {
	int fd;
	char head[KEPT], tail[KEPT];
	size_t nhead, ntail;	/* ntail counts all that went past head */
};

static void keep(struct output *out)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(out->fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (out->nhead < KEPT)
				out->head[out->nhead++] = buf[i];
			else
				out->tail[out->ntail++ % KEPT] = buf[i];
		}
	}
}

/* The kept output as one text; malloc'd. */
static char *text_of(const struct output *out)
{
	size_t from = out->ntail > KEPT ? out->ntail - KEPT : 0;
	char *text = malloc(2 * KEPT + 32), *at = text;

	if (!text)
		return NULL;
	memcpy(at, out->head, out->nhead);
	at += out->nhead;
	if (from)
		at += sprintf(at, "\n[...]\n");
	for (size_t i = from; i < out->ntail; i++)
		*at++ = out->tail[i % KEPT];
	*at = '\0';
	for (char *p = text; p < at; p++)
		if (!*p)
			*p = '?';
	return text;
}

/* What the program itself says about a skip or a failed assertion. */
static void find_reason(const char *text, char *why, size_t size)
{
	static const struct {
		const char *mark;
		bool next;	/* the line after it says more */
	} says[] = {
		{ "# SKIP", false },
		{ "Test Assertion Failure", true },
		{ "not ok ", false },
		{ "error while loading", false },
	};

	*why = '\0';
	for (size_t i = 0; text && i < ARRAY_SIZE(says); i++) {
		const char *at = strstr(text, says[i].mark);

		if (at && says[i].next)
			at = strchr(at, '\n');
		if (!at)
			continue;
		at += strspn(at, " \n");
		snprintf(why, size, "%.*s", (int)strcspn(at, "\r\n"), at);
		return;
	}
}

static void show(char *text)
{
	char *line, *save = NULL;

	for (line = text ? strtok_r(text, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save))
		printf("test| %s\n", line);
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

/* Into the kernel's log, where its own messages stand in order. */
static void mark(const char *what, const char *name)
{
	char line[128];

	snprintf(line, sizeof(line), "lab-test %s %s\n", what, name);
	append_file("/dev/kmsg", line);
}

static pid_t spawn(const struct test *test, struct output *out)
{
	int fd[2];
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC))
		return -1;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY);

		setpgid(0, 0);
		dup2(null, STDIN_FILENO);
		dup2(fd[1], STDOUT_FILENO);
		dup2(fd[1], STDERR_FILENO);
		if (chdir("/tmp"))
			_exit(126);
		execv(test->argv[0], test->argv);
		fprintf(stderr, "%s: %s\n", test->argv[0], strerror(errno));
		_exit(127);
	}
	close(fd[1]);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	out->fd = fd[0];
	return pid;
}

static void tick(void)
{
	static uint64_t next;

	if (now_ns() < next)
		return;
	next = now_ns() + SECOND;
	report("tick ns=%llu", (unsigned long long)now_ns());
}

/* Wait for the program until the time given; true if it ended. */
static bool await(pid_t pid, struct output *out, uint64_t until, int *status)
{
	while (waitpid(pid, status, WNOHANG) == 0) {
		struct pollfd pfd = { .fd = out->fd, .events = POLLIN };

		if (now_ns() > until)
			return false;
		poll(&pfd, 1, 200);
		keep(out);
		if (pfd.revents & POLLHUP)
			usleep(10000);	/* closed its output, still runs */
		tick();
	}
	return true;
}

static void judge(const struct test *test, int status, const char *why,
		  double seconds)
{
	if (WIFSIGNALED(status))
		report_test(test->name, "fail", "%.3f s: signal %d: %s",
			    seconds, WTERMSIG(status), why);
	else
		report_test(test->name,
			    WEXITSTATUS(status) == 0 ? "pass" :
			    WEXITSTATUS(status) == KSFT_SKIP ? "skip" : "fail",
			    "%.3f s: exit status %d: %s", seconds,
			    WEXITSTATUS(status), why);
}

static void run_test(const struct test *test)
{
	static struct output out;
	uint64_t start = now_ns();
	bool late = false, gone;
	char why[256], *text;
	int status = 0;
	double seconds;
	pid_t pid;

	memset(&out, 0, sizeof(out));
	mark("begin", test->name);
	pid = spawn(test, &out);
	if (pid < 0) {
		report_test(test->name, "fail", "infrastructure: can't start");
		return;
	}
	gone = await(pid, &out, start + test->seconds * SECOND, &status);
	if (!gone) {
		late = true;
		kill_child(pid);
		gone = await(pid, &out, now_ns() + PATIENCE * SECOND, &status);
	}
	/* Children that it left behind. */
	assert(pid > 1);
	kill(-pid, SIGKILL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	keep(&out);
	close(out.fd);
	seconds = (now_ns() - start) / 1e9;
	mark("end", test->name);
	text = text_of(&out);
	find_reason(text, why, sizeof(why));
	if (late)
		report_test(test->name, "fail", "time-out: %.3f s: %s%s", seconds,
			    gone ? "killed" : "does not die", why);
	else
		judge(test, status, why, seconds);
	show(text);
	free(text);
}

/* A setting that did not take would pass for one that did. */
static bool expected(const struct plan *plan)
{
	bool good = true;

	for (int i = 0; i < plan->nexpects; i++) {
		const struct expect *e = &plan->expects[i];
		char *text = read_file(e->path);

		if (text)
			text[strcspn(text, "\n")] = '\0';
		if (!text || strcmp(text, e->value)) {
			report_test("expect", "fail", "infrastructure: %s is %s, "
				    "not %s", e->path, text ? text : "absent",
				    e->value);
			good = false;
		}
		free(text);
	}
	return good;
}

void programs_run(const struct plan *plan)
{
	if (!expected(plan))
		return;
	for (int i = 0; i < plan->ntests; i++)
		run_test(&plan->tests[i]);
}
