/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Just enough of QMP: one JSON value a line, events in between.  The scanner
 * of query-stats relies on the innermost objects holding one statistic each.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab.h"

struct qmp {
	int in, out;
	char *buf;
	size_t len, room;
	char reason[32];
	bool shut;
};

struct qmp *qmp_open(int in, int out)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	qmp->in = in;
	qmp->out = out;
	qmp->room = 65536;
	qmp->buf = malloc(qmp->room);
	fcntl(in, F_SETFL, O_NONBLOCK);
	return qmp;
}

static void fill(struct qmp *qmp)
{
	ssize_t n;

	for (;;) {
		if (qmp->len + 4096 > qmp->room)
			qmp->buf = realloc(qmp->buf, qmp->room *= 2);
		n = read(qmp->in, qmp->buf + qmp->len, 4096);
		if (n <= 0)
			return;
		qmp->len += n;
	}
}

/* The next whole line, malloc'd; NULL if there is none yet. */
static char *take_line(struct qmp *qmp)
{
	char *nl = memchr(qmp->buf, '\n', qmp->len), *line;
	size_t n;

	if (!nl)
		return NULL;
	n = nl - qmp->buf;
	line = strndup(qmp->buf, n);
	qmp->len -= n + 1;
	memmove(qmp->buf, nl + 1, qmp->len);
	return line;
}

static void copy_value(char *to, size_t size, const char *line, const char *key)
{
	const char *at = strstr(line, key);

	if (at && (at = strchr(at + strlen(key), '"')))
		snprintf(to, size, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

static void event(struct qmp *qmp, const char *line)
{
	char name[32] = "";

	copy_value(name, sizeof(name), line, "\"event\":");
	if (!strcmp(name, "SHUTDOWN")) {
		qmp->shut = true;
		copy_value(qmp->reason, sizeof(qmp->reason), line, "\"reason\":");
	} else if (!strcmp(name, "STOP") && !qmp->shut) {
		/* Nobody but KVM stops this guest: an internal error. */
		qmp->shut = true;
		strcpy(qmp->reason, "internal-error");
	}
}

bool qmp_poll(struct qmp *qmp)
{
	char *line;

	fill(qmp);
	while ((line = take_line(qmp))) {
		if (strstr(line, "\"event\":"))
			event(qmp, line);
		free(line);
	}
	return qmp->shut;
}

const char *qmp_shutdown_reason(struct qmp *qmp)
{
	return qmp->reason;
}

static char *next_reply(struct qmp *qmp, uint64_t deadline)
{
	struct pollfd pfd = { .fd = qmp->in, .events = POLLIN };
	char *line;

	for (;;) {
		fill(qmp);
		while ((line = take_line(qmp))) {
			if (!strstr(line, "\"event\":"))
				return line;
			event(qmp, line);
			free(line);
		}
		if (now_ns() >= deadline)
			return NULL;
		poll(&pfd, 1, 100);
	}
}

/* @json NULL waits for the greeting. */
int qmp_command(struct qmp *qmp, const char *json, char **reply,
		unsigned int seconds)
{
	uint64_t deadline = now_ns() + seconds * 1000000000ull;
	char *line;
	int err = 0;

	if (json && write(qmp->out, json, strlen(json)) != (ssize_t)strlen(json))
		return -EIO;
	line = next_reply(qmp, deadline);
	if (!line)
		return -ETIMEDOUT;
	if (strstr(line, "\"error\":")) {
		say("QMP: %s", line);
		err = -EPROTO;
	}
	if (reply && !err)
		*reply = line;
	else
		free(line);
	return err;
}

static void add_stat(struct stats *stats, const char *name, uint64_t value)
{
	for (int i = 0; i < stats->count; i++) {
		if (!strcmp(stats->item[i].name, name)) {
			stats->item[i].value += value;
			return;
		}
	}
	if (stats->count == MAX_STATS)
		return;
	snprintf(stats->item[stats->count].name,
		 sizeof(stats->item[0].name), "%s", name);
	stats->item[stats->count++].value = value;
}

/* @object is the text between the braces of one innermost object. */
static void scan_object(struct stats *stats, const char *object)
{
	const char *value = strstr(object, "\"value\":");
	char name[56] = "";
	char *end;
	uint64_t n;

	copy_value(name, sizeof(name), object, "\"name\":");
	if (!value || !name[0])
		return;
	value += strlen("\"value\":");
	n = strtoull(value, &end, 10);
	if (end != value)
		add_stat(stats, name, n);
}

static void scan_reply(struct stats *stats, char *text)
{
	char *open = NULL;

	for (char *p = text; *p; p++) {
		if (*p == '{') {
			open = p;
		} else if (*p == '}' && open) {
			*p = '\0';
			scan_object(stats, open + 1);
			open = NULL;
		}
	}
}

int qmp_stats(struct qmp *qmp, struct stats *stats)
{
	static const char *const target[] = { "vm", "vcpu" };
	char json[96], *reply;
	int err;

	memset(stats, 0, sizeof(*stats));
	for (size_t i = 0; i < ARRAY_SIZE(target); i++) {
		snprintf(json, sizeof(json), "{\"execute\":\"query-stats\","
			 "\"arguments\":{\"target\":\"%s\"}}\n", target[i]);
		err = qmp_command(qmp, json, &reply, 60);
		if (err)
			return err;
		scan_reply(stats, reply);
		free(reply);
	}
	return 0;
}

bool stats_find(const struct stats *stats, const char *name, uint64_t *value)
{
	for (int i = 0; i < stats->count; i++) {
		if (!strcmp(stats->item[i].name, name)) {
			*value = stats->item[i].value;
			return true;
		}
	}
	return false;
}
