/*
 * QTest for what x86 machines do to the memory map when the guest writes the
 * registers of its windows: PAM, SMRAM and TSEG, MMCONFIG, the VGA window, PCI
 * BARs and bridges. A write that changes nothing is to make no commit, any
 * other one is to make one, and what is mapped afterwards has to be right.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "memory-commits.h"
#include "hw/pci/pci_regs.h"
#include "qemu/units.h"
#include "qobject/qdict.h"

#define RAM_SIZE        (128 * MiB)

/* What one write of a register may cost */
#define ASSERT_COMMITS(log, n, write) do {              \
        commits(log);                                   \
        write;                                          \
        g_assert_cmpuint(commits(log), ==, (n));        \
    } while (0)

typedef struct Machine {
    CommitLog log;
    QTestState *qts;
    char *bios;
    bool smm;               /* flatview(..., "cpu-smm-0") says something */
} Machine;

/* As much as is mapped below 1 MiB */
#define BIOS_SIZE       (128 * KiB)

static char *make_bios(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *image = g_malloc0(BIOS_SIZE);
    char *path;
    int fd = g_file_open_tmp("qtest-bios-XXXXXX", &path, &err);

    g_assert_no_error(err);
    close(fd);
    memset(image, 0xb1, BIOS_SIZE);
    g_assert(g_file_set_contents(path, image, BIOS_SIZE, NULL));
    return path;
}

static char *machine_args(const char *bios, const char *more)
{
    return g_strdup_printf("-m %" PRIu64 "M -bios %s "
                           "-global apic-common.vapic=off %s",
                           RAM_SIZE / MiB, bios, more);
}

/* With @smm there is no qtest_clock_step() */
static bool machine_start_smm(Machine *m, const char *more, bool smm)
{
    g_autofree char *args = NULL, *all = NULL;

    /* The vCPUs of TCG have an address space for SMM. They never run. */
    m->smm = smm && qtest_has_accel("tcg");
    m->bios = make_bios();
    all = machine_args(m->bios, more);
    args = g_strdup_printf("%s %s", m->smm ? "-accel tcg -S" : "", all);
    if (!commits_start(&m->log, args)) {
        unlink(m->bios);
        g_free(m->bios);
        return false;
    }
    m->qts = m->log.qts;
    return true;
}

static bool machine_start(Machine *m, const char *more)
{
    return machine_start_smm(m, more, true);
}

static void machine_quit(Machine *m)
{
    commits_quit(&m->log);
    unlink(m->bios);
    g_free(m->bios);
}

static bool view_has(QTestState *qts, const char *as, const char *line)
{
    g_autofree char *view = flatview(qts, as);

    return strstr(view, line);
}

/* VGA is 00:02.0 */
#define VGA_ARGS    "-device VGA,romfile=,addr=2"
#define VGA_FN      (2 << 3)

/* PCI configuration space, through ports */

static void cfg_select(QTestState *qts, int bus, int devfn, int reg)
{
    qtest_outl(qts, 0xcf8, 0x80000000u | bus << 16 | devfn << 8 | (reg & ~3));
}

static void cfg_writeb(QTestState *qts, int bus, int devfn, int reg, uint8_t v)
{
    cfg_select(qts, bus, devfn, reg);
    qtest_outb(qts, 0xcfc + (reg & 3), v);
}

static void cfg_writew(QTestState *qts, int bus, int devfn, int reg,
                       uint16_t v)
{
    cfg_select(qts, bus, devfn, reg);
    qtest_outw(qts, 0xcfc + (reg & 3), v);
}

static void cfg_writel(QTestState *qts, int bus, int devfn, int reg,
                       uint32_t v)
{
    cfg_select(qts, bus, devfn, reg);
    qtest_outl(qts, 0xcfc, v);
}

static uint32_t cfg_readl(QTestState *qts, int bus, int devfn, int reg)
{
    cfg_select(qts, bus, devfn, reg);
    return qtest_inl(qts, 0xcfc);
}

static uint8_t cfg_readb(QTestState *qts, int bus, int devfn, int reg)
{
    cfg_select(qts, bus, devfn, reg);
    return qtest_inb(qts, 0xcfc + (reg & 3));
}

