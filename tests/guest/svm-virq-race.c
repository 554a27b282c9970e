/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No interrupt is lost to a VMRUN that makes a virtual interrupt pending, nor
 * the other way round. CPU 0 enters a nested guest with V_IRQ set and must
 * leave it at once by the VINTR intercept; CPU 1 sends it interrupts, one at a
 * time. QEMU changed the CPU's word of pending interrupts from both sides
 * without a lock, so that either could undo what the other had just set.
 *
 * It takes two CPUs that really run at the same time, and luck: the window is
 * one instruction. On two cores one interrupt in some thousands was lost.
 */
#include "svm.h"

#define VECTOR      0x50
#define INTERRUPTS  10000ul
#define PATIENCE    20000ul     /* VMRUNs of CPU 0 without the interrupt */

static volatile bool ready, stop;
static volatile uint64_t runs, acks, sent, missing;

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
    lapic_write(LAPIC_ICR_HIGH, 0);
    ready = true;
    while (sent < INTERRUPTS && !missing) {
        uint64_t start = runs;

        lapic_write(LAPIC_ICR, VECTOR);
        sent++;
        while (acks != sent && !missing) {
            if (runs - start > PATIENCE) {
                missing = sent;
            }
        }
        /* Find CPU 0 anywhere in its loop. */
        for (uint64_t i = sent * 7919 % 50021; i; i--) {
            asm volatile("");
        }
    }
    stop = true;
    for (;;) {
        asm volatile("cli; hlt");
    }
}

int main(void)
{
    uint64_t lost = 0, other = 0;

    svm_init();
    idt_set(VECTOR, ack);
    idt_load();
    lapic_write(LAPIC_SVR, 0x1ff);
    /* The PIC's timer would make QEMU look at this APIC 36 times a second. */
    lapic_write(LAPIC_LVT0, 0x10000);
    ap_boot(1);
    while (!ready) {
    }

    while (!stop) {
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
        runs++;
        asm volatile("sti; nop; cli");
    }
    print("# %u interrupts, %u VMRUNs\n", acks, runs);
    check(!missing && acks == INTERRUPTS, "virq-loses-no-interrupt",
          "%u of %u came, number %u did not in %u VMRUNs", acks, INTERRUPTS,
          missing, PATIENCE);
    check(!lost, "virq-not-lost", "%u of %u lost", lost, runs);
    check(!other, "virq-exits", "%u other exits of %u", other, runs);
    done();
}
