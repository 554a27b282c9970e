/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programs bytes of a flash, two stores each, and does nothing else: what one
 * store costs is the difference between two counts of them.
 *
 * -append COUNT: how many bytes, 1000 if nothing is said. The flash ends 256 KiB
 * below 4 GiB.
 */
#include "guest.h"

#define BLOCK   4096

void ap_main(void)
{
    for (;;) {
        asm volatile("hlt");
    }
}

int main(void)
{
    volatile uint8_t *block = (volatile uint8_t *)
        ((1ul << 32) - (256 << 10) - BLOCK);
    uint64_t count = argument(1000), last = (count - 1) % BLOCK;

    for (uint64_t i = 0; i < count; i++) {
        block[i % BLOCK] = 0x10;
        block[i % BLOCK] = i;
    }
    block[0] = 0xff;
    check(block[last] == (uint8_t)(count - 1), "stores", "%x", block[last]);
    done();
}
