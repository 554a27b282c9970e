/*
 * QTest for where KVM's memory slots are cut: -accel kvm,x-slot-cuts=...
 *
 * Moves the chipset's windows and the BARs of a graphics card through config
 * space, once with slot cuts and once without, and compares what the slots
 * show.  What reaches KVM is read from the trace.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "kvm-common.h"
#include "qemu/units.h"

#define RAM             (128 * MiB)
#define TSEG            (64 * MiB)      /* the largest */

/* A slot, or several in a row that KVM can't tell from one */
typedef struct Slot {
    uint64_t gpa, size, ua;
    unsigned int as, number, flags;
} Slot;

/* A VM whose slot ioctls are followed */
typedef struct Vm {
    QTestState *qts;
    char *log;
    long seen;                  /* of the log, in bytes */
    GArray *slots;              /* Slot */
    unsigned int ioctls, deletes;
    unsigned int main_deletes;  /* of memory that no window covers */
} Vm;

static char *tmp_dir;
static char *rom;               /* 64 KiB, BIOS and option ROM */

static void vm_start(Vm *vm, const char *machine, const char *cuts)
{
    *vm = (Vm) {
        .log = g_strdup_printf("%s/%s.log", tmp_dir, cuts),
        .slots = g_array_new(false, false, sizeof(Slot)),
    };
    unlink(vm->log);
    vm->qts = qtest_initf("-accel kvm,x-slot-cuts=%s -M %s -S -m %d "
                          QUIET_CPU " "
                          "-nodefaults -vga none -device VGA,romfile=%s "
                          "-bios %s -D %s -trace kvm_set_user_memory",
                          cuts, machine, (int)(RAM / MiB), rom, rom,
                          vm->log);
}

static void vm_stop(Vm *vm)
{
    qtest_quit(vm->qts);
    unlink(vm->log);
    g_free(vm->log);
    g_array_unref(vm->slots);
}

static void execute(Vm *vm, const Slot *slot)
{
    vm->ioctls++;
    for (int i = 0; i < vm->slots->len; i++) {
        Slot *s = &g_array_index(vm->slots, Slot, i);

        if (s->as == slot->as && s->number == slot->number) {
            if (slot->size) {
                s->flags = slot->flags;
            } else {
                vm->deletes++;
                vm->main_deletes += s->gpa < RAM - TSEG &&
                                    s->gpa + s->size > 1 * MiB;
                g_array_remove_index_fast(vm->slots, i);
            }
            return;
        }
    }
    g_assert_cmpuint(slot->size, !=, 0);
    g_array_append_val(vm->slots, *slot);
}

static void follow(Vm *vm)
{
    static const char *const event = "kvm_set_user_memory AddrSpace#";
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    gsize len;

    g_file_get_contents(vm->log, &text, &len, &err);
    g_assert_no_error(err);
    for (char *at = text + vm->seen; (at = strstr(at, event)); at++) {
        Slot slot;
        int n = sscanf(at + strlen(event),
                       "%u Slot#%u flags=0x%x gpa=0x%" PRIx64 " size=0x%"
                       PRIx64 " ua=0x%" PRIx64, &slot.as, &slot.number,
                       &slot.flags, &slot.gpa, &slot.size, &slot.ua);

        g_assert_cmpint(n, ==, 6);
        execute(vm, &slot);
    }
    vm->seen = len;
}

static gint by_address(gconstpointer a, gconstpointer b)
{
    const Slot *s = a, *t = b;

    return s->as != t->as ? (s->as < t->as ? -1 : 1) :
           s->gpa < t->gpa ? -1 : s->gpa > t->gpa;
}

/* What the slots show, as text that is the same in each VM */
static char *shown(Vm *vm)
{
    GString *text = g_string_new("");
    uint64_t ram = 0;

    follow(vm);
    g_array_sort(vm->slots, by_address);
    for (int i = 0; i < vm->slots->len; i++) {
        Slot slot = g_array_index(vm->slots, Slot, i);

        if (slot.as == 0 && slot.gpa == 0) {
            ram = slot.ua;
        }
        for (; i + 1 < vm->slots->len; i++) {
            const Slot *next = &g_array_index(vm->slots, Slot, i + 1);

            if (next->as != slot.as || next->gpa != slot.gpa + slot.size ||
                next->ua != slot.ua + slot.size || next->flags != slot.flags) {
                break;
            }
            slot.size += next->size;
        }
        g_string_append_printf(text, "%u: 0x%" PRIx64 "+0x%" PRIx64 " 0x%x ",
                               slot.as, slot.gpa, slot.size, slot.flags);
        if (slot.ua - ram < RAM) {
            g_string_append_printf(text, "RAM 0x%" PRIx64 "\n", slot.ua - ram);
        } else {
            g_string_append(text, "other\n");
        }
    }
    return g_string_free(text, false);
}