/* PAM: 13 areas of the first MiB, each with a nibble of a register */

typedef struct PAMCase {
    const char *args;
    int reg;
} PAMCase;

static const PAMCase pam_pc = { "-machine pc", 0x59 };
static const PAMCase pam_q35 = { "-machine q35", 0x90 };

enum { PAM_PCI = 0, PAM_ROM = 1, PAM_RAM = 3 };

static uint64_t pam_base(int area)
{
    return area ? 0xc0000 + (area - 1) * 0x4000 : 0xf0000;
}

static void set_pam(Machine *m, const PAMCase *c, int area, int mode)
{
    int reg = c->reg + DIV_ROUND_UP(area, 2);
    int shift = area & 1 ? 0 : 4;
    uint8_t old = cfg_readb(m->qts, 0, 0, reg);

    cfg_writeb(m->qts, 0, 0, reg,
               (old & ~(0xf << shift)) | mode << shift);
}

/* qtest's own writes ignore it */
static void check_rom(Machine *m, int area)
{
    uint64_t base = pam_base(area), size = area ? 0x4000 : 0x10000;
    g_autofree char *line = g_strdup_printf(
        "%016" PRIx64 "-%016" PRIx64 " (prio 0, rom): pc.ram", base,
        base + size - 1);

    g_assert(view_has(m->qts, "memory", line));
}

static void test_pam(gconstpointer data)
{
    const PAMCase *c = data;
    g_autofree char *at_first = NULL, *at_last = NULL;
    int area, last;
    Machine m;

    if (!machine_start(&m, c->args)) {
        return;
    }
    /* From here on all areas have a mode */
    cfg_writeb(m.qts, 0, 0, c->reg, 0);
    at_first = flatview(m.qts, "memory");

    for (area = 0; area < 13; area++) {
        uint64_t addr = pam_base(area) + 0x123;
        uint8_t pci = qtest_readb(m.qts, addr);
        uint8_t mark = 0x40 + area;

        g_assert_cmphex(pci, !=, mark);
        qtest_writeb(m.qts, addr, mark);
        g_assert_cmphex(qtest_readb(m.qts, addr), ==, pci);

        ASSERT_COMMITS(&m.log, 1, set_pam(&m, c, area, PAM_RAM));
        ASSERT_COMMITS(&m.log, 0, set_pam(&m, c, area, PAM_RAM));
        qtest_writeb(m.qts, addr, mark);
        g_assert_cmphex(qtest_readb(m.qts, addr), ==, mark);

        ASSERT_COMMITS(&m.log, 1, set_pam(&m, c, area, PAM_ROM));
        ASSERT_COMMITS(&m.log, 0, set_pam(&m, c, area, PAM_ROM));
        g_assert_cmphex(qtest_readb(m.qts, addr), ==, mark);
        check_rom(&m, area);

        ASSERT_COMMITS(&m.log, 1, set_pam(&m, c, area, PAM_PCI));
        ASSERT_COMMITS(&m.log, 0, set_pam(&m, c, area, PAM_PCI));
        g_assert_cmphex(qtest_readb(m.qts, addr), ==, pci);
    }

    /* All of them, four registers at a time, as SeaBIOS does */
    last = c->reg + 6;
    ASSERT_COMMITS(&m.log, 1,
                   cfg_writel(m.qts, 0, 0, last & ~3, 0x33333333));
    ASSERT_COMMITS(&m.log, 0,
                   cfg_writel(m.qts, 0, 0, last & ~3, 0x33333333));
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, 0, last & ~3, 0));
    for (area = 0; area < 13; area++) {
        set_pam(&m, c, area, PAM_RAM);
        g_assert_cmphex(qtest_readb(m.qts, pam_base(area) + 0x123), ==,
                        0x40 + area);
    }
    for (area = 0; area < 13; area++) {
        set_pam(&m, c, area, PAM_PCI);
    }
    at_last = flatview(m.qts, "memory");
    g_assert_cmpstr(at_first, ==, at_last);
    machine_quit(&m);
}

/* SMRAM in the VGA window */

#define SMRAM_VIEW  "0000000000000000-00000000000bffff (prio 0, ram): pc.ram"

typedef struct SMRAMCase {
    const char *args;
    int reg;
} SMRAMCase;

