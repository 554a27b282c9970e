/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The verdict channel: numbered lines on a serial port (or, on a machine that
 * is no emulated host, in a file) of their own, so that console noise can't
 * fake a pass and a lost line can't go unseen.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#include "lab.h"

static int channel = -1;
static unsigned int seq, passed, failed, skipped;

int report_open(const char *path)
{
	struct termios t;

	channel = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_APPEND);
	if (channel < 0)
		return -errno;
	if (!isatty(channel))
		return 0;
	if (tcgetattr(channel, &t))
		return -errno;
	cfmakeraw(&t);
	cfsetspeed(&t, B115200);
	if (tcsetattr(channel, TCSANOW, &t))
		return -errno;
	return 0;
}

static void put(const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(channel, text, len);

		if (n <= 0)
			return;	/* the gap in the numbers tells */
		text += n;
		len -= n;
	}
}

static void put_line(const char *text)
{
	char line[600];
	int len;

	len = snprintf(line, sizeof(line), "%u %s\n", seq++, text);
	if (len >= (int)sizeof(line)) {
		len = sizeof(line) - 1;
		line[len - 1] = '\n';
	}
	put(line, len);
}

void report(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put_line(text);
}

/* @result is pass, fail or skip; the rest says why, as one line. */
void report_test(const char *name, const char *result, const char *fmt, ...)
{
	char why[384];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	for (char *p = why; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	if (!strcmp(result, "pass"))
		passed++;
	else if (!strcmp(result, "skip"))
		skipped++;
	else
		failed++;
	report("test name=%s result=%s reason=%s", name, result, why);
}

static const char *vendor(void)
{
	char *text = read_file("/proc/cpuinfo");
	const char *name = "unknown";

	if (text && strstr(text, "AuthenticAMD"))
		name = "AMD";
	else if (text && strstr(text, "GenuineIntel"))
		name = "Intel";
	free(text);
	return name;
}

void report_begin(const char *scenario, const char *run)
{
	struct utsname uts;

	uname(&uts);
	report("begin scenario=%s run=%s vendor=%s kernel=%s", scenario, run,
	       vendor(), uts.release);
}

/* The power goes off next: wait until the last byte has left the port. */
void report_end(void)
{
	report("end passed=%u failed=%u skipped=%u", passed, failed, skipped);
	tcdrain(channel);
	tcdrain(STDOUT_FILENO);
	usleep(50000);	/* the shift register and FIFO behind TIOCOUTQ */
}
