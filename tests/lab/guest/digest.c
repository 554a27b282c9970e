/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

ssize_t read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -1;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += n;
	close(fd);
	buf[len] = '\0';
	return len;
}

/* FNV-1a over words: quick, and enough to see that two runs differ. */
uint64_t hash(uint64_t seed, const void *data, size_t len)
{
	const uint64_t *word = data;
	const unsigned char *byte;
	uint64_t h = seed ^ 0xcbf29ce484222325;

	for (; len >= 8; len -= 8)
		h = (h ^ *word++) * 0x100000001b3;
	for (byte = (const void *)word; len; len--)
		h = (h ^ *byte++) * 0x100000001b3;
	return h;
}

static void digest_file(const char *name, const char *path)
{
	static char text[65536];
	ssize_t len = read_text(path, text, sizeof(text));

	if (len >= 0)
		mark("@digest name=%s value=%016llx", name,
		     (unsigned long long)hash(0, text, len));
}

/* CPUID as the guest sees it, without the APIC ids that a vCPU adds. */
static void digest_cpuid(void)
{
	static const uint32_t leaf[] = {
		0, 2, 5, 6, 0x80000000, 0x80000001, 0x80000002, 0x80000003,
		0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008,
		0x8000000a,
	};
	uint64_t h = 0;

	for (size_t i = 0; i < sizeof(leaf) / sizeof(leaf[0]); i++) {
		uint32_t r[4] = { leaf[i], 0, 0, 0 };

		asm volatile("cpuid" : "+a"(r[0]), "=b"(r[1]), "+c"(r[2]),
			     "=d"(r[3]));
		h = hash(h, r, sizeof(r));
	}
	mark("@digest name=cpuid value=%016llx", (unsigned long long)h);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* The firmware's memory map as the kernel got it. */
static void digest_memory_map(void)
{
	static const char *const part[] = { "start", "end", "type" };
	struct dirent **entry;
	char path[512], text[64];
	uint64_t h = 0;
	int n = scandir("/sys/firmware/memmap", &entry, NULL, by_name);

	for (int i = 0; i < n; i++) {
		for (int p = 0; entry[i]->d_name[0] != '.' && p < 3; p++) {
			ssize_t len;

			snprintf(path, sizeof(path), "/sys/firmware/memmap/%s/%s",
				 entry[i]->d_name, part[p]);
			len = read_text(path, text, sizeof(text));
			if (len > 0)
				h = hash(h, text, len);
		}
	}
	mark("@digest name=memory-map value=%016llx", (unsigned long long)h);
}

void digest_machine(void)
{
	digest_cpuid();
	digest_memory_map();
	digest_file("iomem", "/proc/iomem");
	digest_file("pci", "/proc/bus/pci/devices");
	digest_file("mtrr", "/proc/mtrr");
	digest_file("version", "/proc/version");
}
