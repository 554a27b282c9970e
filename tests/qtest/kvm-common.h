/*
 * What the qtests on KVM share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_KVM_COMMON_H
#define TESTS_QTEST_KVM_COMMON_H

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

/* The hosts that tests run on are emulated themselves, and slow. */
#define TIMEOUT_US      (120 * G_USEC_PER_SEC)

/*
 * Any KVM may be there, and lack what a test wants: none is used unless the
 * environment says in KVM_ROOT_TEST_HOST what it is.  Returns false with the
 * test skipped, or failed if there has to be a KVM and is none.
 */
static inline bool have_kvm_or_skip(void)
{
    if (!g_getenv("KVM_ROOT_TEST_HOST")) {
        g_test_skip("KVM_ROOT_TEST_HOST is not set: no KVM is used");
        return false;
    }
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        g_test_message("KVM_ROOT_TEST_HOST is set, but there is no KVM");
        g_test_fail();
        return false;
    }
    return true;
}

/* NULL before the first migration */
static inline char *migration_status(QTestState *qts)
{
    QDict *info = qtest_qmp_assert_success_ref(qts,
                                               "{'execute': 'query-migrate'}");
    char *status = g_strdup(qdict_get_try_str(info, "status"));

    qobject_unref(info);
    return status;
}

static inline void wait_for_migration(QTestState *qts, const char *status)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;

    for (;;) {
        g_autofree char *is = migration_status(qts);

        if (!g_strcmp0(is, status)) {
            return;
        }
        if (!g_strcmp0(is, "failed") || g_get_monotonic_time() > end) {
            g_error("migration is %s, should be %s", is, status);
        }
        g_usleep(10000);
    }
}

/* Run a job that is called "job" to its end; it must succeed */
static inline void G_GNUC_PRINTF(2, 3)
run_job(QTestState *qts, const char *fmt, ...)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    bool concluded = false;
    va_list ap;

    va_start(ap, fmt);
    qtest_qmp_vsend(qts, fmt, ap);
    va_end(ap);
    qobject_unref(qtest_qmp_receive(qts));

    while (!concluded) {
        QDict *response = qtest_qmp(qts, "{'execute': 'query-jobs'}");
        QDict *job = qobject_to(QDict, qlist_peek(
            qdict_get_qlist(response, "return")));

        g_assert_nonnull(job);
        if (g_str_equal(qdict_get_str(job, "status"), "concluded")) {
            g_assert_cmpstr(qdict_get_try_str(job, "error"), ==, NULL);
            concluded = true;
        } else if (g_get_monotonic_time() > end) {
            g_error("job is %s", qdict_get_str(job, "status"));
        }
        qobject_unref(response);
        g_usleep(10000);
    }
    qtest_qmp_assert_success(qts, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': 'job'}}");
}

/* A node "disk" for snapshots, in a new file */
static inline void add_snapshot_disk(QTestState *qts, const char *path)
{
    run_job(qts, "{'execute': 'blockdev-create', 'arguments': {"
            " 'job-id': 'job', 'options': {'driver': 'file',"
            "  'filename': %s, 'size': 0}}}", path);
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'file', 'node-name': 'file',"
                             " 'filename': %s}}", path);
    run_job(qts, "{'execute': 'blockdev-create', 'arguments': {"
            " 'job-id': 'job', 'options': {'driver': 'qcow2',"
            "  'file': 'file', 'size': 1048576}}}");
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'qcow2', 'node-name': 'disk',"
                             " 'file': 'file'}}");
}

/* @command is snapshot-save or snapshot-load */
static inline void run_snapshot(QTestState *qts, const char *command,
                                const char *tag)
{
    run_job(qts, "{'execute': %s, 'arguments': {'job-id': 'job', 'tag': %s,"
            " 'vmstate': 'disk', 'devices': ['disk']}}", command, tag);
}

#endif
