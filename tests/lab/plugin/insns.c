/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TCG plugin that counts the instructions of each translated block that are
 * executed, for an emulator with one thread:
 *
 *   -plugin libinsns.so,out=FILE
 *
 * FILE gets a line for each block: its address in hexadecimal, and the count.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <glib.h>
#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

struct block {
	uint64_t vaddr;		/* two address spaces may share it: one sum */
	size_t insns;
	uint64_t count;
};

static GPtrArray *blocks;
static GMutex lock;
static char *out;

static void executed(unsigned int vcpu, void *opaque)
{
	struct block *block = opaque;

	block->count += block->insns;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	struct block *block = g_new0(struct block, 1);

	block->vaddr = qemu_plugin_tb_vaddr(tb);
	block->insns = qemu_plugin_tb_n_insns(tb);
	g_mutex_lock(&lock);
	g_ptr_array_add(blocks, block);
	g_mutex_unlock(&lock);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed,
					     QEMU_PLUGIN_CB_NO_REGS, block);
}

static void ended(qemu_plugin_id_t id, void *opaque)
{
	FILE *f = fopen(out, "w");

	if (!f) {
		perror(out);
		return;
	}
	for (guint i = 0; i < blocks->len; i++) {
		struct block *block = g_ptr_array_index(blocks, i);

		if (block->count)
			fprintf(f, "%" PRIx64 " %" PRIu64 "\n", block->vaddr,
				block->count);
	}
	if (fclose(f))
		perror(out);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
					   const qemu_info_t *info, int argc,
					   char **argv)
{
	if (argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "insns: out=FILE is missing\n");
		return -1;
	}
	out = g_strdup(argv[0] + 4);
	blocks = g_ptr_array_new();
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
