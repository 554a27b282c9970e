/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One nested guest: start QEMU, follow the guest's marks, take the counters
 * while the guest waits for leave to go on, see it power off.
 *
 * Three pipes in the current folder: the guest's console (copied to ours), its
 * marks, and QMP.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab.h"

struct nested {
	const struct plan *plan;
	pid_t pid;
	int status;
	bool exited, panicked, done;
	int console, mark_in, mark_out;
	struct qmp *qmp;
	struct snapshot start, last;
	struct stats stats;
	int phase;
	uint64_t deadline, tick;
	char line[512];
	size_t len;
	char text[512];		/* the console's last, unfinished line */
	size_t textlen;
};

static int pipe_end(const char *name, const char *way)
{
	char path[64];

	snprintf(path, sizeof(path), "%s.%s", name, way);
	if (mkfifo(path, 0600) && errno != EEXIST)
		return -errno;
	/* O_RDWR: neither waits for QEMU's end nor sees EOF without it. */
	return open(path, O_RDWR | O_CLOEXEC);
}

static void add_arg(char **argv, int *n, const char *arg)
{
	argv[(*n)++] = (char *)arg;
}

static pid_t start(const struct plan *plan)
{
	static const char *const ours[] = {
		"-chardev", "pipe,id=lab-console,path=console",
		"-serial", "chardev:lab-console",
		"-chardev", "pipe,id=lab-mark,path=mark",
		"-serial", "chardev:lab-mark",
		"-chardev", "pipe,id=lab-qmp,path=qmp",
		"-mon", "chardev=lab-qmp,mode=control",
	};
	char *argv[MAX_ARGS + ARRAY_SIZE(ours) + 2];
	int n = 0;
	pid_t pid;

	add_arg(argv, &n, plan->argv[0]);
	/* A scenario may say otherwise. */
	add_arg(argv, &n, "-no-reboot");
	for (int i = 1; i < plan->argc; i++)
		add_arg(argv, &n, plan->argv[i]);
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		add_arg(argv, &n, ours[i]);
	argv[n] = NULL;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(argv[0], argv);
		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	return pid;
}

static void fail(struct nested *n, const char *why)
{
	const char *phase = n->phase < n->plan->nphases ?
			    n->plan->phases[n->phase].name : "power-off";

	report_test(phase, "fail", "%s", why);
	n->done = true;
}

static void set_deadline(struct nested *n)
{
	unsigned int s = n->phase < n->plan->nphases ?
			 n->plan->phases[n->phase].seconds : 60;

	n->deadline = now_ns() + s * 1000000000ull;
}

static bool start_counting(struct nested *n)
{
	const char *trace = n->plan->trace;

	if (trace && !strcmp(trace, "off"))
		return !trace_read(&n->start);
	return !(trace && trace_use(trace)) && !trace_setup(n->plan) &&
	       !trace_read(&n->start);
}

static void phase_end(struct nested *n, const char *name)
{
	struct snapshot snap;
	struct stats stats;

	if (n->phase >= n->plan->nphases ||
	    strcmp(name, n->plan->phases[n->phase].name)) {
		fail(n, "infrastructure: the guest marks another phase");
		return;
	}
	if (trace_read(&snap) || qmp_stats(n->qmp, &stats)) {
		fail(n, "infrastructure: the counters can't be read");
		return;
	}
	verdict_phase(name, &n->last, &snap, &n->stats, &stats);
	report_test(name, "pass", "the guest got there");
	n->stats = stats;
	n->phase++;
	if (n->plan->quiet_phase && n->phase == 1 && !start_counting(n)) {
		fail(n, "infrastructure: tracing, see the console");
		return;
	}
	if (n->phase == n->plan->nphases)
		verdict_compare(n->plan, &n->start, &snap, &stats);
	set_deadline(n);
	/* Reading the counters took time, and isn't the guest's. */
	trace_read(&n->last);
	if (write(n->mark_out, "go\n", 3) != 3)
		fail(n, "infrastructure: the guest can't be told to go on");
}

/* What the guest says on its second serial port, see guest/init.c. */
static void mark(struct nested *n, char *line)
{
	char *word = strchr(line, ' ');

	if (line[0] != '@' || !word)
		return;	/* the firmware may write here too */
	*word++ = '\0';
	word[strcspn(word, "\r")] = '\0';
	if (!strcmp(line, "@phase"))
		phase_end(n, word);
	else if (!strcmp(line, "@digest"))
		report("digest phase=%s %s", n->phase < n->plan->nphases ?
		       n->plan->phases[n->phase].name : "power-off", word);
	else if (!strcmp(line, "@batches"))
		report("batches %s", word);
	else if (!strcmp(line, "@fail"))
		fail(n, word);
}

static void read_marks(struct nested *n)
{
	char c;

	while (!n->done && read(n->mark_in, &c, 1) == 1) {
		if (c != '\n') {
			if (n->len < sizeof(n->line) - 1)
				n->line[n->len++] = c;
			continue;
		}
		n->line[n->len] = '\0';
		n->len = 0;
		mark(n, n->line);
	}
}

static void console_byte(struct nested *n, char c)
{
	if (c == '\n' || n->textlen == sizeof(n->text) - 1) {
		n->text[n->textlen] = '\0';
		n->textlen = 0;
		if (strstr(n->text, "Kernel panic - not syncing"))
			n->panicked = true;
		printf("guest| %s\n", n->text);
	} else if ((unsigned char)c >= ' ') {
		n->text[n->textlen++] = c;
	}
}

