/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sends commands to a secure flash from its own SMI handler, and tries to send
 * some from outside of SMM, also from a second CPU at the same time. What SMM
 * has programmed must be there as soon as it is left, or the machine reset;
 * nothing else may change.
 *
 * -append SIZE: that of a flash that ends 256 KiB below 4 GiB, in bytes.
 */
#include "guest.h"

#define HOST            0
#define SMI_ENTRY       0xa8000ul       /* SeaBIOS' SMBASE + 32 KiB */
/* Survives a reset: neither the firmware nor the loader writes here. */
#define MARK            0x3800000ul
#define MARK_RESET      0x5eed0f1a55e5ull

#define BLOCK           4096
#define BYTES           1000            /* more than KVM's ring takes */
#define ROUNDS          20

enum what { END, STORE, LOAD, OUT };

/* What the SMI handler does, one after the other */
struct op {
    uint32_t addr;
    uint8_t value;
    uint8_t what;
    uint16_t pad;
};

static struct op ops[4 * BYTES] __attribute__((used));
static unsigned nr_ops;
static volatile uint8_t *flash;
static uint64_t flash_size;
static volatile bool hammer;
static volatile uint64_t beats;         /* of the second CPU */

/* Real mode, with segments of 4 GiB that start at 0, and no stack */
asm("   .code16\n"
    "smi_start:\n"
    "   movl $ops, %esi\n"
    "1: movl (%esi), %edi\n"
    "   movb 4(%esi), %al\n"
    "   movb 5(%esi), %cl\n"
    "   cmpb $1, %cl\n"
    "   jb 4f\n"
    "   ja 2f\n"
    "   movb %al, (%edi)\n"
    "   jmp 3f\n"
    "2: movw %di, %dx\n"
    "   cmpb $2, %cl\n"
    "   ja 5f\n"
    "   movb (%edi), %al\n"
    "   movb %al, 4(%esi)\n"
    "3: addl $8, %esi\n"
    "   jmp 1b\n"
    "5: outb %al, %dx\n"
    "   jmp 3b\n"
    "4: rsm\n"
    "smi_end:\n"
    "   .code64\n");
extern const uint8_t smi_start[], smi_end[];

static void smi_install(void)
{
    pci_write8(HOST, 0x9d, 0x4a);               /* SMRAM: open */
    for (int i = 0; i < smi_end - smi_start; i++) {
        ((volatile uint8_t *)SMI_ENTRY)[i] = smi_start[i];
    }
    pci_write8(HOST, 0x9d, 0x0a);
}

static uint8_t *op(enum what what, uint64_t addr, uint8_t value)
{
    ops[nr_ops] = (struct op) { .addr = addr, .value = value, .what = what };
    return &ops[nr_ops++].value;
}

static void store(uint64_t offset, uint8_t value)
{
    op(STORE, (uint64_t)flash + offset, value);
}

static uint8_t *load(uint64_t offset)
{
    return op(LOAD, (uint64_t)flash + offset, 0);
}

static void smi(void)
{
    op(END, 0, 0);
    nr_ops = 0;
    asm volatile("outb %0, $0xb2" : : "a"((uint8_t)0) : "memory");
}

static void program(uint64_t offset, unsigned size, uint8_t first)
{
    for (unsigned i = 0; i < size; i++) {
        store(offset + i, 0x10);
        store(offset + i, first + i * 7);
    }
}

static unsigned wrong(uint64_t offset, unsigned size, uint8_t first)
{
    unsigned n = 0;

    for (unsigned i = 0; i < size; i++) {
        n += flash[offset + i] != (uint8_t)(first + i * 7);
    }
    return n;
}

static uint64_t checksum(uint64_t from)
{
    uint64_t sum = 0;

    for (uint64_t i = from; i < flash_size; i++) {
        sum = (sum << 1 | sum >> 63) ^ flash[i];
    }
    return sum;
}

