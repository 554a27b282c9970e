/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/module.h>

#include "lab.h"

#define PLAN "/lab/plan"
#define MODULES "/lab/modules"

static const struct {
	const char *type, *dir;
} mounts[] = {
	{ "devtmpfs", "/dev" },
	{ "proc", "/proc" },
	{ "sysfs", "/sys" },
	{ "tmpfs", "/run" },
	{ "tmpfs", "/tmp" },
	{ "tmpfs", "/dev/shm" },
	{ "debugfs", "/sys/kernel/debug" },
	{ "tracefs", "/sys/kernel/tracing" },
};

static int mount_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].dir, 0755);
		if (mount("none", mounts[i].dir, mounts[i].type, 0, NULL) &&
		    errno != EBUSY) {
			say("mount %s: %s", mounts[i].dir, strerror(errno));
			return -errno;
		}
	}
	return 0;
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Those of a kernel that has KVM as modules, in the order of their names. */
static int load_modules(void)
{
	struct dirent **name;
	char path[300];
	int n = scandir(MODULES, &name, visible, alphasort), fd;

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), MODULES "/%s", name[i]->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0 || syscall(SYS_finit_module, fd, "",
				      MODULE_INIT_COMPRESSED_FILE)) {
			say("%s: %s", path, strerror(errno));
			return -errno;
		}
		close(fd);
	}
	return 0;
}

/*
 * The command line names the run too: a plan of another run would make a
 * comparison of a thing with itself.
 */
static bool plan_is_meant(const struct plan *plan)
{
	char *cmdline = read_file("/proc/cmdline");
	char word[80];
	bool meant;

	snprintf(word, sizeof(word), "lab.run=%s", plan->run);
	meant = cmdline && strstr(cmdline, word);
	free(cmdline);
	return meant;
}

static int set_huge_pages(bool on)
{
	return write_file("/sys/kernel/mm/transparent_hugepage/enabled",
			  on ? "always" : "never");
}

static void run(const struct plan *plan)
{
	report_begin(plan->scenario, plan->run);
	if (!plan_is_meant(plan))
		report_test("plan", "fail", "infrastructure: plan is of another run");
	else if (load_modules())
		report_test("modules", "fail",
			    "infrastructure: modules, see the console");
	else if (access("/dev/kvm", R_OK | W_OK))
		report_test("kvm", "fail", "infrastructure: no /dev/kvm");
	else if (set_huge_pages(plan->huge_pages))
		report_test("thp", "fail", "infrastructure: can't set huge pages");
	else if (!strcmp(plan->kind, "nested") && chdir("/run"))
		report_test("run", "fail", "infrastructure: no /run");
	else if (!strcmp(plan->kind, "nested"))
		nested_run(plan);
	else if (!strcmp(plan->kind, "programs"))
		programs_run(plan);
	else
		program_run(plan);
	if (plan->debug)
		debug_check();
}

int main(void)
{
	static struct plan plan;
	int err;

	if (mount_all() == 0) {
		err = report_open("/dev/ttyS1");
		if (err)
			say("ttyS1: %s", strerror(-err));
		err = plan_load(&plan, PLAN);
		if (err)
			say(PLAN ": %s", strerror(-err));
		else
			run(&plan);
		report_end();
	}
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
