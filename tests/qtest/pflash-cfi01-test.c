/*
 * QTest for parallel flash with Intel's command set, as PC firmware uses it:
 * when it is mapped for direct reads (ROMD mode), and what it reads meanwhile
 *
 * QTEST_QEMU_BINARY_DST may name another QEMU as the destination of the
 * migrations, QTEST_QEMU_BINARY_SRC another one as their source.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "memory-commits.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qdict.h"

#define CODE_SIZE       (64 * KiB)
#define VARS_SIZE       (128 * KiB)
#define BLOCK           (4 * KiB)
/* Mapped downwards from 4 GiB */
#define CODE            (4 * GiB - CODE_SIZE)
#define VARS            (CODE - VARS_SIZE)

#define MS              1000000         /* ns */
#define DELAY_NS        (100 * MS)
#define TRAPPED_READS   256
/* What is programmed waits so long for more of it, at most */
#define WRITE_DELAY_NS  (100 * MS)

/*
 * What the board sets for a secure flash.  To that this test can send no
 * command, as a guest that is not in SMM can't.
 */
#define DELAY(ms)       "-global driver=cfi.pflash01," \
                        "property=x-romd-delay-ms,value=" #ms

typedef struct Flash {
    CommitLog log;
    QTestState *qts;
    char *dir;
} Flash;

static void write_image(const char *dir, const char *name, size_t size)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree uint8_t *image = g_malloc(size);
    g_autoptr(GError) err = NULL;
    size_t i;

    for (i = 0; i < size; i++) {
        image[i] = i * 7 + (i >> 8);
    }
    g_file_set_contents(path, (char *)image, size, &err);
    g_assert_no_error(err);
}

static char *flash_args(const char *dir, const char *more)
{
    return g_strdup_printf(
        "-machine q35 -m 64 -global apic-common.vapic=off "
        "-drive if=pflash,unit=0,format=raw,file=%s/code "
        "-drive if=pflash,unit=1,format=raw,file=%s/vars %s",
        dir, dir, more);
}

static bool flash_start(Flash *f, const char *more)
{
    g_autofree char *args = NULL;
    g_autoptr(GError) err = NULL;

    f->dir = g_dir_make_tmp("qtest-pflash-XXXXXX", &err);
    g_assert_no_error(err);
    write_image(f->dir, "code", CODE_SIZE);
    write_image(f->dir, "vars", VARS_SIZE);
    args = flash_args(f->dir, more);
    if (!commits_start(&f->log, args)) {
        return false;
    }
    f->qts = f->log.qts;
    return true;
}

static void remove_images(const char *dir)
{
    static const char *const names[] = { "code", "vars", "stream" };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(names); i++) {
        g_autofree char *path = g_build_filename(dir, names[i], NULL);

        unlink(path);
    }
    rmdir(dir);
}

static void flash_quit(Flash *f)
{
    commits_quit(&f->log);
    remove_images(f->dir);
    g_free(f->dir);
}

/* Is the flash at @addr mapped for direct reads? Fails if it isn't mapped */
static bool is_romd(QTestState *qts, uint64_t addr)
{
    g_autofree char *view = flatview(qts, "memory");
    g_autofree char *romd = g_strdup_printf("%016" PRIx64 "-%016" PRIx64
        " (prio 0, romd): system.flash%d", addr,
        addr + (addr == CODE ? CODE_SIZE : VARS_SIZE) - 1, addr != CODE);
    g_autofree char *trapped = g_strdup_printf("%016" PRIx64 "-%016" PRIx64
        " (prio 0, i/o): system.flash%d", addr,
        addr + (addr == CODE ? CODE_SIZE : VARS_SIZE) - 1, addr != CODE);
    bool is = strstr(view, romd);

    g_assert(is != !!strstr(view, trapped));
    return is;
}

static uint8_t image_byte(size_t i)
{
    return i * 7 + (i >> 8);
}

/* A guest as OVMF is: a byte by two writes, then Read Array */
static void program(QTestState *qts, uint64_t addr, uint8_t value)
{
    qtest_writeb(qts, addr, 0x10);
    qtest_writeb(qts, addr, value);
}

static void read_array(QTestState *qts, uint64_t addr)
{
    qtest_writeb(qts, addr, 0xff);
}

