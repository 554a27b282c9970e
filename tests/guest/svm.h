/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of AMD's VMCB as the guests here use (APM volume 2, appendix B),
 * and a nested guest that shares the caller's address space.
 */
#ifndef SVM_H
#define SVM_H

#include "guest.h"

#define INTERCEPT_INTR      (1ull << 0)
#define INTERCEPT_VINTR     (1ull << 4)
#define INTERCEPT_SHUTDOWN  (1ull << 31)
#define INTERCEPT_VMRUN     (1ull << 32)
#define INTERCEPT_VMMCALL   (1ull << 33)

#define V_IRQ               (1u << 8)
#define V_INTR_PRIO(n)      ((uint32_t)(n) << 16)
#define V_INTR_MASKING      (1u << 24)

#define EVENTINJ_VALID      (1u << 31)      /* type 0: external interrupt */

#define EXIT_INTR           0x60
#define EXIT_VINTR          0x64
#define EXIT_VMMCALL        0x81

#define RFLAGS_FIXED        2
#define RFLAGS_IF           0x200

struct vmcb_seg {
    uint16_t selector, attrib;
    uint32_t limit;
    uint64_t base;
};

struct vmcb {
    uint32_t intercept_cr, intercept_dr, intercept_exceptions;
    uint64_t intercept;                                     /* 0x00c */
    uint8_t reserved_014[0x040 - 0x014];
    uint64_t iopm_base, msrpm_base, tsc_offset;             /* 0x040 */
    uint32_t asid;
    uint8_t tlb_ctl, reserved_05d[3];
    uint32_t int_ctl, int_vector, int_state, reserved_06c;  /* 0x060 */
    uint64_t exit_code, exit_info_1, exit_info_2;           /* 0x070 */
    uint32_t exit_int_info, exit_int_info_err;              /* 0x088 */
    uint64_t nested_ctl;                                    /* 0x090 */
    uint8_t reserved_098[0x0a8 - 0x098];
    uint32_t event_inj, event_inj_err;                      /* 0x0a8 */
    uint64_t nested_cr3;                                    /* 0x0b0 */
    uint8_t reserved_0b8[0x400 - 0x0b8];
    struct vmcb_seg es, cs, ss, ds, fs, gs;                 /* 0x400 */
    struct vmcb_seg gdtr, ldtr, idtr, tr;                   /* 0x460 */
    uint8_t reserved_4a0[0x4cb - 0x4a0];
    uint8_t cpl;
    uint32_t reserved_4cc;
    uint64_t efer;                                          /* 0x4d0 */
    uint8_t reserved_4d8[0x548 - 0x4d8];
    uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;          /* 0x548 */
    uint8_t reserved_580[0x5d8 - 0x580];
    uint64_t rsp;                                           /* 0x5d8 */
    uint8_t reserved_5e0[0x5f8 - 0x5e0];
    uint64_t rax;                                           /* 0x5f8 */
    uint8_t reserved_600[0x1000 - 0x600];
} __attribute__((packed, aligned(4096)));

_Static_assert(__builtin_offsetof(struct vmcb, nested_cr3) == 0xb0, "VMCB");
_Static_assert(__builtin_offsetof(struct vmcb, efer) == 0x4d0, "VMCB");
_Static_assert(__builtin_offsetof(struct vmcb, rip) == 0x578, "VMCB");
_Static_assert(sizeof(struct vmcb) == 4096, "VMCB");

extern struct vmcb vmcb;

/* Once a CPU, before anything else here. */
void svm_init(void);

/* Put the nested guest at the start of @entry, which ends in vmmcall(). */
void svm_guest(void (*entry)(void), uint64_t rflags);

/* Run it to its next #VMEXIT and return the exit code. */
uint64_t svm_run(void);

static inline void vmmcall(void)
{
    asm volatile("vmmcall" : : : "memory");
}

#endif
