/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an operation costs: with one host CPU and a virtual time that counts
 * instructions (-icount shift=0) a tick of the TSC is an instruction, whether
 * the guest, KVM or QEMU executes it.
 *
 * In phase "boot" each path runs in batches, and the lab is told what each of
 * them took.  Then one batch of each path is a phase of its own, named after
 * the path, in which the lab counts what the host does.
 *
 * Needs q35 with SMM, 768 MiB and a processor with SMEP.
 */
#include "guest.h"

#define HOST            0
#define SMRAM           0x9d            /* register of the host bridge */
#define SMRAM_CLOSED    0x0a
#define SMRAM_OPEN      0x4a
#define SMI_HANDLER     0xa8000ul       /* where SeaBIOS moves SMRAM, 0x8000 on */
#define SMI_COUNT       AP_PAGE         /* no second CPU starts there */
#define SMI_EN          0x630
#define APM_CNT         0xb2            /* writes to it raise an SMI, */
#define APM_STS         0xb3            /* to this one don't */

#define CR0_WP          (1u << 16)
#define CR4_PSE         (1u << 4)
#define CR4_PGE         (1u << 7)
#define CR4_SMEP        (1u << 20)
#define MSR_EFER        0xc0000080
#define EFER_NXE        (1u << 11)
#define EFER_SVME       (1u << 12)
#define PTE_USER        4ul

#define PAGE            4096ul
#define REGION          (2ul << 20)     /* what one page table maps */
#define UNTOUCHED       (64ul << 20)    /* the firmware was not here */

/*
 * KVM fetches page tables in advance, 36 at a time: each batch of that many
 * pays for one round.  They take up 576 MiB.
 */
#define TABLES          36
#define MAX_BATCHES     15

struct path {
    const char *name;
    unsigned ops, batches;
    void (*run)(unsigned ops);
};

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return low | (uint64_t)high << 32;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return low | (uint64_t)high << 32;
}

static inline uint64_t read_cr0(void)
{
    uint64_t val;

    asm volatile("mov %%cr0, %0" : "=r"(val));
    return val;
}

static inline void write_cr0(uint64_t val)
{
    asm volatile("mov %0, %%cr0" : : "r"(val) : "memory");
}

static inline uint64_t read_cr4(void)
{
    uint64_t val;

    asm volatile("mov %%cr4, %0" : "=r"(val));
    return val;
}

static inline void write_cr4(uint64_t val)
{
    asm volatile("mov %0, %%cr4" : : "r"(val) : "memory");
}

/* An operation is one write: half of them set the bit, half clear it. */

static void loop(unsigned ops)
{
    for (unsigned i = 0; i < ops; i += 2) {
        asm volatile("");
    }
}

static void cr0_wp(unsigned ops)
{
    uint64_t old = read_cr0();

    for (unsigned i = 0; i < ops; i += 2) {
        write_cr0(old ^ CR0_WP);
        write_cr0(old);
    }
}

/* Paging is turned off from 32-bit code, with which all of long mode goes. */
void toggle_paging(unsigned pairs);
asm("   .globl toggle_paging\n"
    "toggle_paging:\n"
    "   push %rbx\n"
    "   push %rbp\n"
    "   push %r12\n"
    "   push %r13\n"
    "   push %r14\n"
    "   push %r15\n"
    "   pushq $0x18\n"
    "   pushq $1f\n"
    "   lretq\n"
    "   .code32\n"
    "1: mov %cr0, %eax\n"
    "   mov %eax, %edx\n"
    "   btr $31, %edx\n"
    "2: mov %edx, %cr0\n"
    "   mov %eax, %cr0\n"
    "   dec %edi\n"
    "   jnz 2b\n"
    "   ljmp $8, $3f\n"
    "   .code64\n"
    "3: pop %r15\n"
    "   pop %r14\n"
    "   pop %r13\n"
    "   pop %r12\n"
    "   pop %rbp\n"
    "   pop %rbx\n"
    "   ret\n");

static void cr0_pg(unsigned ops)
{
    toggle_paging(ops / 2);
}

static void toggle_cr4(unsigned ops, uint64_t bit)
{
    uint64_t old = read_cr4();

    for (unsigned i = 0; i < ops; i += 2) {
        write_cr4(old ^ bit);
        write_cr4(old);
    }
}

static void cr4_pge(unsigned ops)
{
    toggle_cr4(ops, CR4_PGE);
}

static void cr4_pse(unsigned ops)
{
    toggle_cr4(ops, CR4_PSE);
}

static void cr4_smep(unsigned ops)
{
    toggle_cr4(ops, CR4_SMEP);
}

static void efer_nxe(unsigned ops)
{
    uint64_t old = rdmsr(MSR_EFER);

    for (unsigned i = 0; i < ops; i += 2) {
        wrmsr(MSR_EFER, old ^ EFER_NXE);
        wrmsr(MSR_EFER, old);
    }
}

/* Exits that have nothing to do with the MMU, to KVM and to QEMU. */

static void exit_kvm(unsigned ops)
{
    uint32_t reg[4];

    while (ops--) {
        cpuid(0, reg);
    }
}

