/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the bare-metal guests share: ports, MSRs, the local APIC, an IDT, PCI
 * and the way they report. One "ok NAME" or "not ok NAME: why" line a check,
 * then done(); a guest that dies or hangs before done() has failed.
 *
 * In the lab, where there is a second serial port, phase() ends a phase: it
 * returns when the lab has read its counters. done() turns the machine off; of
 * a guest that has named no phase it is the end of phase "boot".
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#define AP_PAGE         0x8000
#define LAPIC           0xfee00000ul
#define LAPIC_ID        0x20
#define LAPIC_EOI       0xb0
#define LAPIC_SVR       0xf0
#define LAPIC_ICR       0x300
#define LAPIC_ICR_HIGH  0x310
#define LAPIC_LVTT      0x320
#define LAPIC_LVT0      0x350
#define LAPIC_TMICT     0x380
#define LAPIC_TDCR      0x3e0

#define MSR_VM_HSAVE_PA 0xc0010117

#define interrupt_handler __attribute__((interrupt))
struct interrupt_frame;

extern uint64_t pml4[];
extern const uint8_t ap_start[], ap_end[];

static inline void outb(uint16_t port, uint8_t val)
{
    asm volatile("outb %0, %1" : : "a"(val), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t val;

    asm volatile("inb %1, %0" : "=a"(val) : "Nd"(port) : "memory");
    return val;
}

static inline void outw(uint16_t port, uint16_t val)
{
    asm volatile("outw %0, %1" : : "a"(val), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t val)
{
    asm volatile("outl %0, %1" : : "a"(val), "Nd"(port) : "memory");
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t val;

    asm volatile("inl %1, %0" : "=a"(val) : "Nd"(port) : "memory");
    return val;
}

static inline void wrmsr(uint32_t msr, uint64_t val)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)val),
                 "d"((uint32_t)(val >> 32)) : "memory");
}

static inline void cpuid(uint32_t leaf, uint32_t reg[4])
{
    asm volatile("cpuid" : "=a"(reg[0]), "=b"(reg[1]), "=c"(reg[2]),
                 "=d"(reg[3]) : "0"(leaf), "2"(0));
}

static inline uint32_t lapic_read(uint32_t reg)
{
    return *(volatile uint32_t *)(LAPIC + reg);
}

static inline void lapic_write(uint32_t reg, uint32_t val)
{
    *(volatile uint32_t *)(LAPIC + reg) = val;
}

void print(const char *fmt, ...);               /* %s, %u and %x (64 bit) */
void check(bool ok, const char *name, const char *fmt, ...);
void tell_lab(const char *fmt, ...);            /* a line for the lab's init */
void phase(const char *name);
void done(void) __attribute__((noreturn));
uint64_t argument(uint64_t otherwise);          /* last word of -append */
void idt_load(void);
void idt_set(int vector, void (*handler)(struct interrupt_frame *));
void ap_boot(uint32_t apic_id);
void ap_main(void) __attribute__((noreturn));

/* Configuration space of bus 0, one write of the register's own width */
uint32_t pci_read32(unsigned devfn, unsigned reg);
uint8_t pci_read8(unsigned devfn, unsigned reg);
void pci_write32(unsigned devfn, unsigned reg, uint32_t val);
void pci_write16(unsigned devfn, unsigned reg, uint16_t val);
void pci_write8(unsigned devfn, unsigned reg, uint8_t val);

#endif