static void config_write(Vm *vm, int device, int reg, int size, uint32_t value)
{
    qtest_outl(vm->qts, 0xcf8, 0x80000000 | device << 11 | (reg & ~3));
    switch (size) {
    case 1:
        qtest_outb(vm->qts, 0xcfc + (reg & 3), value);
        break;
    case 2:
        qtest_outw(vm->qts, 0xcfc + (reg & 3), value);
        break;
    default:
        qtest_outl(vm->qts, 0xcfc, value);
        break;
    }
}

typedef struct Machine {
    const char *name;
    int pam;                    /* register of PAM0 */
    int smram;
    int esmramc;                /* 0: none */
    int vga;                    /* number of the device on bus 0 */
} Machine;

static const Machine machines[] = {
    { "pc", 0x59, 0x72, 0, 2 },
    { "q35", 0x90, 0x9d, 0x9e, 1 },
};

/* What firmware does: shadow, open and close SMRAM, size a BAR, lock. */
static void walk(Vm *vm, const Machine *m)
{
    for (int i = 0; i < 7; i++) {
        config_write(vm, 0, m->pam + i, 1, i ? 0x33 : 0x30);
    }
    config_write(vm, 0, m->smram, 1, 0x4a);
    config_write(vm, 0, m->smram, 1, 0x0a);
    for (int i = 0; i < 7; i++) {
        config_write(vm, 0, m->pam + i, 1, i % 2 ? 0x11 : 0x10);
        config_write(vm, 0, m->pam + i, 1, i % 2 ? 0x31 : 0x30);
    }
    if (m->esmramc) {
        config_write(vm, 0, m->esmramc, 1, 0x07);
        config_write(vm, 0, m->esmramc, 1, 0x00);
        config_write(vm, 0, m->esmramc, 1, 0x03);
    }
    config_write(vm, m->vga, 0x10, 4, 0xe0000000);
    config_write(vm, m->vga, 0x04, 2, 0x02);
    for (int bar = 0x10; bar <= 0x24; bar += 4) {
        config_write(vm, m->vga, 0x04, 2, 0x00);
        config_write(vm, m->vga, bar, 4, 0xffffffff);
        config_write(vm, m->vga, bar, 4, bar == 0x10 ? 0xe0000000 : 0);
        config_write(vm, m->vga, 0x04, 2, 0x02);
    }
    for (int i = 0; i < 7; i++) {
        config_write(vm, 0, m->pam + i, 1, 0);
    }
}

/* The same in any order, with any values */
static void hammer(Vm *vm, const Machine *m, GRand *rand)
{
    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
        config_write(vm, 0, m->smram, 1, g_rand_boolean(rand) ? 0x4a : 0x0a);
        break;
    case 1:
        if (m->esmramc) {
            config_write(vm, 0, m->esmramc, 1, g_rand_int(rand) & 0x07);
        }
        break;
    case 2:
        config_write(vm, m->vga, 0x10, 4,
                     0xe0000000 + (g_rand_int(rand) & 0x03000000));
        break;
    case 3:
        config_write(vm, m->vga, 0x04, 2, g_rand_boolean(rand) ? 0x02 : 0);
        break;
    case 4:
        config_write(vm, m->vga, 0x30, 4,
                     0xf0000000 + (g_rand_int(rand) & 0x000f0001));
        break;
    default:
        config_write(vm, 0, m->pam + g_rand_int_range(rand, 0, 7), 1,
                     g_rand_int(rand) & 0x33);
        break;
    }
}

static void assert_same(Vm *on, Vm *off)
{
    g_autofree char *a = shown(on), *b = shown(off);

    g_assert_cmpstr(a, ==, b);
}

typedef void Exercise(Vm *vms, const Machine *m);

/* With cuts and without; in between they show the same */
static void exercise_both(const Machine *m, Exercise *exercise)
{
    Vm vms[2];

    if (!have_kvm_or_skip()) {
        return;
    }

    vm_start(&vms[0], m->name, "on");
    vm_start(&vms[1], m->name, "off");
    assert_same(&vms[0], &vms[1]);
    exercise(vms, m);
    assert_same(&vms[0], &vms[1]);
    g_test_message("%s: %u ioctls, %u deletes; without %u, %u", m->name,
                   vms[0].ioctls, vms[0].deletes, vms[1].ioctls,
                   vms[1].deletes);
    g_assert_cmpuint(vms[0].main_deletes, ==, 0);
    g_assert_cmpuint(vms[1].main_deletes, >, 0);
    vm_stop(&vms[0]);
    vm_stop(&vms[1]);
}

static void reset_both(Vm *vms)
{
    qtest_system_reset(vms[0].qts);
    qtest_system_reset(vms[1].qts);
    assert_same(&vms[0], &vms[1]);
}

static void windows(Vm *vms, const Machine *m)
{
    walk(&vms[0], m);
    walk(&vms[1], m);
}

static void test_windows(const void *opaque)
{
    exercise_both(opaque, windows);
}

static void at_random(Vm *vms, const Machine *m)
{
    uint32_t seed = g_test_rand_int();
    GRand *rand[] = { g_rand_new_with_seed(seed), g_rand_new_with_seed(seed) };

    for (int i = 0; i < 200; i++) {
        hammer(&vms[0], m, rand[0]);
        hammer(&vms[1], m, rand[1]);
        if (i % 10 == 0) {
            assert_same(&vms[0], &vms[1]);
        }
        if (i % 50 == 49) {
            reset_both(vms);
        }
    }
    g_rand_free(rand[0]);
    g_rand_free(rand[1]);
}

