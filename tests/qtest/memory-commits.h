/*
 * Counts the commits of QEMU's memory map, for qtests
 *
 * Needs no KVM: each commit that may have changed something makes a FlatView
 * for each address space that differs from the others, and flatview_new traces
 * that. QEMU must be built with the trace backend "log".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_MEMORY_COMMITS_H
#define TESTS_MEMORY_COMMITS_H

#include "libqtest.h"

typedef struct CommitLog {
    QTestState *qts;
    char *path;
    long seen;              /* bytes */
} CommitLog;

/* Returns the number of commits since the last call, or since the start */
static inline unsigned commits(CommitLog *log)
{
    g_autoptr(GHashTable) roots =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    FILE *f = fopen(log->path, "r");
    unsigned most = 0;
    char line[512], root[128];

    g_assert_nonnull(f);
    g_assert_cmpint(fseek(f, log->seen, SEEK_SET), ==, 0);
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "flatview_new %*s (root %127[^)\n]", root) == 1) {
            uintptr_t n = 1 + (uintptr_t)g_hash_table_lookup(roots, root);

            /* One for each root: a root's own count is that of the commits */
            g_hash_table_replace(roots, g_strdup(root), (void *)n);
            most = MAX(most, n);
        }
    }
    log->seen = ftell(f);
    fclose(f);
    return most;
}

/* Like qtest_init(). Returns false, the test skipped, if QEMU can't trace. */
static inline bool commits_start(CommitLog *log, const char *args)
{
    g_autoptr(GError) err = NULL;
    int fd = g_file_open_tmp("qtest-commits-XXXXXX", &log->path, &err);

    g_assert_no_error(err);
    close(fd);
    log->seen = 0;
    log->qts = qtest_initf("-nodefaults -display none %s "
                           "-trace flatview_new -D %s", args, log->path);
    if (!commits(log)) {
        g_test_skip("QEMU has not the trace backend log");
        qtest_quit(log->qts);
        unlink(log->path);
        g_free(log->path);
        return false;
    }
    return true;
}

static inline void commits_quit(CommitLog *log)
{
    qtest_quit(log->qts);
    unlink(log->path);
    g_free(log->path);
}

/*
 * Returns what `info mtree -f` says of address space @as: the lines of its
 * FlatView. The caller frees it.
 */
static inline char *flatview(QTestState *qts, const char *as)
{
    g_autofree char *text = qtest_hmp(qts, "info mtree -f");
    g_autofree char *name = g_strdup_printf(" AS \"%s\",", as);
    g_auto(GStrv) views = g_strsplit(text, "FlatView #", -1);
    char **v;

    for (v = views; *v; v++) {
        char *ranges = strstr(*v, " Root memory region:");

        if (strstr(*v, name) && ranges) {
            return g_strdup(strchr(ranges, '\n') ?: "");
        }
    }
    return g_strdup("");
}

#endif