static void erase(QTestState *qts, uint64_t addr)
{
    qtest_writeb(qts, addr, 0x20);
    qtest_writeb(qts, addr, 0xd0);
}

static uint8_t disk_byte(Flash *f, size_t offset)
{
    g_autofree char *path = g_build_filename(f->dir, "vars", NULL);
    g_autofree char *image = NULL;
    gsize size;

    g_assert(g_file_get_contents(path, &image, &size, NULL));
    g_assert_cmpuint(size, ==, VARS_SIZE);
    return image[offset];
}

static void check_disk(Flash *f, size_t offset, uint8_t value)
{
    g_assert_cmphex(disk_byte(f, offset), ==, value);
}

/* Commands that end in read-array, where they began, change nothing */
static void test_nop(void)
{
    static const uint8_t cmds[] = { 0x00, 0x50, 0xf0, 0xff, 0x77 };
    static const uint64_t flashes[] = { CODE, VARS };
    Flash f;
    size_t i, j;

    if (!flash_start(&f, "")) {
        return;
    }
    for (i = 0; i < ARRAY_SIZE(flashes); i++) {
        for (j = 0; j < ARRAY_SIZE(cmds); j++) {
            uint64_t addr = flashes[i] + 0x100 + j;

            commits(&f.log);
            qtest_writeb(f.qts, addr, cmds[j]);
            g_assert_cmpuint(commits(&f.log), ==, 0);
            g_assert(is_romd(f.qts, flashes[i]));
            g_assert_cmphex(qtest_readb(f.qts, addr), ==,
                            image_byte(0x100 + j));
        }
    }
    flash_quit(&f);
}

/* Each command: what reads give in between, and what it leaves behind */
static void check_commands(QTestState *qts, uint64_t base)
{
    uint64_t addr = base + 2 * BLOCK + 0x10;
    int i;

    /* Program a byte: status until Read Array */
    qtest_writeb(qts, addr, 0x40);
    g_assert_cmphex(qtest_readb(qts, addr), ==, 0x80);
    qtest_writeb(qts, addr, 0x5a);
    g_assert_cmphex(qtest_readb(qts, addr), ==, 0x80);
    g_assert(!is_romd(qts, base));
    read_array(qts, addr);
    g_assert_cmphex(qtest_readb(qts, addr), ==, 0x5a);
    g_assert_cmphex(qtest_readb(qts, addr + 1), ==,
                    image_byte(2 * BLOCK + 0x11));

    /* Erase a block, and no other */
    qtest_writeb(qts, addr, 0x20);
    g_assert_cmphex(qtest_readb(qts, addr), ==, 0x80);
    g_assert(!is_romd(qts, base));
    qtest_writeb(qts, addr, 0xd0);
    g_assert_cmphex(qtest_readb(qts, addr), ==, 0x80);
    read_array(qts, addr);
    g_assert_cmphex(qtest_readl(qts, base + 2 * BLOCK), ==, 0xffffffff);
    g_assert_cmphex(qtest_readl(qts, base + 3 * BLOCK - 4), ==, 0xffffffff);
    g_assert_cmphex(qtest_readb(qts, base + 2 * BLOCK - 1), ==,
                    image_byte(2 * BLOCK - 1));
    g_assert_cmphex(qtest_readb(qts, base + 3 * BLOCK), ==,
                    image_byte(3 * BLOCK));

    /* Write a buffer of four bytes */
    qtest_writeb(qts, addr, 0xe8);
    qtest_writeb(qts, addr, 3);
    for (i = 0; i < 4; i++) {
        qtest_writeb(qts, addr + i, 0xa0 + i);
    }
    qtest_writeb(qts, addr, 0xd0);
    g_assert_cmphex(qtest_readb(qts, addr), ==, 0x80);
    read_array(qts, addr);
    g_assert_cmphex(qtest_readl(qts, addr), ==, 0xa3a2a1a0);

    /* ... and give up one */
    qtest_writeb(qts, addr, 0xe8);
    qtest_writeb(qts, addr, 1);
    qtest_writeb(qts, addr, 0x11);
    qtest_writeb(qts, addr + 1, 0x11);
    read_array(qts, addr);
    g_assert_cmphex(qtest_readl(qts, addr), ==, 0xa3a2a1a0);

    /* Status, ID and CFI query */
    qtest_writeb(qts, addr, 0x70);
    g_assert_cmphex(qtest_readb(qts, addr), ==, 0x80);
    qtest_writeb(qts, addr, 0x90);
    g_assert_cmphex(qtest_readb(qts, base), ==, 0);
    read_array(qts, addr);
    qtest_writeb(qts, addr, 0x98);
    g_assert_cmphex(qtest_readb(qts, base + 0x10), ==, 'Q');
    g_assert_cmphex(qtest_readb(qts, base + 0x11), ==, 'R');
    read_array(qts, addr);
    g_assert_cmphex(qtest_readl(qts, addr), ==, 0xa3a2a1a0);

    /* Put back what was there */
    erase(qts, addr);
    for (i = 0; i < BLOCK; i++) {
        program(qts, base + 2 * BLOCK + i, image_byte(2 * BLOCK + i));
    }
    read_array(qts, addr);
    for (i = 0; i < BLOCK; i += 61) {
        g_assert_cmphex(qtest_readb(qts, base + 2 * BLOCK + i), ==,
                        image_byte(2 * BLOCK + i));
    }
}