static void test_hammer(const void *opaque)
{
    exercise_both(opaque, at_random);
}

static void vga_write(Vm *vm, uint16_t index_port, uint8_t index, uint8_t value)
{
    qtest_outw(vm->qts, index_port, value << 8 | index);
}

/* To text, and to 256 colours with a linear window at 0xa0000 */
static void switch_mode(Vm *vm, bool chain4)
{
    vga_write(vm, 0x3c4, 0x02, 0x0f);           /* all planes */
    vga_write(vm, 0x3c4, 0x04, chain4 ? 0x0e : 0x02);
    vga_write(vm, 0x3ce, 0x06, chain4 ? 0x05 : 0x0e);
}

/* Neither resets nor the VGA's modes take main memory with them. */
static void switches(Vm *vms, const Machine *m)
{
    for (int i = 0; i < 20; i++) {
        for (int j = 0; j < 2; j++) {
            config_write(&vms[j], m->vga, 0x04, 2, 0x03);
            config_write(&vms[j], 0, m->pam, 1, 0x30);
            switch_mode(&vms[j], true);
            config_write(&vms[j], 0, m->smram, 1, i % 2 ? 0x4a : 0x0a);
            switch_mode(&vms[j], false);
            switch_mode(&vms[j], true);
        }
        assert_same(&vms[0], &vms[1]);
        reset_both(vms);
    }
}

static void test_switches(const void *opaque)
{
    exercise_both(opaque, switches);
}

/* A migration that waits at its end has KVM log dirty pages. */
static void start_logging(Vm *vm)
{
    g_autofree char *uri = g_strdup_printf("file:%s/migration", tmp_dir);

    qtest_qmp_assert_success(vm->qts,
                             "{'execute': 'migrate-set-capabilities',"
                             " 'arguments': {'capabilities': ["
                             "  {'capability': 'pause-before-switchover',"
                             "   'state': true}]}}");
    qtest_qmp_assert_success(vm->qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
}

static bool logs(const Vm *vm)
{
    for (int i = 0; i < vm->slots->len; i++) {
        const Slot *slot = &g_array_index(vm->slots, Slot, i);

        if (slot->gpa == 0 && !(slot->flags & 1)) {
            return false;
        }
    }
    return true;
}

/* The flags are right, too, if slots stay that would have been made anew. */
static void test_logging(const void *opaque)
{
    const Machine *m = opaque;
    Vm vms[2];

    if (!have_kvm_or_skip()) {
        return;
    }

    vm_start(&vms[0], m->name, "on");
    vm_start(&vms[1], m->name, "off");
    for (int i = 0; i < 2; i++) {
        start_logging(&vms[i]);
        wait_for_migration(vms[i].qts, "pre-switchover");
    }
    assert_same(&vms[0], &vms[1]);
    g_assert_true(logs(&vms[0]));
    for (int i = 0; i < 2; i++) {
        walk(&vms[i], m);
    }
    assert_same(&vms[0], &vms[1]);
    g_assert_true(logs(&vms[0]));
    g_assert_cmpuint(vms[0].main_deletes, ==, 0);
    for (int i = 0; i < 2; i++) {
        qtest_qmp_assert_success(vms[i].qts, "{'execute': 'migrate-continue',"
                                 " 'arguments': {'state': 'pre-switchover'}}");
        wait_for_migration(vms[i].qts, "completed");
        walk(&vms[i], m);
    }
    assert_same(&vms[0], &vms[1]);
    for (int i = 0; i < 2; i++) {
        vm_stop(&vms[i]);
    }
}

int main(int argc, char **argv)
{
    g_autofree char *migration = NULL;
    g_autofree char *image = g_malloc0(64 * KiB);
    g_autoptr(GError) err = NULL;
    int ret;

    g_test_init(&argc, &argv, NULL);
    tmp_dir = g_dir_make_tmp("kvm-slot-cuts-XXXXXX", &err);
    g_assert_no_error(err);
    rom = g_build_filename(tmp_dir, "rom", NULL);
    g_file_set_contents(rom, image, 64 * KiB, &err);
    g_assert_no_error(err);

    for (int i = 0; i < ARRAY_SIZE(machines); i++) {
        const Machine *m = &machines[i];
        g_autofree char *windows =
            g_strdup_printf("slot-cuts/%s/windows", m->name);
        g_autofree char *hammered =
            g_strdup_printf("slot-cuts/%s/hammer", m->name);
        g_autofree char *switches =
            g_strdup_printf("slot-cuts/%s/switches", m->name);
        g_autofree char *logging =
            g_strdup_printf("slot-cuts/%s/logging", m->name);

        qtest_add_data_func(windows, m, test_windows);
        qtest_add_data_func(hammered, m, test_hammer);
        qtest_add_data_func(switches, m, test_switches);
        qtest_add_data_func(logging, m, test_logging);
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
