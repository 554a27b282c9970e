/*
 * QTest for KVM state coalescing: -accel kvm,state-coalescing=...
 *
 * A guest with PAE paging asks VMware's backdoor for its version 1,000 times
 * and halts; then its registers are read and written in all ways, once with
 * and once without state coalescing, and compared.  What reaches KVM is read
 * from the trace.  Skipped on a host without KVM, unless the environment names
 * a kind of host in KVM_ROOT_TEST_HOST, as for kvm-root-retention-test: then
 * that is a failure.  KVM_STATE_TEST_REFERENCE may name an unmodified QEMU,
 * whose ioctls are compared with those of state-coalescing=off.
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
#define RESETS          20
#define VCPUS           8
#define CPU_HOTPLUG     0xaf00      /* port, of machine pc */

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

static const uint8_t reset_vector[] = { 0xe9, 0x0d, 0x00 };   /* jmp 0 */

static char *tmp_dir;
static char *rom;

typedef struct Vm {
    QTestState *qts;
    char *log;
} Vm;

static void vm_start_full(Vm *vm, const char *var, const char *accel, int vcpus,
                          const char *more)
{
    static int count;
    g_autofree char *args = NULL;

    vm->log = g_strdup_printf("%s/%d.log", tmp_dir, count++);
    args = g_strdup_printf("-accel %s -M pc,vmport=on -S -m 16 -smp %d "
                           "-nodefaults -vga none -bios %s -D %s "
                           "-trace kvm_vcpu_ioctl %s",
                           accel, vcpus, rom, vm->log, more);
    vm->qts = var ? qtest_init_with_env(var, args, true) : qtest_init(args);
}

static void vm_start(Vm *vm, const char *coalescing, int vcpus,
                     const char *more)
{
    g_autofree char *accel = g_strdup_printf("kvm,state-coalescing=%s",
                                             coalescing);

    vm_start_full(vm, NULL, accel, vcpus, more);
}

static void vm_stop(Vm *vm)
{
    qtest_quit(vm->qts);
    unlink(vm->log);
    g_free(vm->log);
}

static void cont(Vm *vm)
{
    qtest_qmp_assert_success(vm->qts, "{'execute': 'cont'}");
}

static void stop(Vm *vm)
{
    qtest_qmp_assert_success(vm->qts, "{'execute': 'stop'}");
}

/* The guest has come to its end for the @times-th time. */
static void wait_halted(Vm *vm, uint32_t times)
{
    for (int i = 0; i < 3000; i++) {
        if (qtest_readl(vm->qts, HALTED) >= times) {
            /* It has one instruction left. */
            g_usleep(20000);
            return;
        }
        g_usleep(10000);
    }
    g_error("the guest does not halt: %u calls of the backdoor",
            qtest_readl(vm->qts, CALLS));
}

/* How many ioctls of vCPUs the log has; of one kind, or 0 but for KVM_RUN */
static unsigned int ioctls(Vm *vm, unsigned long type)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    unsigned int count = 0;

    g_file_get_contents(vm->log, &text, NULL, &err);
    g_assert_no_error(err);
    for (char *at = text; (at = strstr(at, "kvm_vcpu_ioctl cpu_index")); at++) {
        const char *number = strstr(at, "type 0x");
        unsigned long t = number ? strtoul(number + 5, NULL, 16) : 0;

        count += type ? t == type : t != KVM_RUN;
    }
    return count;
}

static char *kinds_of_ioctls(Vm *vm)
{
    static const struct {
        const char *name;
        unsigned long type;
    } kinds[] = {
#define KIND(name) { #name, KVM_GET_##name }, { "set " #name, KVM_SET_##name }
        KIND(REGS), KIND(SREGS), KIND(SREGS2), KIND(XSAVE), KIND(XCRS),
        KIND(DEBUGREGS), KIND(VCPU_EVENTS), KIND(MP_STATE), KIND(NESTED_STATE),
        KIND(LAPIC), KIND(MSRS), { "set VAPIC_ADDR", KVM_SET_VAPIC_ADDR },
        { "XSAVE2", KVM_GET_XSAVE2 }, { "KVM_RUN", KVM_RUN },
#undef KIND
    };
    GString *text = g_string_new("");

    for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
        g_string_append_printf(text, " %s %u", kinds[i].name,
                               ioctls(vm, kinds[i].type));
    }
    return g_string_free(text, false);
}

