/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual interrupt that VMRUN makes pending is not lost to an interrupt
 * that another CPU sends at the same time. CPU 0 enters a nested guest with
 * V_IRQ set and must leave it at once by the VINTR intercept; CPU 1 does
 * nothing but send interrupts to CPU 0, which keeps them pending. QEMU changed
 * the CPU's word of pending interrupts from both sides without a lock, so that
 * either could undo what the other had just set.
 * It takes two CPUs that really run at the same time (-accel tcg,thread=multi).
 */
#include "svm.h"

#define VECTOR  0x50
#define RUNS    5000ul

static volatile bool ready, stop;
static volatile uint64_t sent;

static void nothing(void)
{
    vmmcall();
}

void ap_main(void)
{
    lapic_write(LAPIC_SVR, 0x1ff);
    lapic_write(LAPIC_ICR_HIGH, 0);
    ready = true;
    while (!stop) {
        lapic_write(LAPIC_ICR, VECTOR);
        sent++;
    }
    for (;;) {
        asm volatile("cli; hlt");
    }
}

int main(void)
{
    uint64_t lost = 0, other = 0;

    svm_init();
    idt_load();
    lapic_write(LAPIC_SVR, 0x1ff);
    ap_boot(1);
    while (!ready) {
    }

    for (uint64_t i = 0; i < RUNS; i++) {
        svm_guest(nothing, RFLAGS_FIXED | RFLAGS_IF);
        vmcb.intercept |= INTERCEPT_VINTR;
        vmcb.int_ctl = V_INTR_MASKING | V_IRQ | V_INTR_PRIO(15);
        switch (svm_run()) {
        case EXIT_VINTR:
            break;
        case EXIT_VMMCALL:
            lost++;
            break;
        default:
            other++;
            break;
        }
    }
    stop = true;
    print("# %u interrupts sent\n", sent);
    check(sent > RUNS / 100, "virq-other-cpu-ran", "%u interrupts sent", sent);
    check(!lost, "virq-not-lost", "%u of %u lost", lost, RUNS);
    check(!other, "virq-exits", "%u other exits of %u", other, RUNS);
    done();
}
