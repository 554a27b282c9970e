/*
 * What the qtests on KVM share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_KVM_COMMON_H
#define TESTS_QTEST_KVM_COMMON_H

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <linux/kvm.h>
#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qemu/units.h"

/*
 * KVM_ROOT_TEST_HOST says which KVM the tests may use:
 *
 *   any        this machine's, whatever it is
 *   stock      the lab's, without KVM_CAP_X86_TDP_ROOT_RETENTION
 *   retention  the lab's, with it
 *
 * Without it they use none.  A test that lacks something is skipped and says
 * what, but fails in the lab, which has all of it.
 */
#define TEST_HOST       "KVM_ROOT_TEST_HOST"

/* The hosts that tests run on are emulated themselves, and slow. */
#define TIMEOUT_US      (120 * G_USEC_PER_SEC)

/* A processor without SSE3, which some KVM lacks; no ROM from outside */
#define QUIET_CPU       "-cpu qemu64,pni=off -global apic-common.vapic=off"

static inline bool test_host_is(const char *name)
{
    return !g_strcmp0(g_getenv(TEST_HOST), name);
}

/* Returns @there; if it is false, the test is skipped or failed for it */
static inline bool G_GNUC_PRINTF(2, 3)
kvm_require(bool there, const char *fmt, ...)
{
    g_autofree char *lack = NULL;
    va_list ap;

    va_start(ap, fmt);
    lack = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!there && test_host_is("any")) {
        g_test_skip(lack);
    } else if (!there) {
        g_test_message(TEST_HOST "=%s: %s", g_getenv(TEST_HOST), lack);
        g_test_fail();
    }
    return there;
}

/* A VM to ask for capabilities; -1, with @error set, if there is none */
static inline int probe_vm(const char **error)
{
    static char *message;
    static int vm = -1;

    if (vm < 0 && !message) {
        int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

        vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
        if (vm < 0) {
            message = g_strdup_printf("%s: %s", kvm < 0 ? "/dev/kvm" :
                                      "KVM_CREATE_VM", strerror(errno));
        }
        if (kvm >= 0) {
            close(kvm);
        }
    }
    *error = message;
    return vm;
}

/* Returns false, with the test skipped or failed, if there is no KVM to use */
static inline bool have_kvm_or_skip(void)
{
    const char *error;
    int vm;

    if (!g_getenv(TEST_HOST)) {
        g_test_skip(TEST_HOST " is not set: no KVM is used");
        return false;
    }
    if (!test_host_is("any") && !test_host_is("stock") &&
        !test_host_is("retention")) {
        g_error(TEST_HOST "=%s: any, stock or retention is accepted",
                g_getenv(TEST_HOST));
    }
    vm = probe_vm(&error);
    return kvm_require(vm >= 0, "%s", error ?: "");
}

/* What KVM_CHECK_EXTENSION on a VM returns, 0 if it fails */
static inline int kvm_cap(int cap)
{
    const char *error;

    return MAX(ioctl(probe_vm(&error), KVM_CHECK_EXTENSION, cap), 0);
}

/* For what needs KVM and at least @least of a capability */
#define have_cap_or_skip(cap, least) \
    (have_kvm_or_skip() && \
     kvm_require(kvm_cap(cap) >= (least), #cap " is %d on this KVM, %d is " \
                 "needed", kvm_cap(cap), least))

/*
 * A firmware of 64 KiB: QEMU has it at the end of the first 4 GiB and at
 * 0xf0000, and it starts at its beginning.
 */
static inline void write_firmware(const char *path, const uint8_t *code,
                                  size_t size)
{
    static const uint8_t reset_vector[] = { 0xe9, 0x0d, 0x00 };   /* jmp 0 */
    g_autofree uint8_t *image = g_malloc0(64 * KiB);
    g_autoptr(GError) err = NULL;

    memcpy(image, code, size);
    memcpy(image + 0xfff0, reset_vector, sizeof(reset_vector));
    g_file_set_contents(path, (char *)image, 64 * KiB, &err);
    g_assert_no_error(err);
}

typedef enum GuestLevel {
    GUEST_STAYS,                /* no instruction is executed */
    GUEST_REAL_MODE,
    GUEST_PAGING,               /* in protected mode, with PAE */
} GuestLevel;