static unsigned int sregs_writes(Vm *vm)
{
    return ioctls(vm, KVM_SET_SREGS) + ioctls(vm, KVM_SET_SREGS2);
}

/* All registers, as text that is the same in each VM */
static char *registers(Vm *vm)
{
    return qtest_hmp(vm->qts, "info registers -a");
}

static void assert_registers(Vm *a, Vm *b)
{
    g_autofree char *in_a = registers(a), *in_b = registers(b);

    g_assert_nonnull(strstr(in_a, "CR0="));
    g_assert_cmpstr(in_a, ==, in_b);
}

static void use_guest(Vm *vm)
{
    cont(vm);
    wait_halted(vm, 1);
    g_assert_cmpuint(qtest_readl(vm->qts, CALLS), ==, VMPORT_CALLS);
    for (int i = 0; i < MONITOR_CALLS; i++) {
        g_free(qtest_hmp(vm->qts, "info registers"));
    }
}

/* No SREGS that did not change are written. */
static void test_pae(void)
{
    unsigned int before, all, plain, all_plain;
    Vm on, off;

    if (!have_kvm_or_skip()) {
        return;
    }

    vm_start(&on, "on", 1, "");
    before = sregs_writes(&on);
    use_guest(&on);
    plain = sregs_writes(&on) - before;
    all = ioctls(&on, 0);
    g_assert_cmpuint(plain, ==, 0);

    vm_start(&off, "off", 1, "");
    before = sregs_writes(&off);
    use_guest(&off);
    plain = sregs_writes(&off) - before;
    all_plain = ioctls(&off, 0);
    g_test_message("%d backdoor calls, %d info registers: 0 SREGS written of "
                   "%u ioctls but KVM_RUN; without %u of %u", VMPORT_CALLS,
                   MONITOR_CALLS, all, plain, all_plain);
    g_assert_cmpuint(plain, >=, VMPORT_CALLS + MONITOR_CALLS);
    g_assert_cmpuint(all, <, all_plain);

    assert_registers(&on, &off);
    vm_stop(&on);
    vm_stop(&off);
}

/* The same, but what KVM holds is read back. */
static void test_verify(void)
{
    Vm on, off;

    if (!have_kvm_or_skip()) {
        return;
    }

    vm_start(&on, "on,x-state-verify=on", 2, "");
    vm_start(&off, "off", 2, "");
    use_guest(&on);
    use_guest(&off);
    assert_registers(&on, &off);
    for (int i = 0; i < 3; i++) {
        qtest_system_reset(on.qts);
        qtest_system_reset(off.qts);
        wait_halted(&on, i + 2);
        wait_halted(&off, i + 2);
        assert_registers(&on, &off);
        stop(&on);
        stop(&off);
        qtest_system_reset(on.qts);
        qtest_system_reset(off.qts);
        assert_registers(&on, &off);
        qtest_writel(on.qts, HALTED, i + 2);
        qtest_writel(off.qts, HALTED, i + 2);
        cont(&on);
        cont(&off);
        wait_halted(&on, i + 3);
        wait_halted(&off, i + 3);
        qtest_writel(on.qts, HALTED, i + 2);
        qtest_writel(off.qts, HALTED, i + 2);
    }
    vm_stop(&on);
    vm_stop(&off);
}