/* Erase the block, and program a byte of it: what a guest is not to do */
static void attack(uint64_t offset)
{
    flash[offset] = 0x20;
    flash[offset] = 0xd0;
    flash[offset] = 0x10;
    flash[offset] = 0x99;
    flash[offset] = 0xff;
}

void ap_main(void)
{
    for (;;) {
        if (hammer) {
            attack(beats * 61 % flash_size);
            beats++;
        }
        asm volatile("pause");
    }
}

static void check_reset(void)
{
    volatile uint64_t *mark = (volatile uint64_t *)MARK;

    if (*mark != MARK_RESET) {
        *mark = MARK_RESET;
        program(3 * BLOCK, 100, 0x31);
        op(OUT, 0xcf9, 0x06);
        smi();
        check(false, "reset", "did not come");
        return;
    }
    *mark = 0;
    check(!wrong(3 * BLOCK, 100, 0x31), "reset", "%u bytes of 100 are lost",
          wrong(3 * BLOCK, 100, 0x31));
}

static void check_outside(void)
{
    uint64_t sum = checksum(0);

    attack(5 * BLOCK);
    check(checksum(0) == sum, "outside", "something has changed");
}

static void check_program(void)
{
    uint8_t *erased, *after;

    store(5 * BLOCK, 0x20);
    store(5 * BLOCK, 0xd0);
    erased = load(5 * BLOCK);
    program(5 * BLOCK, BYTES, 0x41);
    after = load(5 * BLOCK);
    store(5 * BLOCK, 0xff);
    smi();
    check(!wrong(5 * BLOCK, BYTES, 0x41), "program",
          "%u bytes are not what was programmed",
          wrong(5 * BLOCK, BYTES, 0x41));
    check(*erased == 0x80 && *after == 0x80, "status", "%x, %x", *erased,
          *after);
}

/* SMM is left in the middle of a command, and finishes it later */
static void check_halves(void)
{
    uint64_t sum = checksum(6 * BLOCK);

    store(5 * BLOCK, 0x10);
    smi();
    flash[5 * BLOCK] = 0x98;
    attack(6 * BLOCK);
    check(flash[5 * BLOCK] == 0x41, "array", "outside of SMM, %x is read",
          flash[5 * BLOCK]);
    store(5 * BLOCK, 0x42);
    store(5 * BLOCK, 0xff);
    smi();
    check(flash[5 * BLOCK] == 0x42 && checksum(6 * BLOCK) == sum, "halves",
          "%x, or the rest has changed", flash[5 * BLOCK]);
}

static void check_together(void)
{
    uint64_t sum = checksum(6 * BLOCK);
    unsigned lost = 0;

    hammer = true;
    while (beats < 10) {
        asm volatile("pause");
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        program(4 * BLOCK, BYTES, i);
        if (i % 2) {
            store(4 * BLOCK, 0xff);
        }
        smi();
        lost += wrong(4 * BLOCK, BYTES, i);
    }
    hammer = false;
    check(!lost, "together", "%u bytes are not what SMM programmed", lost);
    store(4 * BLOCK, 0xff);
    smi();
    check(checksum(6 * BLOCK) == sum && !wrong(3 * BLOCK, 100, 0x31), "rest",
          "something else has changed");
    check(beats > 10 + ROUNDS, "second-cpu", "tried no more than %u times",
          beats);
}

int main(void)
{
    volatile uint8_t flag = 0;

    flash_size = argument(0);
    flash = (volatile uint8_t *)((1ul << 32) - (256 << 10) - flash_size);
    smi_install();
    op(STORE, (uint64_t)&flag, 1);
    smi();
    if (!flash_size || !flag) {
        check(false, "smm", "needs q35 with SMM, SeaBIOS, and a flash's size");
        done();
    }
    check_reset();
    check_outside();
    check_program();
    check_halves();
    ap_boot(1);
    check_together();
    done();
}
