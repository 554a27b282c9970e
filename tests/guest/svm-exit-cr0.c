/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * #VMEXIT restores the host's CR0 whatever the guest had in its own control
 * registers. QEMU looked at the guest's CR4.PAE and EFER.LME and left the host
 * with the guest's CR0, paging off, if they were 0 and 1.
 */
#include "svm.h"

#define CR0_PE      0x1
#define CR0_ET      0x10
#define CR0_PG      0x80000000
#define EFER_LME    0x100
#define EFER_SVME   0x1000

static void guest(void)
{
    vmmcall();      /* the same bytes in 16, 32 and 64 bit mode */
}

static uint64_t read_cr0(void)
{
    uint64_t cr0;

    asm volatile("mov %%cr0, %0" : "=r"(cr0));
    return cr0;
}

static void run(uint64_t efer, const char *name)
{
    uint64_t before = read_cr0(), after, exit;

    svm_guest(guest, RFLAGS_FIXED);
    vmcb.efer = EFER_SVME | efer;
    vmcb.cr0 = CR0_PE | CR0_ET;
    vmcb.cr4 = 0;
    vmcb.cs.attrib = 0xc9b;         /* 32 bit */
    exit = svm_run();
    after = read_cr0();
    check(exit == EXIT_VMMCALL && after == before, name,
          "exit %x, host's CR0 %x before, %x after", exit, before, after);
}

int main(void)
{
    svm_init();
    idt_load();
    run(0, "exit-cr0-legacy-guest");
    run(EFER_LME, "exit-cr0-lme-without-pae");
    done();
}