static void test_commands(gconstpointer args)
{
    Flash f;

    if (!flash_start(&f, args)) {
        return;
    }
    check_commands(f.qts, CODE);
    g_assert(is_romd(f.qts, CODE));
    check_commands(f.qts, VARS);
    check_disk(&f, 2 * BLOCK + 0x10, image_byte(2 * BLOCK + 0x10));
    qtest_clock_step(f.qts, DELAY_NS);
    g_assert(is_romd(f.qts, VARS));
    flash_quit(&f);
}

/* What is programmed one after the other is written to the image at once... */
static void start_run(Flash *f, size_t offset)
{
    size_t i;

    for (i = 0; i < 2 * BLOCK; i++) {
        program(f->qts, VARS + offset + i, 0x11);
    }
    check_disk(f, offset, image_byte(offset));
    check_disk(f, offset + i - 1, image_byte(offset + i - 1));
}

static void check_run(Flash *f, size_t offset)
{
    check_disk(f, offset - 1, image_byte(offset - 1));
    check_disk(f, offset, 0x11);
    check_disk(f, offset + 2 * BLOCK - 1, 0x11);
    check_disk(f, offset + 2 * BLOCK, image_byte(offset + 2 * BLOCK));
}

/* ... and before anything else that the guest does */
static void test_run(void)
{
    static const uint8_t cmds[] = { 0x00, 0x20, 0x50, 0x60, 0x70, 0x90, 0x98,
                                    0xe8, 0xf0, 0xff, 0x77 };
    size_t offset = 5 * BLOCK + 17;
    Flash f;
    size_t i;

    for (i = 0; i < ARRAY_SIZE(cmds); i++) {
        if (!flash_start(&f, i % 2 ? DELAY(1000) : "")) {
            return;
        }
        start_run(&f, offset);
        qtest_writeb(f.qts, VARS, cmds[i]);
        check_run(&f, offset);
        flash_quit(&f);
    }

    /* A read, of the status or of what can't have changed */
    if (!flash_start(&f, "")) {
        return;
    }
    start_run(&f, offset);
    g_assert_cmphex(qtest_readb(f.qts, VARS), ==, 0x80);
    check_run(&f, offset);

    /* Something else, before it, with a gap, or again */
    program(f.qts, VARS + offset, 0x22);
    check_disk(&f, offset, 0x11);
    program(f.qts, VARS + offset - 1, 0x23);
    check_disk(&f, offset, 0x22);
    program(f.qts, VARS + offset + 1, 0x24);
    check_disk(&f, offset - 1, 0x23);
    program(f.qts, VARS + offset + 1, 0x25);
    check_disk(&f, offset + 1, 0x24);

    /* Time */
    qtest_clock_step(f.qts, WRITE_DELAY_NS - MS);
    program(f.qts, VARS + offset + 2, 0x26);
    check_disk(&f, offset + 1, 0x24);
    qtest_clock_step(f.qts, MS);
    check_disk(&f, offset + 1, 0x25);
    check_disk(&f, offset + 2, 0x26);

    /* A stop, a reset, and the end */
    program(f.qts, VARS + offset, 0x27);
    qtest_qmp_assert_success(f.qts, "{ 'execute': 'stop' }");
    check_disk(&f, offset, 0x27);
    qtest_qmp_assert_success(f.qts, "{ 'execute': 'cont' }");
    program(f.qts, VARS + offset, 0x28);
    check_disk(&f, offset, 0x27);
    qtest_system_reset(f.qts);
    check_disk(&f, offset, 0x28);
    program(f.qts, VARS + offset, 0x29);
    check_disk(&f, offset, 0x28);
    commits_quit(&f.log);
    check_disk(&f, offset, 0x29);
    remove_images(f.dir);
    g_free(f.dir);
}