/* Fill the one socket, core or thread that is free. */
static void plug_vcpu(Vm *vm)
{
    QDict *response = qtest_qmp(vm->qts,
                                "{'execute': 'query-hotpluggable-cpus'}");
    QDict *props = NULL;
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *slot = qobject_to(QDict, qlist_entry_obj(entry));

        if (!qdict_haskey(slot, "qom-path")) {
            g_assert_null(props);
            props = qdict_clone_shallow(qdict_get_qdict(slot, "props"));
            qdict_put_str(props, "id", "plugged");
            qtest_qmp_device_add_qdict(vm->qts, qdict_get_str(slot, "type"),
                                       props);
        }
    }
    g_assert_nonnull(props);
    qobject_unref(props);
    qobject_unref(response);
}

/* With the guest's part in it (docs/specs/acpi_cpu_hotplug.rst) */
static void unplug_vcpu(Vm *vm)
{
    qtest_outb(vm->qts, CPU_HOTPLUG, 0);            /* not the legacy bitmap */
    qtest_qmp_assert_success(vm->qts, "{'execute': 'device_del',"
                             " 'arguments': {'id': 'plugged'}}");
    qtest_outl(vm->qts, CPU_HOTPLUG, 1);            /* select vCPU 1 */
    qtest_outb(vm->qts, CPU_HOTPLUG + 4, 1 << 3);   /* eject */
    qtest_qmp_eventwait(vm->qts, "DEVICE_DELETED");
}

/* KVM's vCPU outlives QEMU's, which has to know nothing of its state. */
static void test_hotplug(void)
{
    static const char *const coalescing[] = { "on,x-state-verify=on", "off" };
    Vm vms[2];

    if (!have_kvm_or_skip()) {
        return;
    }

    for (int i = 0; i < 2; i++) {
        vm_start(&vms[i], coalescing[i], 1, "-smp cpus=1,maxcpus=2");
        use_guest(&vms[i]);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            plug_vcpu(&vms[i]);
        }
        assert_registers(&vms[0], &vms[1]);
        for (int i = 0; i < 2; i++) {
            qtest_system_reset(vms[i].qts);
            wait_halted(&vms[i], round + 2);
        }
        assert_registers(&vms[0], &vms[1]);
        for (int i = 0; i < 2; i++) {
            unplug_vcpu(&vms[i]);
        }
        assert_registers(&vms[0], &vms[1]);
    }
    vm_stop(&vms[0]);
    vm_stop(&vms[1]);
}

static void test_resets(gconstpointer opaque)
{
    bool run = GPOINTER_TO_INT(opaque);
    static const char *const coalescing[] = { "on", "off" };
    unsigned int count[2];
    Vm vms[2];

    if (!have_kvm_or_skip()) {
        return;
    }

    for (int i = 0; i < 2; i++) {
        Vm *vm = &vms[i];

        vm_start(vm, coalescing[i], VCPUS, "");
        if (run) {
            cont(vm);
            wait_halted(vm, 1);
        }
        count[i] = ioctls(vm, 0);
        for (int j = 0; j < RESETS; j++) {
            qtest_system_reset(vm->qts);
            if (run) {
                wait_halted(vm, j + 2);
            }
        }
        count[i] = ioctls(vm, 0) - count[i];
    }
    g_test_message("%d resets of %d vCPUs: %u ioctls but KVM_RUN; without %u",
                   RESETS, VCPUS, count[0], count[1]);
    assert_registers(&vms[0], &vms[1]);
    for (int i = 0; i < 2; i++) {
        g_autofree char *kinds = kinds_of_ioctls(&vms[i]);

        g_test_message("%s, from the start:%s", coalescing[i], kinds);
    }
    g_assert_cmpuint(count[0] * 2, <=, count[1]);
    for (int i = 0; i < 2; i++) {
        vm_stop(&vms[i]);
    }
}

