/*
 * QTest for SREGS that KVM holds already, and that QEMU is not to write
 *
 * A guest with PAE paging asks VMware's backdoor for its version 1,000 times
 * and halts; then its registers are looked at, and changed.  What reaches KVM
 * is read from the trace.  KVM_SREGS_TEST_REFERENCE may name an unmodified
 * QEMU to compare with.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include <sys/un.h>
#include "kvm-common.h"
#include "qemu/units.h"

#define CALLS           0x3000      /* of the backdoor, so far */
#define HALTED          0x3008      /* how often the guest came to its end */
#define VMPORT_CALLS    1000
#define MONITOR_CALLS   1000

/*
 * At 0xf0000 and at the end of the first 4 GiB.  In real mode it makes page
 * tables that map the first 2 MiB one to one.
 */
static const uint8_t guest_code[] = {
    0xfa,                                       /*     cli */
    0x31, 0xc0, 0x8e, 0xd8,                     /*     ds = 0 */
    0x66, 0xc7, 0x06, 0x00, 0x10, 0x01, 0x20, 0x00, 0x00,
                                                /*     PDPT[0] = PD | P */
    0x66, 0xc7, 0x06, 0x00, 0x20, 0x83, 0x00, 0x00, 0x00,
                                                /*     PD[0] = 0 | PS, RW, P */
    0x2e, 0x66, 0x0f, 0x01, 0x16, 0xb0, 0x00,   /*     lgdtl %cs:gdtr */
    0x66, 0xb8, 0x11, 0x00, 0x00, 0x00,
    0x0f, 0x22, 0xc0,                           /*     cr0 = ET, PE */
    0x66, 0xea, 0x2f, 0x00, 0x0f, 0x00, 0x08, 0x00,
                                                /*     ljmpl $8, $1f */
    0xb8, 0x10, 0x00, 0x00, 0x00,               /* 1: */
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,         /*     ds = es = ss = 16 */
    0xb8, 0x20, 0x06, 0x00, 0x00,
    0x0f, 0x22, 0xe0,                           /*     cr4 = PAE, OSFXSR, ... */
    0xb8, 0x00, 0x10, 0x00, 0x00,
    0x0f, 0x22, 0xd8,                           /*     cr3 = PDPT */
    0xb8, 0x11, 0x00, 0x00, 0x80,
    0x0f, 0x22, 0xc0,                           /*     cr0 = PG, ET, PE */
    0xbe, 0x00, 0x00, 0x00, 0x80,
    0x66, 0x0f, 0x6e, 0xce,                     /*     xmm1 = 1 << 31 */
    0xb8, 0x68, 0x58, 0x4d, 0x56,               /* 2:  eax = magic */
    0x31, 0xdb,                                 /*     ebx = 0 */
    0xb9, 0x0a, 0x00, 0x00, 0x00,               /*     ecx = GETVERSION */
    0xba, 0x58, 0x56, 0x00, 0x00,               /*     edx = port */
    0xed,                                       /*     inl %dx, %eax */
    0x81, 0xfb, 0x68, 0x58, 0x4d, 0x56,         /*     is ebx the magic? */
    0x75, 0x12,                                 /*     jne 3f */
    0xff, 0x05, 0x00, 0x30, 0x00, 0x00,         /*     count */
    0x81, 0x3d, 0x00, 0x30, 0x00, 0x00, VMPORT_CALLS & 0xff,
    VMPORT_CALLS >> 8, 0x00, 0x00,              /*     enough? */
    0x72, 0xd4,                                 /*     jb 2b */
    0xa3, 0x04, 0x30, 0x00, 0x00,               /* 3:  keep the answer */
    0xff, 0x05, 0x08, 0x30, 0x00, 0x00,         /*     this is the end */
    0xf4,                                       /* 4:  hlt */
    0xeb, 0xfd,                                 /*     jmp 4b */
    0x90, 0x90, 0x90,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,
                                                /* 8:  32-bit code */
    0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00,
                                                /* 16: data */
    0x17, 0x00, 0x98, 0x00, 0x0f, 0x00,         /* gdtr */
};

