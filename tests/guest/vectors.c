/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Touches with AVX, at once, memory that was gone a moment ago: a VGA's frame
 * buffer after its decoding was switched off and on, and a flash after a
 * command. KVM emulates no AVX on memory that traps, in Linux 6.12 at least, so
 * it must not trap.
 *
 * -append SIZE: that of a flash that ends 256 KiB below 4 GiB, in bytes; none
 * is looked at if nothing is said.
 */
#include "guest.h"

#define ROUNDS  200
#define VECTOR  32                      /* bytes */

static unsigned vga;                    /* devfn */

static bool enable_avx(void)
{
    uint32_t reg[4];
    uint64_t cr4;

    cpuid(1, reg);
    if (!(reg[2] & 1u << 26) || !(reg[2] & 1u << 28)) {
        return false;
    }
    asm volatile("mov %%cr4, %0" : "=r"(cr4));
    /* OSFXSR, OSXMMEXCPT, OSXSAVE */
    asm volatile("mov %0, %%cr4" : : "r"(cr4 | 1 << 9 | 1 << 10 | 1 << 18));
    asm volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
    return true;
}

static void avx_store(uint64_t to, const void *from)
{
    asm volatile("vmovdqu (%1), %%ymm0; vmovdqu %%ymm0, (%0)"
                 : : "r"(to), "r"(from) : "memory");
}

static void avx_load(void *to, uint64_t from)
{
    asm volatile("vmovdqu (%1), %%ymm1; vmovdqu %%ymm1, (%0)"
                 : : "r"(to), "r"(from) : "memory");
}

static bool find_vga(void)
{
    for (vga = 0; vga < 256; vga++) {
        if (pci_read32(vga, 8) >> 16 == 0x0300) {
            return true;
        }
    }
    return false;
}

/* As vgaarb and an X server do */
static void frame_buffer(void)
{
    uint64_t base = pci_read32(vga, 0x10) & ~0xful, pattern[VECTOR / 8];
    unsigned wrong = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        volatile uint64_t *word = (volatile uint64_t *)(base + i * 4096);

        for (unsigned j = 0; j < VECTOR / 8; j++) {
            pattern[j] = 0x5eed000000000000 | i << 8 | j;
        }
        pci_write16(vga, 0x04, 0x01);
        pci_write16(vga, 0x04, 0x03);
        avx_store(base + i * 4096, pattern);
        for (unsigned j = 0; j < VECTOR / 8; j++) {
            wrong += word[j] != pattern[j];
        }
    }
    check(!wrong, "frame-buffer", "%u words are not what was stored", wrong);
}

/* Program a byte after the other, and look at it as soon as that may be */
static void flash(uint64_t size)
{
    uint64_t base = (1ul << 32) - (256 << 10) - size, block = base + size - 4096;
    volatile uint8_t *byte = (volatile uint8_t *)block;
    uint8_t read[VECTOR];
    unsigned wrong = 0;

    byte[0] = 0x98;                     /* CFI query */
    if (((volatile uint8_t *)base)[0x10] != 'Q') {
        check(false, "flash", "there is none at %x", base);
        return;
    }
    byte[0] = 0x20;                     /* erase the block */
    byte[0] = 0xd0;
    byte[0] = 0xff;                     /* read the array */
    for (unsigned i = 0; i < ROUNDS; i++) {
        byte[i] = 0x10;
        byte[i] = i;
        byte[0] = 0xff;
        avx_load(read, block + (i & ~(VECTOR - 1)));
        wrong += read[i % VECTOR] != (uint8_t)i;
    }
    check(!wrong, "flash", "%u bytes are not what was programmed", wrong);
}

void ap_main(void)
{
    for (;;) {
        asm volatile("hlt");
    }
}

int main(void)
{
    uint64_t flash_size = argument(0);

    if (!enable_avx() || !find_vga()) {
        check(false, "vectors", "needs AVX, and -device VGA");
        done();
    }
    frame_buffer();
    if (flash_size) {
        flash(flash_size);
    }
    done();
}