static const SMRAMCase smram_pc = { "-machine pc " VGA_ARGS, 0x72 };
static const SMRAMCase smram_q35 = { "-machine q35 " VGA_ARGS, 0x9d };

static void test_smram(gconstpointer data)
{
    const SMRAMCase *c = data;
    Machine m;
    uint8_t closed;

    if (!machine_start(&m, c->args)) {
        return;
    }
    cfg_writeb(m.qts, 0, 0, c->reg, 0x02);
    closed = qtest_readb(m.qts, 0xa0000);
    g_assert_cmphex(closed, !=, 0x5e);
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, c->reg, 0x02));

    /* Open: everybody sees it */
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, c->reg, 0x4a));
    qtest_writeb(m.qts, 0xa0000, 0x5e);
    g_assert_cmphex(qtest_readb(m.qts, 0xa0000), ==, 0x5e);
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, c->reg, 0x4a));

    /* Closed: only SMM does */
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, c->reg, 0x0a));
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, c->reg, 0x0a));
    g_assert_cmphex(qtest_readb(m.qts, 0xa0000), ==, closed);
    qtest_writeb(m.qts, 0xa0000, 0);
    if (m.smm) {
        g_assert(view_has(m.qts, "cpu-smm-0", SMRAM_VIEW));
        g_assert(!view_has(m.qts, "cpu-memory-0", SMRAM_VIEW));
    }

    /* Disabled: nobody does */
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, c->reg, 0x02));
    g_assert_cmphex(qtest_readb(m.qts, 0xa0000), ==, closed);
    if (m.smm) {
        g_assert(!view_has(m.qts, "cpu-smm-0", SMRAM_VIEW));
    }

    /* Nothing was lost */
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, c->reg, 0x4a));
    g_assert_cmphex(qtest_readb(m.qts, 0xa0000), ==, 0x5e);
    machine_quit(&m);
}

/* TSEG, and the lock */

#define SMRAM           0x9d
#define ESMRAMC         0x9e
#define F_SMBASE        0x9c
#define TSEG_EN(size)   (0x38 | (size) << 1 | 1)
#define EXT_TSEG_MBYTES 0x50

static void check_tseg(Machine *m, uint64_t size)
{
    uint64_t base = RAM_SIZE - size;

    g_assert_cmphex(qtest_readb(m->qts, base - 1), ==, 0x7e);
    if (size) {
        g_assert_cmphex(qtest_readb(m->qts, base), ==, 0xff);
        g_assert_cmphex(qtest_readb(m->qts, RAM_SIZE - 1), ==, 0xff);
        qtest_writeb(m->qts, base, 0);
    }
    if (m->smm && size) {
        g_autofree char *hole = g_strdup_printf(
            "%016" PRIx64 "-%016" PRIx64 " (prio 1, i/o): tseg-blackhole",
            base, (uint64_t)RAM_SIZE - 1);

        g_assert(view_has(m->qts, "cpu-memory-0", hole));
        g_assert(!view_has(m->qts, "cpu-smm-0", "tseg-blackhole"));
    }
}