/* An image that can't be written: the guest reads it in the status */
static void test_no_writes(gconstpointer image)
{
    g_autofree char *dir = g_dir_make_tmp("qtest-pflash-XXXXXX", NULL);
    g_autofree char *args = NULL;
    QTestState *qts;
    int i;

    write_image(dir, "code", CODE_SIZE);
    write_image(dir, "vars", VARS_SIZE);
    args = g_strdup_printf(
        "-nodefaults -machine q35 -m 64 -global apic-common.vapic=off "
        "-drive if=pflash,unit=0,format=raw,file=%s/code "
        "-drive if=pflash,unit=1,format=raw,%s=%s/vars",
        dir, (const char *)image, dir);
    qts = qtest_init(args);

    program(qts, VARS + 5 * BLOCK, 0x11);
    g_assert_cmphex(qtest_readb(qts, VARS), ==, 0x90);
    qtest_writeb(qts, VARS, 0x50);
    erase(qts, VARS + 5 * BLOCK);
    g_assert_cmphex(qtest_readb(qts, VARS), ==, 0xa0);
    qtest_writeb(qts, VARS, 0x50);
    qtest_writeb(qts, VARS + 5 * BLOCK, 0xe8);
    qtest_writeb(qts, VARS + 5 * BLOCK, 3);
    for (i = 0; i < 4; i++) {
        qtest_writeb(qts, VARS + 5 * BLOCK + i, 0x60 + i);
    }
    qtest_writeb(qts, VARS + 5 * BLOCK, 0xd0);
    qtest_writeb(qts, VARS, 0x70);
    g_assert_cmphex(qtest_readb(qts, VARS), ==, 0x90);
    qtest_writeb(qts, VARS, 0x50);
    qtest_writeb(qts, VARS, 0x70);
    g_assert_cmphex(qtest_readb(qts, VARS), ==, 0);
    qtest_quit(qts);
    remove_images(dir);
}

/* A burst of programmed fields costs one departure and one return */
static void test_burst(void)
{
    Flash f;
    int i;

    if (!flash_start(&f, DELAY(100))) {
        return;
    }
    commits(&f.log);
    for (i = 0; i < 100; i++) {
        uint64_t addr = VARS + 5 * BLOCK + i;

        program(f.qts, addr, i);
        read_array(f.qts, addr);
        g_assert_cmphex(qtest_readb(f.qts, addr), ==, i);
        g_assert_cmphex(qtest_readb(f.qts, addr + 1), ==,
                        image_byte(5 * BLOCK + i + 1));
        /* Quiet, but never for long enough */
        qtest_clock_step(f.qts, DELAY_NS - MS);
    }
    g_assert_cmpuint(commits(&f.log), ==, 1);
    g_assert(!is_romd(f.qts, VARS));

    qtest_clock_step(f.qts, MS);
    g_assert_cmpuint(commits(&f.log), ==, 1);
    g_assert(is_romd(f.qts, VARS));
    for (i = 0; i < 100; i++) {
        g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK + i), ==, i);
        check_disk(&f, 5 * BLOCK + i, i);
    }
    g_assert_cmpuint(commits(&f.log), ==, 0);
    flash_quit(&f);
}

/* The delay may end while the guest is in the middle of the next command */
static void test_delay_in_command(void)
{
    Flash f;

    if (!flash_start(&f, DELAY(100))) {
        return;
    }
    program(f.qts, VARS + 5 * BLOCK, 1);
    read_array(f.qts, VARS);
    qtest_clock_step(f.qts, DELAY_NS - MS);
    program(f.qts, VARS + 5 * BLOCK, 2);
    commits(&f.log);
    qtest_clock_step(f.qts, 10 * DELAY_NS);
    g_assert(!is_romd(f.qts, VARS));
    g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK), ==, 0x80);
    read_array(f.qts, VARS);
    g_assert(!is_romd(f.qts, VARS));
    g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK), ==, 2);
    g_assert_cmpuint(commits(&f.log), ==, 0);
    qtest_clock_step(f.qts, DELAY_NS);
    g_assert(is_romd(f.qts, VARS));
    flash_quit(&f);
}