static void read_console(struct nested *n)
{
	char buf[512];
	ssize_t got;

	while ((got = read(n->console, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < got; i++)
			console_byte(n, buf[i]);
	fflush(stdout);
}

static const char *ending(struct nested *n)
{
	static char why[128];
	const char *reason = qmp_shutdown_reason(n->qmp);

	if (n->panicked)
		return "guest-crash: the guest's kernel panicked";
	if (!strcmp(reason, "internal-error"))
		return "guest-crash: KVM stopped the guest, internal error";
	if (n->exited && WIFSIGNALED(n->status))
		snprintf(why, sizeof(why), "qemu-exit: killed by signal %d",
			 WTERMSIG(n->status));
	else if (n->exited && WEXITSTATUS(n->status))
		snprintf(why, sizeof(why), "qemu-exit: status %d",
			 WEXITSTATUS(n->status));
	else if (!strcmp(reason, "guest-reset"))
		return "guest-crash: reset or triple fault";
	else if (n->phase < n->plan->nphases)
		snprintf(why, sizeof(why), "guest-crash: ended early (%s)",
			 reason[0] ? reason : "no reason");
	else
		return NULL;
	return why;
}

static void reap(struct nested *n, int flags)
{
	if (!n->exited && waitpid(n->pid, &n->status, flags) == n->pid)
		n->exited = true;
}

static void settle(struct nested *n)
{
	const char *why;

	read_console(n);
	read_marks(n);
	qmp_poll(n->qmp);
	if (n->done)
		return;
	why = ending(n);
	if (why)
		fail(n, why);
	else
		report_test("power-off", "pass", "guest-shutdown, status 0");
	n->done = true;
}

static void tick(struct nested *n)
{
	uint64_t now = now_ns();

	if (now >= n->deadline)
		fail(n, "time-out: of host virtual time");
	if (now < n->tick)
		return;
	report("tick ns=%llu", (unsigned long long)now);
	n->tick = now + 1000000000ull;
}

static void follow(struct nested *n)
{
	struct pollfd pfd[] = {
		{ .fd = n->console, .events = POLLIN },
		{ .fd = n->mark_in, .events = POLLIN },
	};

	while (!n->done) {
		poll(pfd, ARRAY_SIZE(pfd), 200);
		read_console(n);
		read_marks(n);
		if (n->done)
			break;
		reap(n, WNOHANG);
		if (n->exited ||
		    (qmp_poll(n->qmp) &&
		     !strcmp(qmp_shutdown_reason(n->qmp), "internal-error")))
			settle(n);
		else
			tick(n);
	}
	if (!n->exited) {
		kill_child(n->pid);
		reap(n, 0);
	}
}

static int open_pipes(struct nested *n)
{
	int qmp_in = pipe_end("qmp", "out"), qmp_out = pipe_end("qmp", "in");

	n->console = pipe_end("console", "out");
	n->mark_in = pipe_end("mark", "out");
	n->mark_out = pipe_end("mark", "in");
	/* QEMU opens both ends of each. */
	if (pipe_end("console", "in") < 0 || n->console < 0 ||
	    n->mark_in < 0 || n->mark_out < 0 || qmp_in < 0 || qmp_out < 0)
		return -EIO;
	fcntl(n->console, F_SETFL, O_NONBLOCK);
	fcntl(n->mark_in, F_SETFL, O_NONBLOCK);
	n->qmp = qmp_open(qmp_in, qmp_out);
	return 0;
}

/* @json, or NULL for the greeting.  The pipe does not tell of QEMU's end. */
static bool ask(struct nested *n, const char *json)
{
	int err = qmp_command(n->qmp, json, NULL, 1);

	for (int s = 1; s < 60 && err == -ETIMEDOUT && !n->exited; s++) {
		reap(n, WNOHANG);
		err = qmp_command(n->qmp, NULL, NULL, 1);
	}
	return !err;
}

static void greet(struct nested *n)
{
	if (ask(n, NULL) && ask(n, "{\"execute\":\"qmp_capabilities\"}\n"))
		return;
	reap(n, WNOHANG);
	read_console(n);
	fail(n, n->exited ? "qemu-exit: before the guest ran" :
	     "infrastructure: no answer on QMP");
}

/*
 * What the guest left in its flash, FNV-1a: the same under every policy.  The
 * option names the file last.
 */
static void digest_store(const struct plan *plan)
{
	uint64_t h = 0xcbf29ce484222325;
	const char *path = NULL;
	FILE *f;
	int c;

	for (int i = 0; i < plan->argc; i++)
		if (strstr(plan->argv[i], "if=pflash") &&
		    strstr(plan->argv[i], "unit=1") &&
		    !strstr(plan->argv[i], "readonly=on"))
			path = strstr(plan->argv[i], "file=");
	if (!path)
		return;
	f = fopen(path + strlen("file="), "r");
	if (!f) {
		report_test("store", "fail", "infrastructure: %s: %s", path,
			    strerror(errno));
		return;
	}
	while ((c = getc(f)) != EOF)
		h = (h ^ (unsigned char)c) * 0x100000001b3;
	fclose(f);
	report("digest phase=power-off name=store value=%016llx",
	       (unsigned long long)h);
}

void nested_run(const struct plan *plan)
{
	static struct nested n;

	n.plan = plan;
	if (open_pipes(&n)) {
		report_test("setup", "fail", "infrastructure: pipes");
		return;
	}
	/* Without probes there is nothing to read, but for the time. */
	if (plan->quiet_phase ? trace_read(&n.start) : !start_counting(&n)) {
		report_test("setup", "fail",
			    "infrastructure: tracing, see the console");
		return;
	}
	n.last = n.start;
	set_deadline(&n);
	n.pid = start(plan);
	if (n.pid < 0) {
		report_test("setup", "fail", "infrastructure: fork: %s",
			    strerror(errno));
		return;
	}
	greet(&n);
	follow(&n);
	digest_store(plan);
}
