/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LAB_GUEST_H
#define LAB_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

void mark(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void give_up(const char *what) __attribute__((noreturn));
void phase_end(const char *name);

ssize_t read_text(const char *path, char *buf, size_t size);
uint64_t hash(uint64_t seed, const void *data, size_t len);

/* What the guest can see of its machine. */
void digest_machine(void);

/* Fill @mib of memory, then @rounds times write a UEFI variable and read all. */
void uefi_vars(unsigned long mib, unsigned long rounds, bool secure_boot);

/* @rounds times write a UEFI variable of @size bytes, then @updates of dbx. */
void large_vars(unsigned long size, unsigned long rounds, unsigned long updates,
		bool secure_boot);

#endif