static void test_tseg(void)
{
    uint64_t sizes[] = { 1 * MiB, 2 * MiB, 8 * MiB, 0 };
    g_autofree char *at_first = NULL, *at_last = NULL;
    Machine m;
    int i;

    if (!machine_start(&m, "-machine q35")) {
        return;
    }
    at_first = flatview(m.qts, "memory");
    /* The last one is QEMU's own, which tells how large it is.  */
    cfg_writew(m.qts, 0, 0, EXT_TSEG_MBYTES, 0xffff);
    sizes[3] = cfg_readb(m.qts, 0, 0, EXT_TSEG_MBYTES) * MiB;
    g_assert_cmpuint(sizes[3], >, sizes[2]);
    g_assert_cmpuint(sizes[3], <, RAM_SIZE);
    for (i = 0; i < 4; i++) {
        qtest_writeb(m.qts, RAM_SIZE - sizes[i], 0x50 + i);
        qtest_writeb(m.qts, RAM_SIZE - sizes[i] - 1, 0x7e);
    }
    qtest_writeb(m.qts, RAM_SIZE - 1, 0x7e);

    /* Not yet: G_SMRAME is off */
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, ESMRAMC, TSEG_EN(0)));
    check_tseg(&m, 0);
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, SMRAM, 0x0a));
    check_tseg(&m, sizes[0]);
    for (i = 1; i < 4; i++) {
        ASSERT_COMMITS(&m.log, 1,
                       cfg_writeb(m.qts, 0, 0, ESMRAMC, TSEG_EN(i)));
        ASSERT_COMMITS(&m.log, 0,
                       cfg_writeb(m.qts, 0, 0, ESMRAMC, TSEG_EN(i)));
        ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, SMRAM, 0x0a));
        check_tseg(&m, sizes[i]);
        g_assert_cmphex(qtest_readb(m.qts, RAM_SIZE - sizes[i] - 1), ==, 0x7e);
    }

    /* Off and on: nothing was lost */
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, ESMRAMC, 0x38));
    check_tseg(&m, 0);
    for (i = 0; i < 4; i++) {
        g_assert_cmphex(qtest_readb(m.qts, RAM_SIZE - sizes[i]), ==, 0x50 + i);
    }
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, ESMRAMC, TSEG_EN(3)));

    /* Locked: no write has an effect */
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, SMRAM, 0x1a));
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, SMRAM, 0x42));
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, ESMRAMC, 0x38));
    check_tseg(&m, sizes[3]);
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, F_SMBASE, 0xff));
    ASSERT_COMMITS(&m.log, 1, cfg_writeb(m.qts, 0, 0, F_SMBASE, 0x02));
    g_assert_cmphex(qtest_readb(m.qts, 0x30000), ==, 0xff);
    ASSERT_COMMITS(&m.log, 0, cfg_writeb(m.qts, 0, 0, F_SMBASE, 0x00));
    g_assert_cmphex(qtest_readb(m.qts, 0x30000), ==, 0xff);

    /* A reset undoes all that at once; another one changes nothing */
    ASSERT_COMMITS(&m.log, 1, qtest_system_reset(m.qts));
    at_last = flatview(m.qts, "memory");
    g_assert_cmpstr(at_first, ==, at_last);
    check_tseg(&m, 0);
    g_assert_cmphex(qtest_readb(m.qts, RAM_SIZE - sizes[3]), ==, 0x53);
    ASSERT_COMMITS(&m.log, 0, qtest_system_reset(m.qts));
    machine_quit(&m);
}

/* MMCONFIG */

static void test_pciexbar(void)
{
    uint32_t id;
    Machine m;

    if (!machine_start(&m, "-machine q35")) {
        return;
    }
    id = cfg_readl(m.qts, 0, 0, PCI_VENDOR_ID);
    cfg_writel(m.qts, 0, 0, 0x64, 0);
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, 0, 0x60, 0xb0000001));
    g_assert_cmphex(qtest_readl(m.qts, 0xb0000000), ==, id);
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, 0, 0x60, 0xb0000001));
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, 0, 0x64, 0));
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, 0, 0x60, 0xe0000001));
    g_assert_cmphex(qtest_readl(m.qts, 0xe0000000), ==, id);
    g_assert_cmphex(qtest_readl(m.qts, 0xb0000000), !=, id);
    /* 64 MiB instead of 256 */
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, 0, 0x60, 0xe0000005));
    g_assert(view_has(m.qts, "memory", "00000000e0000000-00000000e3ffffff "
                      "(prio 0, i/o): pcie-mmcfg-mmio"));
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, 0, 0x60, 0xe0000000));
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, 0, 0x60, 0xe0000000));
    g_assert_cmphex(qtest_readl(m.qts, 0xe0000000), !=, id);
    machine_quit(&m);
}

/* The VGA window in chain-4 mode */

#define FB          0xd0000000u
#define VGA_MMIO    0xd8000000u

static void set_bars(QTestState *qts)
{
    cfg_writel(qts, 0, VGA_FN, PCI_BASE_ADDRESS_0, FB);
    cfg_writel(qts, 0, VGA_FN, PCI_BASE_ADDRESS_2, VGA_MMIO);
    cfg_writew(qts, 0, VGA_FN, PCI_COMMAND, 3);
}

static void vga_reg(QTestState *qts, uint16_t port, uint8_t i, uint8_t v)
{
    qtest_outb(qts, port, i);
    qtest_outb(qts, port + 1, v);
}