/* Many reads in a row end the delay */
static void test_reads(void)
{
    Flash f;
    int i, round;

    if (!flash_start(&f, DELAY(100))) {
        return;
    }
    for (round = 0; round < 3; round++) {
        program(f.qts, VARS + 5 * BLOCK, round);
        read_array(f.qts, VARS);
        commits(&f.log);
        for (i = 0; i < TRAPPED_READS - 1; i++) {
            g_assert_cmphex(qtest_readb(f.qts, VARS + 6 * BLOCK + i), ==,
                            image_byte(6 * BLOCK + i));
        }
        g_assert(!is_romd(f.qts, VARS));
        g_assert_cmpuint(commits(&f.log), ==, 0);
        g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK), ==, round);
        g_assert(is_romd(f.qts, VARS));
        g_assert_cmpuint(commits(&f.log), ==, 1);
        g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK), ==, round);
        qtest_clock_step(f.qts, 2 * DELAY_NS);
        g_assert_cmpuint(commits(&f.log), ==, 0);
    }
    flash_quit(&f);
}

/* Reads of the status are none of the array, however many */
static void test_status_reads(void)
{
    Flash f;
    int i;

    if (!flash_start(&f, DELAY(100))) {
        return;
    }
    program(f.qts, VARS + 5 * BLOCK, 0);
    for (i = 0; i < 2 * TRAPPED_READS; i++) {
        g_assert_cmphex(qtest_readb(f.qts, VARS), ==, 0x80);
    }
    g_assert(!is_romd(f.qts, VARS));
    flash_quit(&f);
}

/* A reset ends the delay, and whatever command there is */
static void test_reset(void)
{
    Flash f;

    if (!flash_start(&f, DELAY(100))) {
        return;
    }
    program(f.qts, VARS + 5 * BLOCK, 0x11);
    read_array(f.qts, VARS);
    g_assert(!is_romd(f.qts, VARS));
    qtest_system_reset(f.qts);
    g_assert(is_romd(f.qts, VARS));
    g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK), ==, 0x11);

    program(f.qts, VARS + 5 * BLOCK, 0x22);
    qtest_system_reset(f.qts);
    g_assert(is_romd(f.qts, VARS));
    g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK), ==, 0x22);
    commits(&f.log);
    qtest_clock_step(f.qts, 10 * DELAY_NS);
    g_assert_cmpuint(commits(&f.log), ==, 0);
    flash_quit(&f);
}

static void check_no_delay(Flash *f, uint64_t base)
{
    int i;

    commits(&f->log);
    for (i = 0; i < 3; i++) {
        program(f->qts, base + 5 * BLOCK + i, i);
        g_assert(!is_romd(f->qts, base));
        read_array(f->qts, base);
        g_assert(is_romd(f->qts, base));
        g_assert_cmphex(qtest_readb(f->qts, base + 5 * BLOCK + i), ==, i);
    }
    g_assert_cmpuint(commits(&f->log), ==, 6);
    qtest_clock_step(f->qts, 10 * DELAY_NS);
    g_assert_cmpuint(commits(&f->log), ==, 0);
}

/* What may be executed from comes back at once, whatever is asked for */
static void test_executable(void)
{
    Flash f;

    if (!flash_start(&f, DELAY(100))) {
        return;
    }
    check_no_delay(&f, CODE);
    flash_quit(&f);
}

/* So does what anybody can send commands to, and read with any instruction */
static void test_not_secure(void)
{
    static const char *const args[] = { "", DELAY(0), DELAY(-1) };
    size_t i;
    Flash f;

    for (i = 0; i < ARRAY_SIZE(args); i++) {
        if (!flash_start(&f, args[i])) {
            return;
        }
        check_no_delay(&f, VARS);
        flash_quit(&f);
    }
}

static int delay_of(QTestState *qts, const char *flash)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments':"
                             " { 'path': %s, 'property': 'x-romd-delay-ms' } }",
                             flash);
    int delay = qdict_get_int(reply, "return");

    qobject_unref(reply);
    return delay;
}