static char *tmp_dir;
static char *rom;

typedef struct Vm {
    QTestState *qts;
    char *log;
} Vm;

static void vm_start(Vm *vm, const char *var, const char *more)
{
    static int count;
    g_autofree char *args = NULL;

    vm->log = g_strdup_printf("%s/%d.log", tmp_dir, count++);
    args = g_strdup_printf("-accel kvm -M pc,vmport=on -S -m 16 " QUIET_CPU " "
                           "-nodefaults -vga none -bios %s -D %s "
                           "-trace kvm_vcpu_ioctl %s", rom, vm->log, more);
    vm->qts = var ? qtest_init_ext(var, args, NULL, true) : qtest_init(args);
}

static void vm_stop(Vm *vm)
{
    qtest_quit(vm->qts);
    unlink(vm->log);
    g_free(vm->log);
}

/* Let the guest run until it has come to its end for the @times-th time. */
static void run_guest(Vm *vm, uint32_t times)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;

    qtest_qmp_assert_success(vm->qts, "{'execute': 'cont'}");
    while (qtest_readl(vm->qts, HALTED) < times) {
        if (g_get_monotonic_time() > end) {
            g_error("the guest does not halt: %u calls of the backdoor",
                    qtest_readl(vm->qts, CALLS));
        }
        g_usleep(10000);
    }
    /* It has one instruction left. */
    g_usleep(20000);
    g_assert_cmpuint(qtest_readl(vm->qts, CALLS), >=, VMPORT_CALLS);
}

/* How often SREGS were written so far */
static unsigned int sregs_writes(Vm *vm)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    unsigned int count = 0;

    g_file_get_contents(vm->log, &text, NULL, &err);
    g_assert_no_error(err);
    for (char *at = text; (at = strstr(at, "kvm_vcpu_ioctl cpu_index")); at++) {
        const char *number = strstr(at, "type 0x");
        unsigned long type = number ? strtoul(number + 5, NULL, 16) : 0;

        count += type == KVM_SET_SREGS || type == KVM_SET_SREGS2;
    }
    return count;
}

static char *registers(Vm *vm)
{
    return qtest_hmp(vm->qts, "info registers -a");
}

/* Returns how often SREGS were written meanwhile */
static unsigned int look_at_guest(Vm *vm)
{
    unsigned int before = sregs_writes(vm);

    run_guest(vm, 1);
    for (int i = 0; i < MONITOR_CALLS; i++) {
        g_free(qtest_hmp(vm->qts, "info registers"));
    }
    return sregs_writes(vm) - before;
}

/* Nobody changes SREGS, so they are not written. */
static void test_pae(void)
{
    g_autofree char *shown = NULL, *expected = NULL;
    Vm vm, reference;
    unsigned int n;

    if (!have_kvm_or_skip() || !guest_runs_or_skip()) {
        return;
    }

    vm_start(&vm, NULL, "");
    n = look_at_guest(&vm);
    g_test_message("%d backdoor calls, %d info registers: SREGS written %u "
                   "times", VMPORT_CALLS, MONITOR_CALLS, n);
    g_assert_cmpuint(n, ==, 0);

    if (g_getenv("KVM_SREGS_TEST_REFERENCE")) {
        vm_start(&reference, "KVM_SREGS_TEST_REFERENCE", "");
        n = look_at_guest(&reference);
        g_test_message("unmodified: %u times", n);
        g_assert_cmpuint(n, >=, VMPORT_CALLS);
        shown = registers(&vm);
        expected = registers(&reference);
        g_assert_cmpstr(shown, ==, expected);
        vm_stop(&reference);
    }
    vm_stop(&vm);
}

/* One packet to a debugger's stub, and one answer */
static void gdb_packet(int fd, const char *data, const char *answer)
{
    g_autofree char *packet = NULL;
    char buf[4096];
    unsigned char sum = 0;
    size_t len = 0;

    for (const char *p = data; *p; p++) {
        sum += *p;
    }
    packet = g_strdup_printf("$%s#%02x", data, sum);
    g_assert_cmpint(write(fd, packet, strlen(packet)), ==, strlen(packet));
    while (!memchr(buf, '#', len)) {
        ssize_t n = read(fd, buf + len, sizeof(buf) - 1 - len);

        g_assert_cmpint(n, >, 0);
        len += n;
        buf[len] = '\0';
    }
    g_assert_nonnull(strstr(buf, answer));
    g_assert_cmpint(write(fd, "+", 1), ==, 1);
}