static void sr(QTestState *qts, uint8_t i, uint8_t v)
{
    vga_reg(qts, 0x3c4, i, v);
}

static void gr(QTestState *qts, uint8_t i, uint8_t v)
{
    vga_reg(qts, 0x3ce, i, v);
}

static void vbe(QTestState *qts, uint16_t i, uint16_t v)
{
    qtest_outw(qts, 0x1ce, i);
    qtest_outw(qts, 0x1d0, v);
}

static void test_vga(gconstpointer data)
{
    static const struct {
        int select;
        uint64_t base, size;
    } windows[] = {
        { 0, 0xa0000, 0x20000 }, { 1, 0xa0000, 0x10000 },
        { 2, 0xb0000, 0x8000 }, { 3, 0xb8000, 0x8000 },
    };
    Machine m;
    int i;

    if (!machine_start(&m, data)) {
        return;
    }
    set_bars(m.qts);
    for (i = 0; i < 16; i++) {
        qtest_writel(m.qts, FB + i * 0x10000 + 4, 0x10001 * i);
        qtest_writel(m.qts, FB + i * 0x10000 + 0x7ffc, 0x7ffc + i);
    }
    sr(m.qts, 2, 0x0f);
    gr(m.qts, 6, 0x05);

    /* In planar mode no register has anything to do with the map */
    for (i = 0; i < 8; i++) {
        if (i != 4) {
            ASSERT_COMMITS(&m.log, 0, sr(m.qts, i, i == 2 ? 0x0f : 1));
        }
    }

    ASSERT_COMMITS(&m.log, 1, sr(m.qts, 4, 0x0e));
    ASSERT_COMMITS(&m.log, 0, sr(m.qts, 4, 0x0e));
    for (i = 0; i < 9; i++) {
        ASSERT_COMMITS(&m.log, 0, gr(m.qts, i, i == 6 ? 0x05 : 0));
    }
    ASSERT_COMMITS(&m.log, 0, sr(m.qts, 1, 0x01));
    ASSERT_COMMITS(&m.log, 0, sr(m.qts, 3, 0));
    g_assert_cmphex(qtest_readl(m.qts, 0xa7ffc), ==, 0x7ffc);
    qtest_writel(m.qts, 0xa0004, 0x12345678);
    g_assert_cmphex(qtest_readl(m.qts, FB + 4), ==, 0x12345678);

    /* The other windows */
    for (i = 0; i < 4; i++) {
        if (windows[i].select != 1) {
            ASSERT_COMMITS(&m.log, 1,
                           gr(m.qts, 6, windows[i].select << 2 | 1));
        }
        ASSERT_COMMITS(&m.log, 0, gr(m.qts, 6, windows[i].select << 2 | 1));
        g_assert_cmphex(qtest_readl(m.qts, windows[i].base + 4), ==,
                        0x12345678);
        g_assert_cmphex(qtest_readl(m.qts, windows[i].base + 0x7ffc), ==,
                        0x7ffc);
        if (windows[i].base + windows[i].size < 0xc0000) {
            g_assert_cmphex(qtest_readb(m.qts,
                                        windows[i].base + windows[i].size),
                            ==, 0xff);
        }
        if (windows[i].select == 0) {
            ASSERT_COMMITS(&m.log, 1, gr(m.qts, 6, 0x05));
        }
    }
    ASSERT_COMMITS(&m.log, 1, gr(m.qts, 6, 0x05));

    /* One plane masked: no alias; and back */
    ASSERT_COMMITS(&m.log, 1, sr(m.qts, 2, 0x07));
    ASSERT_COMMITS(&m.log, 0, sr(m.qts, 2, 0x03));
    ASSERT_COMMITS(&m.log, 1, sr(m.qts, 2, 0x0f));
    ASSERT_COMMITS(&m.log, 1, sr(m.qts, 4, 0x06));
    ASSERT_COMMITS(&m.log, 0, sr(m.qts, 4, 0x06));

    /* VBE banks: 640 x 480 x 8 */
    vbe(m.qts, 1, 640);
    vbe(m.qts, 2, 480);
    vbe(m.qts, 3, 8);
    vbe(m.qts, 4, 0);
    ASSERT_COMMITS(&m.log, 1, vbe(m.qts, 4, 0x81));
    for (i = 0; i < 16; i++) {
        ASSERT_COMMITS(&m.log, i > 0, vbe(m.qts, 5, i));
        ASSERT_COMMITS(&m.log, 0, vbe(m.qts, 5, i));
        g_assert_cmphex(qtest_readl(m.qts, 0xa7ffc), ==, 0x7ffc + i);
        g_assert_cmphex(qtest_readl(m.qts, 0xa0004), ==,
                        i ? 0x10001 * i : 0x12345678);
    }
    ASSERT_COMMITS(&m.log, 1, vbe(m.qts, 4, 0));
    machine_quit(&m);
}

