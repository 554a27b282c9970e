/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A nested guest writes CR8 while a virtual interrupt is pending. QEMU
 * aborted there ("assertion failed: (bql_locked())").
 */
#include "svm.h"

static volatile uint64_t tpr;

static void set_tpr(void)
{
    asm volatile("mov %0, %%cr8" : : "r"(tpr) : "memory");
    vmmcall();
}

static uint64_t run(uint64_t new_tpr, uint64_t rflags)
{
    uint64_t exit;

    tpr = new_tpr;
    svm_guest(set_tpr, rflags);
    vmcb.intercept |= INTERCEPT_VINTR;
    vmcb.int_ctl = V_INTR_MASKING | V_IRQ | V_INTR_PRIO(4) | 15;
    exit = svm_run();
    print("# tpr %u: exit %x, int_ctl %x\n", new_tpr, exit,
          (uint64_t)vmcb.int_ctl);
    return exit;
}

int main(void)
{
    svm_init();
    idt_load();

    check(run(2, RFLAGS_FIXED) == EXIT_VMMCALL, "cr8-write-irq-pending",
          "exit code %x", vmcb.exit_code);
    check((vmcb.int_ctl & 0xff) == 2, "cr8-write-sets-v-tpr",
          "int_ctl %x", (uint64_t)vmcb.int_ctl);
    check(run(2, RFLAGS_FIXED | RFLAGS_IF) == EXIT_VINTR,
          "cr8-write-unmasks-irq", "exit code %x", vmcb.exit_code);
    check(run(9, RFLAGS_FIXED | RFLAGS_IF) == EXIT_VMMCALL,
          "cr8-write-keeps-irq-masked", "exit code %x", vmcb.exit_code);
    done();
}