/* With secure=on this test is not allowed to write, as the guest is not */
static void test_secure(void)
{
    static const struct {
        const char *args;
        int delay;
    } cases[] = {
        { "", 0 }, { DELAY(-1), -1 }, { DELAY(7), 7 },
    };
    size_t i;
    Flash f;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *args =
            g_strdup_printf("-global driver=cfi.pflash01,"
                            "property=secure,value=on %s", cases[i].args);

        if (!flash_start(&f, args)) {
            return;
        }
        g_assert_cmpint(delay_of(f.qts, "/machine/system.flash0"), ==, -1);
        g_assert_cmpint(delay_of(f.qts, "/machine/system.flash1"), ==,
                        cases[i].delay);
        commits(&f.log);
        program(f.qts, VARS + 5 * BLOCK, 0);
        erase(f.qts, VARS + 5 * BLOCK);
        g_assert_cmpuint(commits(&f.log), ==, 0);
        g_assert(is_romd(f.qts, VARS));
        g_assert_cmphex(qtest_readb(f.qts, VARS + 5 * BLOCK), ==,
                        image_byte(5 * BLOCK));
        flash_quit(&f);
    }
}

/* Migration, through a file. The destination has stale images of its own */

static void wait_for_status(QTestState *qts, const char *status)
{
    for (;;) {
        QDict *info = qtest_qmp_assert_success_ref(
            qts, "{ 'execute': 'query-migrate' }");
        const char *now = qdict_get_try_str(info, "status");
        bool reached = now && g_str_equal(now, status);

        g_assert(!now || !g_str_equal(now, "failed"));
        qobject_unref(info);
        if (reached) {
            return;
        }
        g_usleep(1000);
    }
}

typedef void Prepare(QTestState *from, bool switchover);

static QTestState *migrate(Prepare *prepare, char **dir, QTestState **from)
{
    g_autofree char *from_dir = NULL, *from_args = NULL, *args = NULL;
    g_autofree char *uri = NULL;
    g_autoptr(GError) err = NULL;
    QTestState *to;

    from_dir = g_dir_make_tmp("qtest-pflash-XXXXXX", &err);
    *dir = g_dir_make_tmp("qtest-pflash-XXXXXX", &err);
    write_image(from_dir, "code", CODE_SIZE);
    write_image(from_dir, "vars", VARS_SIZE);
    write_image(*dir, "code", CODE_SIZE);
    write_image(*dir, "vars", VARS_SIZE);
    uri = g_strdup_printf("file:%s/stream", *dir);

    /* No KVM, and not paused: the state is handed over as it is */
    /* Another source need not know of the delay. */
    from_args = flash_args(from_dir, g_getenv("QTEST_QEMU_BINARY_SRC") ?
                           "-nodefaults" : "-nodefaults " DELAY(100));
    *from = qtest_init_ext("QTEST_QEMU_BINARY_SRC", from_args, NULL, true);
    qtest_qmp_assert_success(*from, "{ 'execute': 'migrate-set-capabilities',"
        " 'arguments': { 'capabilities': ["
        " { 'capability': 'events', 'state': true },"
        " { 'capability': 'pause-before-switchover', 'state': true } ] } }");
    prepare(*from, false);
    qtest_qmp_assert_success(*from, "{ 'execute': 'migrate',"
                             " 'arguments': { 'uri': %s } }", uri);
    wait_for_status(*from, "pre-switchover");
    prepare(*from, true);
    qtest_qmp_assert_success(*from, "{ 'execute': 'migrate-continue',"
                             " 'arguments': { 'state': 'pre-switchover' } }");
    wait_for_status(*from, "completed");

    args = flash_args(*dir, "-nodefaults -incoming defer");
    to = qtest_init_ext("QTEST_QEMU_BINARY_DST", args, NULL, true);
    qtest_qmp_assert_success(to, "{ 'execute': 'migrate-incoming',"
                             " 'arguments': { 'uri': %s } }", uri);
    wait_for_status(to, "completed");
    qtest_qmp_eventwait(to, "RESUME");
    remove_images(from_dir);
    return to;
}

static void finish(QTestState *from, QTestState *to, char *dir)
{
    qtest_quit(from);
    qtest_quit(to);
    remove_images(dir);
    g_free(dir);
}