/* BARs. VGA has two for memory, the first one is RAM */

static void test_bars(gconstpointer data)
{
    g_autofree char *unmapped = NULL, *mapped = NULL, *view = NULL;
    Machine m;

    if (!machine_start(&m, data)) {
        return;
    }
    unmapped = flatview(m.qts, "memory");

    /* Without decoding no write maps anything */
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, VGA_FN,
                                         PCI_BASE_ADDRESS_0, ~0u));
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, VGA_FN,
                                         PCI_BASE_ADDRESS_0, FB));
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, VGA_FN,
                                         PCI_BASE_ADDRESS_2, VGA_MMIO));

    /* Both BARs and bus mastering at once */
    ASSERT_COMMITS(&m.log, 1, cfg_writew(m.qts, 0, VGA_FN, PCI_COMMAND, 7));
    ASSERT_COMMITS(&m.log, 0, cfg_writew(m.qts, 0, VGA_FN, PCI_COMMAND, 7));
    qtest_writel(m.qts, FB + 0x1000, 0x600df00d);
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), ==, 0x600df00d);
    g_assert_cmphex(qtest_readw(m.qts, VGA_MMIO + 0x500), ==, 0xb0c5);
    mapped = flatview(m.qts, "memory");

    /* Sizing with decoding on: away, and back */
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, VGA_FN,
                                         PCI_BASE_ADDRESS_0, ~0u));
    g_assert_cmphex(cfg_readl(m.qts, 0, VGA_FN, PCI_BASE_ADDRESS_0), ==,
                    0xff000008);
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), !=, 0x600df00d);
    g_assert_cmphex(qtest_readw(m.qts, VGA_MMIO + 0x500), ==, 0xb0c5);
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, VGA_FN,
                                         PCI_BASE_ADDRESS_0, FB));
    view = flatview(m.qts, "memory");
    g_assert_cmpstr(view, ==, mapped);
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), ==, 0x600df00d);

    /* Moved: from one place to the other in one commit */
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, VGA_FN,
                                         PCI_BASE_ADDRESS_0, 0xd4000000));
    g_assert_cmphex(qtest_readl(m.qts, 0xd4001000), ==, 0x600df00d);
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), !=, 0x600df00d);
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, VGA_FN,
                                         PCI_BASE_ADDRESS_0, FB));

    /* Decoding off and on, as Linux does around each BAR that it sizes */
    ASSERT_COMMITS(&m.log, 1, cfg_writew(m.qts, 0, VGA_FN, PCI_COMMAND, 4));
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), !=, 0x600df00d);
    g_assert_cmphex(qtest_readw(m.qts, VGA_MMIO + 0x500), !=, 0xb0c5);
    ASSERT_COMMITS(&m.log, 1, cfg_writew(m.qts, 0, VGA_FN, PCI_COMMAND, 7));
    g_free(view);
    view = flatview(m.qts, "memory");
    g_assert_cmpstr(view, ==, mapped);
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), ==, 0x600df00d);

    /* A reset unmaps all of it */
    ASSERT_COMMITS(&m.log, 1, qtest_system_reset(m.qts));
    g_free(view);
    view = flatview(m.qts, "memory");
    g_assert_cmpstr(view, ==, unmapped);
    machine_quit(&m);
}

/* A bridge: root port 00:03.0 with another VGA behind it, 01:00.0 */

#define PORT_ARGS   "-machine q35 " \
                    "-device pcie-root-port,id=rp0,addr=3,chassis=1 " \
                    "-device secondary-vga,bus=rp0,romfile="
