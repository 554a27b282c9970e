/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The workload that a user feels: each write of a UEFI variable sends every
 * vCPU into SMM and flips the flash out of romd mode and back; on a KVM that
 * drops the whole VM's page tables for it, all memory has to be faulted in
 * again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define MIB (1024ul * 1024)
#define FILL "/fill/data"
#define EFIVARS "/sys/firmware/efi/efivars"
#define VARIABLE EFIVARS "/PerennialLab-20549000-9c1c-4b5e-8d4e-5c0e1b3a7f11"
#define SECURE_BOOT EFIVARS "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define DBX EFIVARS "/dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
#define ATTRIBUTES 7u	/* non-volatile, boot and run time access */

static void load_efivarfs(void)
{
	int fd = open("/efivarfs.ko", O_RDONLY);

	if (fd < 0)
		return;	/* built in */
	if (syscall(SYS_finit_module, fd, "", 0))
		give_up("efivarfs.ko");
	close(fd);
}

static void mount_efivars(void)
{
	load_efivarfs();
	if (mount("none", EFIVARS, "efivarfs", 0, NULL))
		give_up(EFIVARS);
}

/* Is Secure Boot on?  The variable's fifth byte, after its attributes, says. */
static void check_secure_boot(bool wanted)
{
	char buf[8];
	bool on = read_text(SECURE_BOOT, buf, sizeof(buf)) == 5 && buf[4] == 1;

	mark("@digest name=secure-boot value=%d", on);
	if (wanted && !on) {
		errno = EPERM;
		give_up("Secure Boot is off");
	}
}

static uint64_t *fill(unsigned long mib)
{
	char options[32];
	uint64_t *words, x = 20549;
	int fd;

	snprintf(options, sizeof(options), "size=%lum", mib + 1);
	mkdir("/fill", 0755);
	if (mount("none", "/fill", "tmpfs", 0, options))
		give_up("/fill");
	fd = open(FILL, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, mib * MIB))
		give_up(FILL);
	words = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		give_up(FILL);
	for (unsigned long i = 0; i < mib * MIB / sizeof(*words); i += 64) {
		x = x * 6364136223846793005 + 1442695040888963407;
		words[i] = x;
	}
	return words;
}

/* Every eighth of each page, what fill() wrote: faults are what is measured. */
static uint64_t sum(const uint64_t *words, unsigned long mib)
{
	uint64_t h = 0;

	for (unsigned long i = 0; i < mib * MIB / sizeof(*words); i += 64)
		h = (h ^ words[i]) * 0x100000001b3;
	return h;
}

/*
 * Opened once: efivarfs makes what is created here immutable, so that only the
 * descriptor that created it may write.  Each write is one SetVariable().
 */
static int create_variable(void)
{
	int fd = open(VARIABLE, O_WRONLY | O_CREAT, 0600);

	if (fd < 0)
		give_up(VARIABLE);
	return fd;
}

static void write_variable(int fd, unsigned long round)
{
	struct {
		uint32_t attributes;
		char text[28];
	} var = { .attributes = ATTRIBUTES };

	snprintf(var.text, sizeof(var.text), "round %lu", round);
	if (write(fd, &var, sizeof(var)) != sizeof(var))
		give_up(VARIABLE);
}

static uint64_t read_variable(void)
{
	char buf[64];
	ssize_t n = read_text(VARIABLE, buf, sizeof(buf));

	if (n < 0)
		give_up(VARIABLE);
	return hash(0, buf, n);
}

void uefi_vars(unsigned long mib, unsigned long rounds, bool secure_boot)
{
	uint64_t *words, expected;
	int fd;

	mount_efivars();
	check_secure_boot(secure_boot);
	words = fill(mib);
	expected = sum(words, mib);
	fd = create_variable();
	phase_end("fill");
	for (unsigned long i = 0; i < rounds; i++) {
		write_variable(fd, i);
		if (sum(words, mib) != expected) {
			errno = EIO;
			give_up("the memory read back differs");
		}
	}
	mark("@digest name=memory value=%016llx", (unsigned long long)expected);
	mark("@digest name=variable value=%016llx", (unsigned long long)read_variable());
	phase_end("uefi-vars");
}

static uint64_t write_large(int fd, uint8_t *var, unsigned long size,
			    unsigned long round)
{
	uint32_t attributes = ATTRIBUTES;

	memcpy(var, &attributes, sizeof(attributes));
	for (unsigned long i = 0; i < size; i++)
		var[sizeof(attributes) + i] = i * 7 + round;
	if (write(fd, var, sizeof(attributes) + size) !=
	    (ssize_t)(sizeof(attributes) + size))
		give_up(VARIABLE);
	return hash(0, var, sizeof(attributes) + size);
}

/* What an operating system writes, signed: /dbx.0, /dbx.1, ... one after the other */
static void write_dbx(int fd, unsigned long round)
{
	static char update[64 << 10];
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/dbx.%lu", round);
	n = read_text(path, update, sizeof(update));
	if (n < 0)
		give_up(path);
	if (write(fd, update, n) != n)
		give_up(DBX);
}

/* The other CPUs may still be on their way out of SMM: let none be counted half. */
static void smm_phase_end(const char *name)
{
	usleep(1000);
	phase_end(name);
}

void large_vars(unsigned long size, unsigned long rounds, unsigned long updates,
		bool secure_boot)
{
	uint64_t expected = 0;
	uint8_t *var;
	ssize_t n;
	int fd;

	mount_efivars();
	check_secure_boot(secure_boot);
	var = malloc(2 * size + 64);
	fd = create_variable();
	phase_end("mount");
	for (unsigned long i = 0; i < rounds; i++)
		expected = write_large(fd, var, size, i);
	smm_phase_end("nvram-large");
	n = read_text(VARIABLE, (char *)var, 2 * size + 64);
	if (n < 0 || hash(0, var, n) != expected) {
		errno = EIO;
		give_up("the variable read back differs");
	}
	fd = open(DBX, O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		give_up(DBX);
	for (unsigned long i = 0; i < updates; i++)
		write_dbx(fd, i);
	smm_phase_end("dbx");
}