/* How far a guest gets that tells so with single bytes; looked at once */
static inline GuestLevel guest_level(void)
{
    static const uint8_t code[] = {
        0xb0, GUEST_REAL_MODE, 0xe6, 0xe9,          /*    tell              */
        0x31, 0xc0, 0x8e, 0xd8,                     /*    ds = 0            */
        0x66, 0xc7, 0x06, 0x00, 0x10, 0x01, 0x20, 0x00, 0x00,
                                                    /*    PDPT[0] = PD | P  */
        0x66, 0xc7, 0x06, 0x00, 0x20, 0x83, 0x00, 0x00, 0x00,
                                                    /*    PD[0] = PS, RW, P */
        0x2e, 0x66, 0x0f, 0x01, 0x16, 0x75, 0x00,   /*    lgdtl %cs:gdtr    */
        0x66, 0xb8, 0x11, 0x00, 0x00, 0x00,
        0x0f, 0x22, 0xc0,                           /*    cr0 = ET, PE      */
        0x66, 0xea, 0x32, 0x00, 0x0f, 0x00, 0x08, 0x00,
                                                    /*    ljmpl $8, $1f     */
        0xb8, 0x10, 0x00, 0x00, 0x00, 0x8e, 0xd8,   /* 1: ds = 16           */
        0xb8, 0x20, 0x00, 0x00, 0x00,
        0x0f, 0x22, 0xe0,                           /*    cr4 = PAE         */
        0xb8, 0x00, 0x10, 0x00, 0x00,
        0x0f, 0x22, 0xd8,                           /*    cr3 = PDPT        */
        0xb8, 0x11, 0x00, 0x00, 0x80,
        0x0f, 0x22, 0xc0,                           /*    cr0 = PG, ET, PE  */
        0xa1, 0x00, 0x10, 0x00, 0x00,               /*    read the PDPT     */
        0xb0, GUEST_PAGING, 0xe6, 0xe9,             /*    tell              */
        0xf4, 0xeb, 0xfd,                           /* 2: hlt; jmp 2b       */
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00, /* 8:  32-bit code  */
        0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00, /* 16: data         */
        0x17, 0x00, 0x5d, 0x00, 0x0f, 0x00,             /* gdtr             */
    };
    static int level = -1;
    int timeout_ms = test_host_is("any") ? 3000 : TIMEOUT_US / 1000;
    g_autofree char *path = NULL, *command = NULL;
    g_auto(GStrv) argv = NULL;
    struct pollfd out = { .events = POLLIN };
    uint8_t told = GUEST_STAYS;
    GPid pid;

    if (level >= 0) {
        return level;
    }

    close(g_file_open_tmp("kvm-guest-XXXXXX", &path, NULL));
    write_firmware(path, code, sizeof(code));
    /* What QEMU may have to say of a guest that does not run is no failure. */
    command = g_strdup_printf("%s -accel kvm -M pc " QUIET_CPU " -m 16 "
                              "-nodefaults -vga none -display none -bios %s "
                              "-debugcon stdio -no-reboot",
                              g_getenv("QTEST_QEMU_BINARY"), path);
    g_assert_true(g_shell_parse_argv(command, NULL, &argv, NULL));
    g_assert_true(g_spawn_async_with_pipes(
        NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH |
        G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &pid, NULL, &out.fd, NULL,
        NULL));
    while (told < GUEST_PAGING && poll(&out, 1, timeout_ms) > 0) {
        if (read(out.fd, &told, 1) <= 0) {
            break;
        }
    }
    level = told;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(out.fd);
    unlink(path);
    return level;
}

/* For what has a guest execute in real mode */
static inline bool real_mode_runs_or_skip(void)
{
    return have_kvm_or_skip() &&
        kvm_require(guest_level() >= GUEST_REAL_MODE, "this KVM runs no guest");
}

/* For what has a guest execute */
static inline bool guest_runs_or_skip(void)
{
    return real_mode_runs_or_skip() &&
        kvm_require(guest_level() >= GUEST_PAGING,
                    "this KVM runs no guest with paging");
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