#define PORT_FN     (3 << 3)

static void set_port(QTestState *qts)
{
    /* bus 1 behind it; memory 0xd0000000-0xd9ffffff, nothing prefetchable */
    cfg_writel(qts, 0, PORT_FN, PCI_PRIMARY_BUS, 0x00010100);
    cfg_writel(qts, 0, PORT_FN, PCI_MEMORY_BASE, 0xd9f0d000);
    cfg_writel(qts, 0, PORT_FN, PCI_PREF_MEMORY_BASE, 0x0000fff0);
    cfg_writew(qts, 0, PORT_FN, PCI_COMMAND, 7);
    cfg_writel(qts, 1, 0, PCI_BASE_ADDRESS_0, FB);
    cfg_writel(qts, 1, 0, PCI_BASE_ADDRESS_2, VGA_MMIO);
    cfg_writew(qts, 1, 0, PCI_COMMAND, 2);
}

static void test_bridge(void)
{
    g_autofree char *open = NULL, *view = NULL;
    Machine m;

    if (!machine_start(&m, PORT_ARGS)) {
        return;
    }
    set_port(m.qts);
    qtest_writel(m.qts, FB + 0x1000, 0x600df00d);
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), ==, 0x600df00d);
    g_assert_cmphex(qtest_readw(m.qts, VGA_MMIO + 0x500), ==, 0xb0c5);
    open = flatview(m.qts, "memory");

    /* The same again, and bits that have nothing to do with the windows */
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, PORT_FN, PCI_MEMORY_BASE,
                                         0xd9f0d000));
    ASSERT_COMMITS(&m.log, 0, cfg_writel(m.qts, 0, PORT_FN,
                                         PCI_PREF_BASE_UPPER32, 0));
    ASSERT_COMMITS(&m.log, 0, cfg_writew(m.qts, 0, PORT_FN, PCI_COMMAND,
                                         7 | PCI_COMMAND_SERR));
    ASSERT_COMMITS(&m.log, 0, cfg_writew(m.qts, 0, PORT_FN, PCI_BRIDGE_CONTROL,
                                         PCI_BRIDGE_CTL_SERR));

    /* Smaller: the registers remain inside, the frame buffer does not */
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, PORT_FN, PCI_MEMORY_BASE,
                                         0xd9f0d800));
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), !=, 0x600df00d);
    g_assert_cmphex(qtest_readw(m.qts, VGA_MMIO + 0x500), ==, 0xb0c5);
    ASSERT_COMMITS(&m.log, 1, cfg_writel(m.qts, 0, PORT_FN, PCI_MEMORY_BASE,
                                         0xd9f0d000));
    view = flatview(m.qts, "memory");
    g_assert_cmpstr(view, ==, open);

    /* Closed with bus mastering in one commit, and open again */
    ASSERT_COMMITS(&m.log, 1, cfg_writew(m.qts, 0, PORT_FN, PCI_COMMAND, 0));
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), !=, 0x600df00d);
    g_assert_cmphex(qtest_readw(m.qts, VGA_MMIO + 0x500), !=, 0xb0c5);
    ASSERT_COMMITS(&m.log, 1, cfg_writew(m.qts, 0, PORT_FN, PCI_COMMAND, 7));
    g_assert_cmphex(qtest_readl(m.qts, FB + 0x1000), ==, 0x600df00d);

    /* Legacy VGA forwarding */
    ASSERT_COMMITS(&m.log, 1, cfg_writew(m.qts, 0, PORT_FN, PCI_BRIDGE_CONTROL,
                                         PCI_BRIDGE_CTL_VGA));
    ASSERT_COMMITS(&m.log, 0, cfg_writew(m.qts, 0, PORT_FN, PCI_BRIDGE_CONTROL,
                                         PCI_BRIDGE_CTL_VGA));
    ASSERT_COMMITS(&m.log, 1, cfg_writew(m.qts, 0, PORT_FN, PCI_BRIDGE_CONTROL,
                                         0));
    g_free(view);
    view = flatview(m.qts, "memory");
    g_assert_cmpstr(view, ==, open);
    machine_quit(&m);
}

/* All of the state above, loaded by another QEMU, gives the same map */

