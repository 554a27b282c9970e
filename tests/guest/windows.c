/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes the chipset's window registers at random: PAM, SMRAM, on q35 TSEG and
 * MMCONFIG, VGA's chain-4 window and bank, the frame buffer's BAR. After each
 * write it looks through what has moved, and through one window that has not.
 * A second CPU, if there is one, writes and reads main RAM all the time.
 *
 * -append COUNT: how many registers are written, 20,000 if nothing is said.
 */
#include "guest.h"

#define READ    1
#define WRITE   2

#define HOST    0
#define PAM_AREAS       13

#define RAM_SIZE        (128ul << 20)
#define CANARY          (32ul << 20)    /* the second CPU's, 8 MiB */
#define CANARY_WORDS    (8u << 17)
#define SMRAM_WORD      0xa8000ul
#define HIGH_SMRAM      0xfeda0000ul
#define VBE_INDEX       0x1ce
#define VBE_DATA        0x1cf
#define VBE_BANKS       32

static uint32_t seed = 2463534242u;
static uint64_t tag;                    /* of the last pattern written */
static uint64_t writes;                 /* of registers, so far */
static bool q35, failed;
static unsigned vga;                    /* devfn */
static bool decodes = true;             /* VGA decodes its BARs */
static bool chain4;                     /* VGA's window shows a bank */
static volatile uint64_t beats;         /* of the second CPU */
static volatile uint64_t torn;

static uint32_t rnd(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % n;
}

static volatile uint64_t *word(uint64_t addr)
{
    return (volatile uint64_t *)addr;
}

/* No two are equal, and none is what firmware or an empty bus reads as. */
static uint64_t pattern(void)
{
    return 0x5eed000000000000 | tag++;
}

static void expect(bool ok, const char *what, uint64_t addr, uint64_t found,
                   uint64_t wanted)
{
    if (!ok && !failed) {
        failed = true;
        check(false, "windows", "%s: %x reads %x, wanted %x, after %u writes",
              what, addr, found, wanted, writes);
    }
}

static void is(const char *what, uint64_t addr, uint64_t wanted)
{
    uint64_t found = *word(addr);

    expect(found == wanted, what, addr, found, wanted);
}

static void is_not(const char *what, uint64_t addr, uint64_t secret)
{
    uint64_t found = *word(addr);

    expect(found != secret, what, addr, found, 0);
}

/* PAM: 0xf0000-0xfffff by the upper half of the first register, then 16 KiB
 * for each half of the others from 0xc0000 on. */

static struct {
    uint64_t addr;              /* of the word looked at */
    uint64_t ram, rom;
    uint8_t mode;
} pam[PAM_AREAS];

static unsigned pam_base(void)
{
    return q35 ? 0x90 : 0x59;
}

static void pam_mode(unsigned area, uint8_t mode)
{
    unsigned half = area + 1;           /* the first register has one only */
    unsigned reg = pam_base() + half / 2, shift = half % 2 ? 4 : 0;

    pci_write8(HOST, reg, (pci_read8(HOST, reg) & ~(3 << shift)) |
               mode << shift);
    pam[area].mode = mode;
}

static void pam_look(unsigned area)
{
    uint64_t addr = pam[area].addr, new = pattern();

    if (!pam[area].mode) {
        is("PAM, ROM", addr, pam[area].rom);
        *word(addr) = new;
        is("PAM, ROM after a write", addr, pam[area].rom);
        return;
    }
    is("PAM, RAM", addr, pam[area].ram);
    *word(addr) = new;
    /*
     * What is written to RAM, but read from ROM, is RAM in QEMU. With KVM,
     * QEMU also carries out a write to what is only to be read.
     */
    if (pam[area].mode & WRITE || *word(addr) == new) {
        pam[area].ram = new;
    }
    is("PAM, RAM after a write", addr, pam[area].ram);
}

static void pam_init(void)
{
    for (unsigned i = 0; i < PAM_AREAS; i++) {
        pam[i].addr = i ? 0xc0000 + (i - 1) * 0x4000 : 0xf0000;
        pam[i].addr += 0x1238;
        pam_mode(i, 0);
        pam[i].rom = *word(pam[i].addr);
        pam_mode(i, READ | WRITE);
        pam[i].ram = *word(pam[i].addr) = pattern();
    }
}

static void pam_change(void)
{
    unsigned area = rnd(PAM_AREAS);

    pam_mode(area, rnd(4));
    pam_look(area);
}

/* SMRAM and TSEG. Nothing locks them, and no SMI comes. */

