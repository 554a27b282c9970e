/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "svm.h"

struct vmcb vmcb;
static uint8_t hsave[4096] __attribute__((aligned(4096)));
static uint8_t iopm[3 * 4096] __attribute__((aligned(4096)));
static uint8_t msrpm[2 * 4096] __attribute__((aligned(4096)));
static uint8_t stack[16384] __attribute__((aligned(16)));

/* The general registers of the nested guest other than rax and rsp. */
static uint64_t guest_regs[14];

void svm_init(void)
{
    wrmsr(MSR_VM_HSAVE_PA, (uintptr_t)hsave);
}

void svm_guest(void (*entry)(void), uint64_t rflags)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdtr, idtr;
    uint64_t cr0, cr4;

    asm volatile("sgdt %0; sidt %1" : "=m"(gdtr), "=m"(idtr));
    asm volatile("mov %%cr0, %0; mov %%cr4, %1" : "=r"(cr0), "=r"(cr4));

    vmcb = (struct vmcb) {
        .intercept = INTERCEPT_SHUTDOWN | INTERCEPT_VMRUN | INTERCEPT_VMMCALL,
        .iopm_base = (uintptr_t)iopm,
        .msrpm_base = (uintptr_t)msrpm,
        .asid = 1,
        /* One to one and open to user mode: it serves as nested table too. */
        .nested_ctl = 1,
        .nested_cr3 = (uintptr_t)pml4,
        .es = { 16, 0xc93, 0xffffffff, 0 },
        .cs = { 8, 0xa9b, 0xffffffff, 0 },
        .ss = { 16, 0xc93, 0xffffffff, 0 },
        .ds = { 16, 0xc93, 0xffffffff, 0 },
        .gdtr = { 0, 0, gdtr.limit, gdtr.base },
        .idtr = { 0, 0, idtr.limit, idtr.base },
        .efer = 0x1500,
        .cr0 = cr0,
        .cr3 = (uintptr_t)pml4,
        .cr4 = cr4,
        .dr6 = 0xffff0ff0,
        .dr7 = 0x400,
        .rflags = rflags,
        .rip = (uintptr_t)entry,
        /* As after a call: the ABI wants rsp + 8 aligned to 16. */
        .rsp = (uintptr_t)stack + sizeof(stack) - 8,
    };
}

uint64_t svm_run(void)
{
    asm volatile(
        "push %%rbp; push %%rbx\n\t"
        "push %%r12; push %%r13; push %%r14; push %%r15\n\t"
        "push %1\n\t"
        "mov 0x00(%1), %%rbx; mov 0x08(%1), %%rcx; mov 0x10(%1), %%rdx\n\t"
        "mov 0x18(%1), %%rsi; mov 0x28(%1), %%rbp\n\t"
        "mov 0x30(%1), %%r8;  mov 0x38(%1), %%r9;  mov 0x40(%1), %%r10\n\t"
        "mov 0x48(%1), %%r11; mov 0x50(%1), %%r12; mov 0x58(%1), %%r13\n\t"
        "mov 0x60(%1), %%r14; mov 0x68(%1), %%r15; mov 0x20(%1), %%rdi\n\t"
        "vmrun\n\t"
        "push %%rdi\n\t"
        "mov 8(%%rsp), %%rdi\n\t"
        "mov %%rbx, 0x00(%%rdi); mov %%rcx, 0x08(%%rdi)\n\t"
        "mov %%rdx, 0x10(%%rdi); mov %%rsi, 0x18(%%rdi)\n\t"
        "pop 0x20(%%rdi)\n\t"
        "mov %%rbp, 0x28(%%rdi); mov %%r8, 0x30(%%rdi)\n\t"
        "mov %%r9, 0x38(%%rdi);  mov %%r10, 0x40(%%rdi)\n\t"
        "mov %%r11, 0x48(%%rdi); mov %%r12, 0x50(%%rdi)\n\t"
        "mov %%r13, 0x58(%%rdi); mov %%r14, 0x60(%%rdi)\n\t"
        "mov %%r15, 0x68(%%rdi)\n\t"
        "pop %%rdi\n\t"
        "stgi\n\t"                /* #VMEXIT cleared it */
        "pop %%r15; pop %%r14; pop %%r13; pop %%r12\n\t"
        "pop %%rbx; pop %%rbp"
        : : "a"(&vmcb), "D"(guest_regs)
        : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory");
    return vmcb.exit_code;
}
