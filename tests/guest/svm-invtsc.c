/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -cpu ...,+invtsc shows CPUID 8000_0007h EDX bit 8 to the guest. */
#include "guest.h"

int main(void)
{
    uint32_t reg[4];

    cpuid(0x80000000, reg);
    check(reg[0] >= 0x80000007, "invtsc-leaf", "highest leaf %x",
          (uint64_t)reg[0]);
    cpuid(0x80000007, reg);
    check(reg[3] >> 8 & 1, "invtsc-bit", "edx %x", (uint64_t)reg[3]);
    done();
}
