/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No interrupt is lost to a VMRUN with a virtual interrupt pending. CPU 1
 * sends interrupts to CPU 0 one at a time, CPU 0 does nothing but VMRUN. QEMU
 * merged the virtual interrupt into the CPU's pending interrupts without a
 * lock and lost what came in meanwhile: CPU 1 then waits for ever.
 * It takes two CPUs that really run at the same time (-accel tcg,thread=multi).
 */
#include "svm.h"

#define VECTOR      0x50
#define IPIS        100000ul
#define PATIENCE    200000ul    /* VMRUNs of CPU 0 without taking an IPI */

static volatile uint64_t runs, acks, sent, lost_at;
static volatile bool ap_ready, ap_done;

static interrupt_handler void ack(struct interrupt_frame *frame)
{
    acks++;
    lapic_write(LAPIC_EOI, 0);
}

static void nothing(void)
{
    vmmcall();
}

void ap_main(void)
{
    lapic_write(LAPIC_SVR, 0x1ff);
    ap_ready = true;
    while (sent < IPIS && !lost_at) {
        uint64_t start = runs;

        lapic_write(LAPIC_ICR_HIGH, 0);
        lapic_write(LAPIC_ICR, VECTOR);
        sent++;
        while (acks != sent) {
            if (runs - start > PATIENCE) {
                lost_at = sent;
                break;
            }
        }
        /* Let CPU 0 be anywhere in its loop when the next one comes. */
        for (uint64_t i = sent % 97; i; i--) {
            asm volatile("");
        }
    }
    ap_done = true;
    for (;;) {
        asm volatile("cli; hlt");
    }
}

int main(void)
{
    svm_init();
    idt_set(VECTOR, ack);
    idt_load();
    lapic_write(LAPIC_SVR, 0x1ff);

    ap_boot(1);
    while (!ap_ready) {
    }
    while (!ap_done) {
        svm_guest(nothing, RFLAGS_FIXED | RFLAGS_IF);
        vmcb.intercept |= INTERCEPT_VINTR;
        vmcb.int_ctl = V_INTR_MASKING | V_IRQ | V_INTR_PRIO(15);
        svm_run();
        runs++;
        asm volatile("sti; nop; cli");
    }
    print("# %u interrupts, %u runs\n", acks, runs);
    check(!lost_at, "virq-loses-no-interrupt",
          "interrupt %u of %u never came in %u runs", lost_at,
          (uint64_t)IPIS, PATIENCE);
    check(lost_at || acks == IPIS, "virq-all-interrupts", "%u of %u", acks,
          (uint64_t)IPIS);
    done();
}
