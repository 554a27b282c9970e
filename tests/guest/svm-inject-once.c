/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An interrupt injected by VMRUN is delivered once. QEMU delivered it again
 * when the vCPU left its execution loop (end of an icount budget, a kick)
 * before the next #VMEXIT, and did so whether or not interrupts were enabled.
 */
#include "svm.h"

#define VECTOR      0x40
#define TICK        0x41
#define ROUNDS      20
#define SPIN        50000000ul  /* long enough for a few kicks and budgets */

static volatile uint64_t delivered, while_disabled;
static volatile bool enabled;

static interrupt_handler void injected(struct interrupt_frame *frame)
{
    delivered++;
    if (!enabled) {
        while_disabled++;
    }
    enabled = false;            /* an interrupt gate clears RFLAGS.IF */
    for (uint64_t i = 0; i < SPIN; i++) {
        asm volatile("");
    }
}

static interrupt_handler void tick(struct interrupt_frame *frame)
{
    lapic_write(LAPIC_EOI, 0);
}

static void stop(void)
{
    vmmcall();
}

int main(void)
{
    uint64_t total = 0, disabled = 0, exits = 0;

    svm_init();
    idt_set(VECTOR, injected);
    idt_set(TICK, tick);
    idt_load();

    lapic_write(LAPIC_SVR, 0x1ff);
    lapic_write(LAPIC_TDCR, 0xb);
    lapic_write(LAPIC_LVTT, 0x20000 | TICK);

    for (int i = 0; i < ROUNDS; i++) {
        /*
         * In every other round a timer that the CPU never lets in: it ends
         * icount budgets, but without icount it hides what a kick does.
         */
        lapic_write(LAPIC_TMICT, i & 1 ? 100000 : 0);
        delivered = while_disabled = 0;
        enabled = true;
        svm_guest(stop, RFLAGS_FIXED | RFLAGS_IF);
        vmcb.int_ctl = V_INTR_MASKING;
        vmcb.event_inj = EVENTINJ_VALID | VECTOR;
        exits += svm_run() == EXIT_VMMCALL;
        total += delivered;
        disabled += while_disabled;
    }
    check(exits == ROUNDS, "inject-reaches-end", "%u of %u runs", exits,
          (uint64_t)ROUNDS);
    check(total == ROUNDS, "inject-once", "%u injected, %u delivered",
          (uint64_t)ROUNDS, total);
    check(disabled == 0, "inject-only-if-enabled",
          "%u delivered while interrupts were disabled", disabled);
    done();
}