/* What a debugger writes reaches KVM, whichever registers it is in. */
static void test_gdb(void)
{
    g_autofree char *path = g_strdup_printf("%s/gdb", tmp_dir);
    g_autofree char *args = g_strdup_printf("-gdb unix:%s,server=on,wait=off",
                                            path);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_autofree char *text = NULL;
    unsigned int before;
    Vm vm;
    int fd;

    if (!have_kvm_or_skip() || !guest_runs_or_skip()) {
        return;
    }

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    vm_start(&vm, NULL, args);
    run_guest(&vm, 1);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    gdb_packet(fd, "?", "$T");
    /* "g" is what makes QEMU read the registers from KVM. */
    gdb_packet(fd, "g", "$");
    before = sregs_writes(&vm);
    gdb_packet(fd, "P6=7856341200000000", "$OK");       /* ebp */
    gdb_packet(fd, "P1c=00f0adde00000000", "$OK");      /* cr2 */
    gdb_packet(fd, "D", "$OK");
    close(fd);
    unlink(path);

    /* It ran meanwhile: this is from KVM again. */
    text = registers(&vm);
    g_assert_nonnull(strstr(text, "EBP=12345678"));
    g_assert_nonnull(strstr(text, "CR2=deadf000"));
    g_assert_cmpuint(sregs_writes(&vm), >, before);
    vm_stop(&vm);
}

/* A reset and a load write them, whatever KVM holds. */
static void test_reset_and_load(void)
{
    g_autofree char *file = g_strdup_printf("%s/disk.qcow2", tmp_dir);
    g_autofree char *at_end = NULL, *at_start = NULL, *loaded = NULL;
    unsigned int before;
    Vm vm;

    if (!have_kvm_or_skip() || !guest_runs_or_skip()) {
        return;
    }

    vm_start(&vm, NULL, "");
    add_snapshot_disk(vm.qts, file);
    run_guest(&vm, 1);
    qtest_qmp_assert_success(vm.qts, "{'execute': 'stop'}");
    at_end = registers(&vm);
    run_snapshot(vm.qts, "snapshot-save", "tag");
    before = sregs_writes(&vm);
    qtest_system_reset(vm.qts);
    g_assert_cmpuint(sregs_writes(&vm), >, before);
    at_start = registers(&vm);
    g_assert_cmpstr(at_start, !=, at_end);
    before = sregs_writes(&vm);
    run_snapshot(vm.qts, "snapshot-load", "tag");
    g_assert_cmpuint(sregs_writes(&vm), >, before);
    loaded = registers(&vm);
    g_assert_cmpstr(loaded, ==, at_end);

    /* It is what runs, too: halted, and so it stays. */
    qtest_qmp_assert_success(vm.qts, "{'execute': 'cont'}");
    g_free(loaded);
    loaded = registers(&vm);
    g_assert_cmpstr(loaded, ==, at_end);
    qtest_system_reset(vm.qts);
    run_guest(&vm, 2);
    vm_stop(&vm);
    unlink(file);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) err = NULL;
    int ret;

    g_test_init(&argc, &argv, NULL);
    tmp_dir = g_dir_make_tmp("kvm-sregs-XXXXXX", &err);
    g_assert_no_error(err);
    rom = g_build_filename(tmp_dir, "rom", NULL);
    write_firmware(rom, guest_code, sizeof(guest_code));

    qtest_add_func("kvm-sregs/pae", test_pae);
    qtest_add_func("kvm-sregs/gdb", test_gdb);
    qtest_add_func("kvm-sregs/reset-and-load", test_reset_and_load);
    ret = g_test_run();

    unlink(rom);
    rmdir(tmp_dir);
    g_free(rom);
    g_free(tmp_dir);
    return ret;
}
