/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Multiboot entry of the bare-metal guests: 32-bit to long mode with the
 * first 4 GiB mapped one to one, then main(). A second CPU that is sent a
 * start-up IPI takes the same way and ends in ap_main().
 */

#define STACK 16384

    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
    .globl start32
start32:
    mov $stack_bsp + STACK, %esp
    mov %ebx, multiboot_info
    mov $main, %edi

long_mode:
    lgdt gdt_ptr
    mov $pml4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x620, %eax             /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $0xc0000080, %ecx       /* EFER: LME, SVME */
    rdmsr
    or $0x1100, %eax
    wrmsr
    mov $0x80000033, %eax       /* PG, NE, ET, MP, PE */
    mov %eax, %cr0
    ljmp $8, $start64

    .code64
start64:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    call *%rdi
1:  hlt
    jmp 1b

/*
 * The other CPU starts in real mode on the page that main() copies
 * ap_start to (AP_PAGE in guest.h): only absolute jumps from here.
 */
    .code16
    .globl ap_start, ap_end
ap_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl %cs:(ap_gdt_ptr - ap_start)
    mov $0x31, %eax
    mov %eax, %cr0
    ljmpl $24, $ap_start32
ap_gdt_ptr:
    .word gdt_end - gdt - 1
    .long gdt
ap_end:

    .code32
ap_start32:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $stack_ap + STACK, %esp
    mov $ap_main, %edi
    jmp long_mode

    .weak ap_main

    .data
    .balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    /* 0x08: 64-bit code */
    .quad 0x00cf93000000ffff    /* 0x10: data */
    .quad 0x00cf9b000000ffff    /* 0x18: 32-bit code */
gdt_end:
    .globl gdt_ptr
gdt_ptr:
    .word gdt_end - gdt - 1
    .quad gdt

    .balign 4096
    .globl pml4
pml4:
    .quad pdpt + 7
    .fill 511, 8, 0
pdpt:
    .set i, 0
    .rept 4
    .quad pd + i * 4096 + 7
    .set i, i + 1
    .endr
    .fill 508, 8, 0
pd:
    .set i, 0
    .rept 2048
    .quad i * 0x200000 + 0x87
    .set i, i + 1
    .endr

    .bss
    .globl multiboot_info
multiboot_info:
    .skip 4
    .balign 16
stack_bsp:
    .skip STACK
stack_ap:
    .skip STACK