static bool smram_open, smram_high, smram_on = true;
static uint64_t smram;                  /* what is behind the VGA window */
static const uint32_t tseg_size[] = { 1 << 20, 2 << 20, 8 << 20, 0 };
#define TSEG_OFF        3
static unsigned tseg = TSEG_OFF;        /* index of its size */
static uint64_t top[4];                 /* RAM that TSEG may hide */
static const uint32_t top_at[] = { 512 << 10, 1536 << 10, 6 << 20, 12 << 20 };

static void smram_look(void)
{
    uint64_t addr = smram_high ? HIGH_SMRAM + 0x8000 : SMRAM_WORD;

    if (!smram_open) {
        /* VGA; what it holds must stay known where it can't be looked up */
        if (decodes || !chain4) {
            *word(SMRAM_WORD) = pattern();
        }
        is_not("SMRAM, closed", SMRAM_WORD, smram);
        if (q35) {
            is_not("high SMRAM, closed", HIGH_SMRAM + 0x8000, smram);
        }
        return;
    }
    is("SMRAM, open", addr, smram);
    smram = pattern();
    *word(addr) = smram;
    is("SMRAM, written", addr, smram);
}

static void tseg_look(void)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t addr = RAM_SIZE - top_at[i];

        if (smram_on && top_at[i] <= tseg_size[tseg]) {
            *word(addr) = pattern();
            is_not("TSEG", addr, top[i]);
        } else {
            is("RAM below TSEG", addr, top[i]);
            top[i] = pattern();
            *word(addr) = top[i];
        }
    }
}

static void smram_change(void)
{
    smram_open = rnd(2);
    smram_on = rnd(2);
    pci_write8(HOST, q35 ? 0x9d : 0x72, 0x02 | (smram_open ? 0x40 : 0) |
               (smram_on ? 0x08 : 0));
    smram_look();
    if (q35) {
        tseg_look();
    }
}

static void esmramc_change(void)
{
    unsigned size = rnd(3);
    bool on = rnd(2);

    smram_high = rnd(2);
    pci_write8(HOST, 0x9e, 0x38 | (smram_high ? 0x80 : 0) | size << 1 | on);
    tseg = on ? size : TSEG_OFF;
    tseg_look();
    smram_look();
}

/* MMCONFIG of q35 */

static const uint64_t mmconfig_base[] = { 0xb0000000, 0xe0000000 };
static int mmconfig = -1;               /* index of the base, or off */

static void mmconfig_look(void)
{
    for (int i = 0; i < 2; i++) {
        uint32_t id = *(volatile uint32_t *)mmconfig_base[i];

        expect((id == 0x29c08086) == (i == mmconfig), "MMCONFIG",
               mmconfig_base[i], id, 0x29c08086);
    }
}

static void mmconfig_change(void)
{
    unsigned size = rnd(3);             /* 256, 128 and 64 MiB */

    mmconfig = (int)rnd(3) - 1;
    pci_write32(HOST, 0x60, mmconfig < 0 ? 0 :
                mmconfig_base[mmconfig] | size << 1 | 1);
    mmconfig_look();
}

/* VGA: BAR 0, and its first banks through the legacy window */

static const uint32_t fb_base[] = { 0xc0000000, 0xc4000000, 0xd8000000 };
static uint64_t bank_word[VBE_BANKS];   /* at 0x8000 of each 64 KiB */
static unsigned fb, bank;

static void vbe(uint16_t index, uint16_t value)
{
    outw(VBE_INDEX, index);
    outw(VBE_DATA, value);
}

static void fb_look(void)
{
    uint64_t at = bank * 0x10000 + 0x8000;

    for (unsigned i = 0; i < 3; i++) {
        if (i != fb || !decodes) {
            is_not("frame buffer, elsewhere", fb_base[i] + at, bank_word[bank]);
        }
    }
    if (!decodes) {
        return;
    }
    is("frame buffer", fb_base[fb] + at, bank_word[bank]);
    bank_word[bank] = pattern();
    *word(fb_base[fb] + at) = bank_word[bank];
    is("frame buffer, written", fb_base[fb] + at, bank_word[bank]);
}

static void window_look(void)
{
    if (!chain4 || !decodes || (smram_open && !smram_high)) {
        return;
    }
    is("VGA window", SMRAM_WORD, bank_word[bank]);
    bank_word[bank] = pattern();
    *word(SMRAM_WORD) = bank_word[bank];
    is("VGA window, written", SMRAM_WORD, bank_word[bank]);
    is("VGA window, frame buffer", fb_base[fb] + bank * 0x10000 + 0x8000,
       bank_word[bank]);
}