static void wait_for_migration(QTestState *qts)
{
    bool done = false;

    while (!done) {
        QDict *info = qtest_qmp_assert_success_ref(
            qts, "{ 'execute': 'query-migrate' }");
        const char *now = qdict_get_try_str(info, "status");

        done = now && g_str_equal(now, "completed");
        g_assert(!now || !g_str_equal(now, "failed"));
        qobject_unref(info);
        g_usleep(1000);
    }
}

static void test_migrate(gconstpointer data)
{
    g_autofree char *bios = make_bios(), *path = NULL, *uri = NULL;
    g_autofree char *more = g_strdup_printf("-nodefaults %s " VGA_ARGS,
                                            (const char *)data);
    g_autofree char *from_args = machine_args(bios, more);
    g_autofree char *to_args = g_strdup_printf("%s -incoming defer", from_args);
    g_autofree char *from_view = NULL, *to_view = NULL;
    bool q35 = strstr(data, "q35");
    QTestState *from, *to;

    close(g_file_open_tmp("qtest-churn-XXXXXX", &path, NULL));
    uri = g_strdup_printf("file:%s", path);
    from = qtest_init_ext("QTEST_QEMU_BINARY_SRC", from_args, NULL, true);
    set_bars(from);
    sr(from, 2, 0x0f);
    sr(from, 4, 0x0e);
    gr(from, 6, 0x09);
    cfg_writel(from, 0, 0, q35 ? 0x90 : 0x58, 0x31003000);
    if (q35) {
        set_port(from);
        cfg_writel(from, 0, PORT_FN, PCI_MEMORY_BASE, 0xddf0da00);
        cfg_writel(from, 1, 0, PCI_BASE_ADDRESS_0, 0xda000000);
        cfg_writel(from, 1, 0, PCI_BASE_ADDRESS_2, 0xdb000000);
        cfg_writel(from, 0, 0, 0x60, 0xe0000001);
        cfg_writeb(from, 0, 0, ESMRAMC, TSEG_EN(2));
    }
    cfg_writeb(from, 0, 0, q35 ? SMRAM : 0x72, 0x0a);
    from_view = flatview(from, "memory");
    g_assert_nonnull(strstr(from_view, "(prio 1, ram): vga.vram"));

    qtest_qmp_assert_success(from, "{ 'execute': 'migrate',"
                             " 'arguments': { 'uri': %s } }", uri);
    wait_for_migration(from);
    to = qtest_init_ext("QTEST_QEMU_BINARY_DST", to_args, NULL, true);
    qtest_qmp_assert_success(to, "{ 'execute': 'migrate-incoming',"
                             " 'arguments': { 'uri': %s } }", uri);
    wait_for_migration(to);
    to_view = flatview(to, "memory");
    g_assert_cmpstr(from_view, ==, to_view);

    qtest_quit(from);
    qtest_quit(to);
    unlink(path);
    unlink(bios);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_data_func("memory-churn/pc/pam", &pam_pc, test_pam);
    qtest_add_data_func("memory-churn/pc/smram", &smram_pc, test_smram);
    qtest_add_data_func("memory-churn/pc/vga", "-machine pc " VGA_ARGS,
                        test_vga);
    qtest_add_data_func("memory-churn/pc/bars", "-machine pc " VGA_ARGS,
                        test_bars);
    qtest_add_data_func("memory-churn/pc/migrate", "-machine pc",
                        test_migrate);
    qtest_add_data_func("memory-churn/q35/pam", &pam_q35, test_pam);
    qtest_add_data_func("memory-churn/q35/smram", &smram_q35, test_smram);
    qtest_add_func("memory-churn/q35/tseg", test_tseg);
    qtest_add_func("memory-churn/q35/pciexbar", test_pciexbar);
    qtest_add_data_func("memory-churn/q35/vga", "-machine q35 " VGA_ARGS,
                        test_vga);
    qtest_add_data_func("memory-churn/q35/bars", "-machine q35 " VGA_ARGS,
                        test_bars);
    qtest_add_func("memory-churn/q35/bridge", test_bridge);
    qtest_add_data_func("memory-churn/q35/migrate", PORT_ARGS, test_migrate);
    return g_test_run();
}