/* To a file, and from there */
static void test_migration(gconstpointer opaque)
{
    const char *const *coalescing = opaque;
    g_autofree char *uri = g_strdup_printf("file:%s/migration", tmp_dir);
    g_autofree char *before = NULL, *after = NULL;
    Vm from, to;

    if (!have_kvm_or_skip()) {
        return;
    }

    vm_start(&from, coalescing[0], 2, "");
    cont(&from);
    wait_halted(&from, 1);
    stop(&from);
    before = registers(&from);
    qtest_qmp_assert_success(from.qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_for_migration(from.qts, "completed");

    vm_start(&to, coalescing[1], 2, "-incoming defer");
    qtest_qmp_assert_success(to.qts, "{'execute': 'migrate-incoming',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_for_migration(to.qts, "completed");
    after = registers(&to);
    g_assert_cmpstr(before, ==, after);

    /* It is what runs, too: halted, and so it stays. */
    cont(&to);
    g_free(after);
    after = registers(&to);
    g_assert_cmpstr(before, ==, after);
    qtest_system_reset(to.qts);
    wait_halted(&to, 2);
    g_free(after);
    after = registers(&to);
    g_assert_cmpstr(before, ==, after);

    /* The source goes on as if nothing had been. */
    cont(&from);
    qtest_system_reset(from.qts);
    wait_halted(&from, 2);
    assert_registers(&from, &to);
    vm_stop(&from);
    vm_stop(&to);
}

/* A snapshot is what it was, whatever came after it. */
static void test_snapshot(void)
{
    g_autofree char *file = g_strdup_printf("%s/disk.qcow2", tmp_dir);
    g_autofree char *at_end = NULL, *at_start = NULL, *loaded = NULL;
    Vm vm;

    if (!have_kvm_or_skip()) {
        return;
    }

    vm_start(&vm, "on,x-state-verify=on", 2, "");
    add_snapshot_disk(vm.qts, file);
    cont(&vm);
    wait_halted(&vm, 1);
    stop(&vm);
    at_end = registers(&vm);
    run_snapshot(vm.qts, "snapshot-save", "tag");
    qtest_system_reset(vm.qts);
    at_start = registers(&vm);
    g_assert_cmpstr(at_start, !=, at_end);
    run_snapshot(vm.qts, "snapshot-load", "tag");
    loaded = registers(&vm);
    g_assert_cmpstr(loaded, ==, at_end);
    cont(&vm);
    g_free(loaded);
    loaded = registers(&vm);
    g_assert_cmpstr(loaded, ==, at_end);
    vm_stop(&vm);
    unlink(file);
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

/* What a debugger writes is in the registers, and what it does not is, too. */
static void test_gdb(void)
{
    g_autofree char *path = g_strdup_printf("%s/gdb", tmp_dir);
    g_autofree char *args = g_strdup_printf("-gdb unix:%s,server=on,wait=off",
                                            path);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    Vm vms[2];

    if (!have_kvm_or_skip()) {
        return;
    }

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        vm_start(&vms[i], i ? "off" : "on,x-state-verify=on", 1, args);
        cont(&vms[i]);
        wait_halted(&vms[i], 1);
        g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
                        ==, 0);
        gdb_packet(fd, "?", "$T");
        /* "g" is what makes QEMU read the registers from KVM. */
        gdb_packet(fd, "g", "$");
        gdb_packet(fd, "P6=7856341200000000", "$OK");
        gdb_packet(fd, "P4=efcdab8900000000", "$OK");
        gdb_packet(fd, "D", "$OK");
        close(fd);
        unlink(path);
    }
    assert_registers(&vms[0], &vms[1]);
    for (int i = 0; i < 2; i++) {
        g_autofree char *text = registers(&vms[i]);

        g_assert_nonnull(strstr(text, "EBP=12345678"));
        g_assert_nonnull(strstr(text, "ESI=89abcdef"));
        vm_stop(&vms[i]);
    }
}

/* The kinds of all ioctls of vCPU 0 but KVM_RUN, in their order */
static char *sequence(Vm *vm)
{
    GString *kinds = g_string_new("");
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;

    g_file_get_contents(vm->log, &text, NULL, &err);
    g_assert_no_error(err);
    for (char *at = text;
         (at = strstr(at, "kvm_vcpu_ioctl cpu_index 0, type 0x")); at++) {
        unsigned long type = strtoul(strstr(at, "0x"), NULL, 16);

        if (type != KVM_RUN) {
            g_string_append_printf(kinds, "%lx\n", type);
        }
    }
    return g_string_free(kinds, false);
}

/* Without state coalescing each ioctl is what it is in an unmodified QEMU. */
static void test_reference(void)
{
    g_autofree char *a = NULL, *b = NULL;
    Vm off, reference;

    if (!g_getenv("KVM_STATE_TEST_REFERENCE")) {
        g_test_skip("KVM_STATE_TEST_REFERENCE names no QEMU");
        return;
    }
    if (!have_kvm_or_skip()) {
        return;
    }

    vm_start_full(&off, NULL, "kvm,state-coalescing=off", VCPUS, "");
    vm_start_full(&reference, "KVM_STATE_TEST_REFERENCE", "kvm", VCPUS, "");
    for (int i = 0; i < RESETS; i++) {
        qtest_system_reset(off.qts);
        qtest_system_reset(reference.qts);
    }
    cont(&off);
    cont(&reference);
    wait_halted(&off, 1);
    wait_halted(&reference, 1);
    a = sequence(&off);
    b = sequence(&reference);
    g_test_message("%u ioctls but KVM_RUN; the reference's %u",
                   ioctls(&off, 0), ioctls(&reference, 0));
    g_assert_cmpuint(ioctls(&off, 0), ==, ioctls(&reference, 0));
    g_assert_cmpstr(a, ==, b);
    vm_stop(&off);
    vm_stop(&reference);
}

int main(int argc, char **argv)
{
    static const char *const pairs[][2] = {
        { "on,x-state-verify=on", "on,x-state-verify=on" },
        { "on", "off" },
        { "off", "on" },
    };
    g_autofree uint8_t *image = g_malloc0(64 * KiB);
    g_autofree char *migration = NULL;
    g_autoptr(GError) err = NULL;
    int ret;

    g_test_init(&argc, &argv, NULL);
    tmp_dir = g_dir_make_tmp("kvm-state-coalescing-XXXXXX", &err);
    g_assert_no_error(err);
    rom = g_build_filename(tmp_dir, "rom", NULL);
    memcpy(image, guest_code, sizeof(guest_code));
    memcpy(image + 0xfff0, reset_vector, sizeof(reset_vector));
    g_file_set_contents(rom, (char *)image, 64 * KiB, &err);
    g_assert_no_error(err);

    qtest_add_func("state-coalescing/pae", test_pae);
    qtest_add_func("state-coalescing/verify", test_verify);
    qtest_add_func("state-coalescing/hotplug", test_hotplug);
    qtest_add_data_func("state-coalescing/resets/stopped",
                        GINT_TO_POINTER(false), test_resets);
    qtest_add_data_func("state-coalescing/resets/waiting",
                        GINT_TO_POINTER(true), test_resets);
    qtest_add_data_func("state-coalescing/migration/on-on", pairs[0],
                        test_migration);
    qtest_add_data_func("state-coalescing/migration/on-off", pairs[1],
                        test_migration);
    qtest_add_data_func("state-coalescing/migration/off-on", pairs[2],
                        test_migration);
    qtest_add_func("state-coalescing/snapshot", test_snapshot);
    qtest_add_func("state-coalescing/gdb", test_gdb);
    if (g_getenv("KVM_STATE_TEST_REFERENCE")) {
        qtest_add_func("state-coalescing/reference", test_reference);
    }
    ret = g_test_run();

    migration = g_build_filename(tmp_dir, "migration", NULL);
    unlink(migration);
    unlink(rom);
    rmdir(tmp_dir);
    g_free(rom);
    g_free(tmp_dir);
    return ret;
}