/* The window writes where the bank points, also through a closed SMRAM. */
static void bank_forget(void)
{
    if (decodes) {
        bank_word[bank] = *word(fb_base[fb] + bank * 0x10000 + 0x8000);
    }
}

static void fb_change(void)
{
    if (rnd(3)) {
        fb = rnd(3);
        pci_write32(vga, 0x10, fb_base[fb]);
    } else {
        decodes = rnd(2);
        pci_write16(vga, 0x04, decodes ? 3 : 1);
    }
    fb_look();
}

static void vga_change(void)
{
    switch (rnd(4)) {
    case 0:
        chain4 = rnd(2);
        /* 640x480, 256 colours; or what the BIOS left */
        vbe(4, 0);
        if (chain4) {
            vbe(1, 640);
            vbe(2, 480);
            vbe(3, 8);
            vbe(4, 0x81);               /* on, and don't clear */
            bank = 0;
        }
        break;
    case 1:
        if (chain4) {
            bank = rnd(VBE_BANKS);
            vbe(5, bank);
        }
        break;
    case 2:
        outw(0x3c4, 0x0f02);            /* all planes */
        break;
    case 3:
        outw(0x3ce, 0xff08);            /* bit mask */
        break;
    }
    window_look();
}

/* The second CPU */

static volatile bool stop, stopped;

void ap_main(void)
{
    uint64_t round = 1;

    for (unsigned i = 0; i < CANARY_WORDS; i++) {
        *word(CANARY + i * 8ul) = i;
    }
    for (; !stop; round++) {
        for (unsigned i = 0; i < CANARY_WORDS; i += 509) {
            volatile uint64_t *p = word(CANARY + i * 8ul);

            torn += *p != i + ((round - 1) << 32);
            *p = i + (round << 32);
        }
        beats = round;
    }
    stopped = true;
    for (;;) {
        asm volatile("hlt");
    }
}

static unsigned cpus(void)
{
    uint32_t reg[4];

    cpuid(1, reg);
    return reg[1] >> 16 & 0xff;
}

static bool find_devices(void)
{
    uint32_t id = pci_read32(HOST, 0);

    q35 = id == 0x29c08086;
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        if (pci_read32(devfn, 8) >> 16 == 0x0300) {
            vga = devfn;
        }
    }
    return (q35 || id == 0x12378086) && vga;
}

static void change(void)
{
    switch (rnd(q35 ? 6 : 4)) {
    case 0:
        pam_change();
        break;
    case 1:
        bank_forget();
        smram_change();
        bank_forget();
        break;
    case 2:
        fb_change();
        break;
    case 3:
        bank_forget();
        vga_change();
        bank_forget();
        break;
    case 4:
        bank_forget();
        esmramc_change();
        bank_forget();
        break;
    case 5:
        mmconfig_change();
        break;
    }
    pam_look(rnd(PAM_AREAS));
    writes++;
}

int main(void)
{
    uint64_t count = argument(20000);

    if (!find_devices()) {
        check(false, "windows", "needs -machine pc or q35 and -device VGA");
        done();
    }
    lapic_write(LAPIC_SVR, 0x1ff);
    if (cpus() > 1) {
        ap_boot(1);
    }

    pam_init();
    for (unsigned i = 0; i < 4; i++) {
        top[i] = *word(RAM_SIZE - top_at[i]) = pattern();
    }
    smram_open = true;
    pci_write8(HOST, q35 ? 0x9d : 0x72, 0x4a);
    smram = *word(SMRAM_WORD) = pattern();
    pci_write32(vga, 0x10, fb_base[0]);
    pci_write16(vga, 0x04, 3);
    for (unsigned i = 0; i < VBE_BANKS; i++) {
        bank_word[i] = *word(fb_base[0] + i * 0x10000 + 0x8000) = pattern();
    }
    if (q35) {
        pci_write32(HOST, 0x60, 0);
        pci_write8(HOST, 0x9e, 0x38);
    }

    while (writes < count && !failed) {
        change();
    }
    check(!failed, "windows", "see above");
    check(writes == count, "count", "%u writes", writes);

    if (cpus() > 1) {
        stop = true;
        while (!stopped) {
        }
        check(beats && !torn, "main-ram", "%u rounds, %u words of other content",
              beats, torn);
    }
    print("# %u writes, the second CPU went through its RAM %u times\n",
          writes, beats);
    done();
}