static void exit_qemu(unsigned ops)
{
    while (ops--) {
        outb(APM_STS, 0);
    }
}

static void smi(unsigned ops)
{
    while (ops--) {
        outb(APM_CNT, 0x55);
    }
}

/* A page of each region in turn, then the others of the same regions. */

static uint64_t next_region = UNTOUCHED;
static uint64_t next_page = UNTOUCHED + PAGE;

static void touch(uint64_t addr)
{
    *(volatile uint64_t *)addr = addr;
}

static void fault_table(unsigned ops)
{
    while (ops--) {
        touch(next_region);
        next_region += REGION;
    }
}

static void fault(unsigned ops)
{
    while (ops--) {
        touch(next_page);
        next_page += PAGE;
        if (next_page % REGION == 0) {
            next_page += PAGE;
        }
    }
}

static const struct path paths[] = {
    { "loop", 64, MAX_BATCHES, loop },
    { "exit-kvm", 64, MAX_BATCHES, exit_kvm },
    { "exit-qemu", 64, MAX_BATCHES, exit_qemu },
    { "cr0-wp", 64, MAX_BATCHES, cr0_wp },
    { "cr0-pg", 64, MAX_BATCHES, cr0_pg },
    { "cr4-pge", 64, MAX_BATCHES, cr4_pge },
    { "cr4-pse", 64, MAX_BATCHES, cr4_pse },
    { "cr4-smep", 64, MAX_BATCHES, cr4_smep },
    { "efer-nxe", 64, MAX_BATCHES, efer_nxe },
    { "smi", 32, MAX_BATCHES, smi },
    { "fault-table", TABLES, 7, fault_table },
    { "fault", 64, MAX_BATCHES, fault },
};
#define PATHS   (sizeof(paths) / sizeof(paths[0]))

static void take_time(const struct path *path)
{
    uint64_t ticks[MAX_BATCHES];

    for (unsigned i = 0; i < path->batches; i++) {
        uint64_t start = rdtsc();

        path->run(path->ops);
        ticks[i] = rdtsc() - start;
    }
    print("# %s, %u operations a batch:", path->name, (uint64_t)path->ops);
    tell_lab("@batches name=%s ops=%u ticks=", path->name,
             (uint64_t)path->ops);
    for (unsigned i = 0; i < path->batches; i++) {
        print(" %u", ticks[i]);
        tell_lab(i ? ",%u" : "%u", ticks[i]);
    }
    print("\n");
    tell_lab("\n");
}

/* Is a tick an instruction?  The least of three, as interrupts take some. */
static void check_unit(void)
{
    const uint32_t rounds = 100000;
    uint64_t least = -1;

    for (int i = 0; i < 3; i++) {
        uint64_t start = rdtsc(), ticks;
        uint32_t n = rounds;

        asm volatile("1: dec %0\n\tjnz 1b" : "+r"(n) : : "cc");
        ticks = rdtsc() - start;
        least = ticks < least ? ticks : least;
    }
    check(least >= 2 * rounds && least < 2 * rounds + 20, "unit",
          "%u instructions took %u ticks of the TSC, which takes one CPU and "
          "-icount shift=0", 2ul * rounds, least);
}

static bool has_smep(void)
{
    uint32_t reg[4];

    cpuid(7, reg);
    return reg[1] >> 7 & 1;
}

/* incl SMI_COUNT; rsm */
static void smi_install(void)
{
    static const uint8_t handler[] = {
        0x66, 0xff, 0x06, SMI_COUNT & 0xff, SMI_COUNT >> 8, 0x0f, 0xaa,
    };

    pci_write8(HOST, SMRAM, SMRAM_OPEN);
    for (unsigned i = 0; i < sizeof(handler); i++) {
        *(volatile uint8_t *)(SMI_HANDLER + i) = handler[i];
    }
    pci_write8(HOST, SMRAM, SMRAM_CLOSED);
    outl(SMI_EN, inl(SMI_EN) | 0x21);
    *(volatile uint32_t *)SMI_COUNT = 0;
}

static void smi_check(void)
{
    uint32_t count = *(volatile uint32_t *)SMI_COUNT, wanted = 0;

    for (unsigned i = 0; i < PATHS; i++) {
        if (paths[i].run == smi) {
            wanted += paths[i].ops * (paths[i].batches + 1);
        }
    }
    check(count == wanted, "smi", "%u SMIs were handled, %u raised",
          (uint64_t)count, (uint64_t)wanted);
}

int main(void)
{
    if (pci_read32(HOST, 0) != 0x29c08086 || !has_smep()) {
        check(false, "machine", "needs -machine q35 and a CPU with SMEP");
        done();
    }
    /* With SMEP nothing on a user's page can be executed. */
    pml4[0] &= ~PTE_USER;
    asm volatile("mov %0, %%cr3" : : "r"(pml4) : "memory");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_SVME);
    check_unit();
    smi_install();

    for (unsigned i = 0; i < PATHS; i++) {
        take_time(&paths[i]);
    }
    phase("boot");
    for (unsigned i = 0; i < PATHS; i++) {
        paths[i].run(paths[i].ops);
        phase(paths[i].name);
    }
    smi_check();
    done();
}
