/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nested guest's init.  It says where it is on ttyS1 and waits for leave
 * to go on, so that the host can take its counters in between:
 *
 *   @phase NAME              the phase is over; wait for a line from the host
 *   @digest name=N value=V   what the guest saw: has to be the same under
 *                            every policy
 *   @fail WHY                the guest itself found something wrong
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "guest.h"

static int channel;

void mark(const char *fmt, ...)
{
	char line[400];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (len > (int)sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	if (write(channel, line, len) != len)
		printf("ttyS1: %s\n", strerror(errno));
}

void give_up(const char *what)
{
	mark("@fail guest: %s: %s", what, strerror(errno));
	tcdrain(channel);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

void phase_end(const char *name)
{
	char c = 0;

	mark("@phase %s", name);
	while (c != '\n')
		if (read(channel, &c, 1) != 1)
			give_up("ttyS1");
}

/* Value of lab.NAME= on the command line, or @otherwise. */
static unsigned long option(const char *cmdline, const char *name,
			    unsigned long otherwise)
{
	char key[40];
	const char *at;

	snprintf(key, sizeof(key), " lab.%s=", name);
	at = strstr(cmdline, key);
	return at ? strtoul(at + strlen(key), NULL, 10) : otherwise;
}

static void open_channel(void)
{
	struct termios t;

	channel = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
	if (channel < 0 || tcgetattr(channel, &t))
		give_up("ttyS1");
	cfmakeraw(&t);
	tcsetattr(channel, TCSANOW, &t);
}

static void mount_at(const char *dir, const char *type, const char *options)
{
	mkdir(dir, 0755);
	if (mount("none", dir, type, 0, options))
		give_up(dir);
}

int main(void)
{
	char cmdline[2048] = " ";
	unsigned long size;

	mount_at("/dev", "devtmpfs", NULL);
	open_channel();
	mount_at("/proc", "proc", NULL);
	mount_at("/sys", "sysfs", NULL);
	if (read_text("/proc/cmdline", cmdline + 1, sizeof(cmdline) - 1) < 0)
		give_up("/proc/cmdline");
	digest_machine();
	phase_end("boot");
	size = option(cmdline, "size", 0);
	if (size)
		uefi_vars(size, option(cmdline, "rounds", 10),
			  option(cmdline, "secure-boot", 0));
	size = option(cmdline, "variable-size", 0);
	if (size)
		large_vars(size, option(cmdline, "rounds", 10),
			   option(cmdline, "dbx-updates", 0),
			   option(cmdline, "secure-boot", 0));
	tcdrain(channel);
	reboot(RB_POWER_OFF);
	give_up("power off");
}