/* Trapped, but in read-array: for the destination that is ROMD mode */
static void prepare_delay(QTestState *from, bool switchover)
{
    if (!switchover) {
        program(from, VARS + 5 * BLOCK, 0x33);
        read_array(from, VARS);
    }
}

static void test_migrate_delay(void)
{
    QTestState *from, *to;
    char *dir;

    to = migrate(prepare_delay, &dir, &from);
    g_assert(is_romd(to, VARS));
    g_assert_cmphex(qtest_readb(to, VARS + 5 * BLOCK), ==, 0x33);
    check_commands(to, VARS);
    finish(from, to, dir);
}

/* The destination gets the second half of a command */
static void prepare_command(QTestState *from, bool switchover)
{
    if (switchover) {
        qtest_writeb(from, VARS + 5 * BLOCK, 0x10);
    }
}

static void test_migrate_command(void)
{
    QTestState *from, *to;
    char *dir;

    to = migrate(prepare_command, &dir, &from);
    g_assert(!is_romd(to, VARS));
    qtest_writeb(to, VARS + 5 * BLOCK, 0x44);
    g_assert_cmphex(qtest_readb(to, VARS + 5 * BLOCK), ==, 0x80);
    read_array(to, VARS);
    g_assert_cmphex(qtest_readb(to, VARS + 5 * BLOCK), ==, 0x44);
    finish(from, to, dir);
}

/* What is written after the flash was sent has to be sent again */
static void prepare_dirty(QTestState *from, bool switchover)
{
    int i;

    if (switchover) {
        program(from, VARS + 5 * BLOCK, 0x55);
        erase(from, VARS + 7 * BLOCK);
        qtest_writeb(from, VARS + 9 * BLOCK, 0xe8);
        qtest_writeb(from, VARS + 9 * BLOCK, 3);
        for (i = 0; i < 4; i++) {
            qtest_writeb(from, VARS + 9 * BLOCK + i, 0x60 + i);
        }
        qtest_writeb(from, VARS + 9 * BLOCK, 0xd0);
        read_array(from, VARS);
    }
}

static void test_migrate_dirty(void)
{
    QTestState *from, *to;
    char *dir;

    to = migrate(prepare_dirty, &dir, &from);
    g_assert_cmphex(qtest_readb(to, VARS + 5 * BLOCK), ==, 0x55);
    g_assert_cmphex(qtest_readl(to, VARS + 7 * BLOCK), ==, 0xffffffff);
    g_assert_cmphex(qtest_readl(to, VARS + 8 * BLOCK - 4), ==, 0xffffffff);
    g_assert_cmphex(qtest_readl(to, VARS + 9 * BLOCK), ==, 0x63626160);
    finish(from, to, dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("pflash-cfi01/nop", test_nop);
    qtest_add_data_func("pflash-cfi01/commands/delay", DELAY(100),
                        test_commands);
    qtest_add_data_func("pflash-cfi01/commands/no-delay", "", test_commands);
    qtest_add_func("pflash-cfi01/run", test_run);
    qtest_add_data_func("pflash-cfi01/no-writes/full-disk",
                        "file.driver=blkdebug,"
                        "file.inject-error.0.event=none,"
                        "file.inject-error.0.iotype=write,"
                        "file.inject-error.0.errno=28,file.image.filename",
                        test_no_writes);
    qtest_add_data_func("pflash-cfi01/no-writes/read-only",
                        "readonly=on,file", test_no_writes);
    qtest_add_func("pflash-cfi01/delay/burst", test_burst);
    qtest_add_func("pflash-cfi01/delay/in-command", test_delay_in_command);
    qtest_add_func("pflash-cfi01/delay/reads", test_reads);
    qtest_add_func("pflash-cfi01/delay/status-reads", test_status_reads);
    qtest_add_func("pflash-cfi01/delay/reset", test_reset);
    qtest_add_func("pflash-cfi01/delay/executable", test_executable);
    qtest_add_func("pflash-cfi01/delay/not-secure", test_not_secure);
    qtest_add_func("pflash-cfi01/delay/secure", test_secure);
    qtest_add_func("pflash-cfi01/migrate/delay", test_migrate_delay);
    qtest_add_func("pflash-cfi01/migrate/command", test_migrate_command);
    qtest_add_func("pflash-cfi01/migrate/dirty", test_migrate_dirty);
    return g_test_run();
}
