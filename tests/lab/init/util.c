/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lab.h"

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static int put_file(const char *path, int flags, const char *text)
{
	size_t len = strlen(text);
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags);
	ssize_t n;
	int err;

	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	err = n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
	close(fd);
	return err;
}

int write_file(const char *path, const char *text)
{
	return put_file(path, O_TRUNC, text);
}

int append_file(const char *path, const char *text)
{
	return put_file(path, O_APPEND, text);
}

char *read_file(const char *path)
{
	size_t len = 0, room = 4096;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text;
	ssize_t n;

	if (fd < 0)
		return NULL;
	text = malloc(room);
	while (text && (n = read(fd, text + len, room - len - 1)) > 0) {
		len += n;
		if (len + 1 == room)
			text = realloc(text, room *= 2);
	}
	close(fd);
	if (text)
		text[len] = '\0';
	return text;
}

/* For the person who reads the console; no verdict is taken from it. */
void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("lab: ");
	vprintf(fmt, ap);
	printf("\n");
	fflush(stdout);
	va_end(ap);
}

/* 0 and -1, which fork() returns when it fails, are many processes. */
void kill_child(pid_t pid)
{
	assert(pid > 0);
	kill(pid, SIGKILL);
}
