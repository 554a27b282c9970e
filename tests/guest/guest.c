/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"

#define COM1    0x3f8
#define COM2    0x2f8
#define EXIT    0xf4    /* -device isa-debug-exit,iobase=0xf4 */
#define PM1_CNT 0x604   /* where SeaBIOS puts it on pc and q35 */
#define SLP_EN  0x2000

extern uint32_t multiboot_info;

static unsigned passed, failed, phases;
static uint16_t com = COM1;     /* where what is printed goes */

static struct {
    uint16_t offset_0, selector;
    uint16_t flags, offset_16;
    uint32_t offset_32, reserved;
} idt[256] __attribute__((aligned(16)));

static struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) idt_ptr = { sizeof(idt) - 1, (uintptr_t)idt };

static void put(char c)
{
    while (!(inb(com + 5) & 0x20)) {
    }
    outb(com, c);
}

static void put_number(uint64_t n, unsigned base)
{
    char digits[20];
    unsigned len = 0;

    do {
        digits[len++] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    while (len) {
        put(digits[--len]);
    }
}

static void vprint(const char *fmt, va_list ap)
{
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(*fmt);
            continue;
        }
        switch (*++fmt) {
        case 's':
            for (const char *s = va_arg(ap, const char *); *s; s++) {
                put(*s);
            }
            break;
        case 'u':
            put_number(va_arg(ap, uint64_t), 10);
            break;
        case 'x':
            put_number(va_arg(ap, uint64_t), 16);
            break;
        }
    }
}

void print(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vprint(fmt, ap);
    va_end(ap);
}

void check(bool ok, const char *name, const char *fmt, ...)
{
    va_list ap;

    if (ok) {
        passed++;
        print("ok %s\n", name);
        return;
    }
    failed++;
    print("not ok %s: ", name);
    va_start(ap, fmt);
    vprint(fmt, ap);
    va_end(ap);
    print("\n");
}

static bool in_lab(void)
{
    return inb(COM2 + 5) != 0xff;       /* what a port reads that is not there */
}

void tell_lab(const char *fmt, ...)
{
    va_list ap;

    if (!in_lab()) {
        return;
    }
    com = COM2;
    va_start(ap, fmt);
    vprint(fmt, ap);
    va_end(ap);
    com = COM1;
}

static void wait_for_lab(void)
{
    if (!in_lab()) {
        return;
    }
    do {
        while (!(inb(COM2 + 5) & 1)) {
        }
    } while (inb(COM2) != '\n');
}

void phase(const char *name)
{
    phases++;
    tell_lab("@phase %s\n", name);
    wait_for_lab();
}

void done(void)
{
    print("done %u %u\n", (uint64_t)passed, (uint64_t)failed);
    if (failed) {
        tell_lab("@fail see the guest's console\n");
        wait_for_lab();
    } else if (!phases) {
        phase("boot");
    }
    outb(EXIT, failed != 0);
    outw(PM1_CNT, SLP_EN);
    for (;;) {
        asm volatile("hlt");
    }
}

uint64_t argument(uint64_t otherwise)
{
    const uint32_t *info = (const uint32_t *)(uintptr_t)multiboot_info;
    const char *line = (const char *)(uintptr_t)info[4], *c;
    uint64_t n = 0;

    for (c = line; *c; c++) {
        if (*c == ' ') {
            line = c + 1;
        }
    }
    for (c = line; *c >= '0' && *c <= '9'; c++) {
        n = n * 10 + *c - '0';
    }
    return c == line || *c ? otherwise : n;
}

static uint16_t pci_select(unsigned devfn, unsigned reg)
{
    outl(0xcf8, 0x80000000 | devfn << 8 | (reg & 0xfc));
    return 0xcfc + (reg & 3);
}

uint32_t pci_read32(unsigned devfn, unsigned reg)
{
    return inl(pci_select(devfn, reg));
}

uint8_t pci_read8(unsigned devfn, unsigned reg)
{
    return inb(pci_select(devfn, reg));
}

void pci_write32(unsigned devfn, unsigned reg, uint32_t val)
{
    outl(pci_select(devfn, reg), val);
}

void pci_write16(unsigned devfn, unsigned reg, uint16_t val)
{
    outw(pci_select(devfn, reg), val);
}

void pci_write8(unsigned devfn, unsigned reg, uint8_t val)
{
    outb(pci_select(devfn, reg), val);
}

void idt_set(int vector, void (*handler)(struct interrupt_frame *))
{
    uintptr_t addr = (uintptr_t)handler;

    idt[vector].offset_0 = addr;
    idt[vector].offset_16 = addr >> 16;
    idt[vector].offset_32 = addr >> 32;
    idt[vector].selector = 8;
    idt[vector].flags = 0x8e00;     /* present, interrupt gate */
}

void idt_load(void)
{
    outb(0x21, 0xff);       /* nothing from the PICs that the BIOS set up */
    outb(0xa1, 0xff);
    asm volatile("lidt %0" : : "m"(idt_ptr));
}

static void ipi(uint32_t apic_id, uint32_t icr)
{
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR, icr);
}

void ap_boot(uint32_t apic_id)
{
    volatile uint8_t *page = (volatile uint8_t *)AP_PAGE;

    for (int i = 0; i < ap_end - ap_start; i++) {
        page[i] = ap_start[i];
    }
    ipi(apic_id, 0x4500);                       /* INIT */
    ipi(apic_id, 0x4600 | AP_PAGE >> 12);       /* start up */
}
