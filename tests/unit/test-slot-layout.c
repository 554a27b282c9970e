/*
 * KVM memory slots: where they are cut, and which a change leaves alone
 *
 * A model of the memory map makes the same sections come and go that the
 * memory API would name.  They go to a layout and to a copy of what QEMU does
 * without it (one slot per section, looked up by its address and size); a
 * model of KVM executes what both decide, and refuses what KVM refuses.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "../../accel/kvm/slot-layout.h"

#define PAGE            (4 * KiB)

/* Memory that slots can show */
typedef struct Owner {
    uint64_t hva;               /* 0: MMIO, which has no slot */
    bool readonly;
    bool plain;
    bool may_wait;
    bool logging;               /* dirty logging, a flag of its slots */
} Owner;

/* KVM */

typedef struct KvmSlot {
    SlotRange range;            /* size 0: free */
    bool logging;
} KvmSlot;

typedef struct Kvm {
    GArray *slots;              /* KvmSlot, by number */
    uint64_t deletes, creates, updates;
} Kvm;

static KvmSlot *kvm_slot(Kvm *kvm, unsigned int slot)
{
    if (slot >= kvm->slots->len) {
        g_array_set_size(kvm->slots, slot + 1);
    }
    return &g_array_index(kvm->slots, KvmSlot, slot);
}

static void kvm_init(Kvm *kvm)
{
    *kvm = (Kvm) { .slots = g_array_new(false, true, sizeof(KvmSlot)) };
}

static void kvm_destroy(Kvm *kvm)
{
    g_array_unref(kvm->slots);
}

static uint64_t last_of(const SlotRange *r)
{
    return r->gpa + r->size - 1;
}

static bool overlaps(const SlotRange *a, const SlotRange *b)
{
    return a->gpa <= last_of(b) && b->gpa <= last_of(a);
}

static void kvm_create(Kvm *kvm, unsigned int slot, const SlotRange *range)
{
    g_assert_cmpuint(range->size, >, 0);
    g_assert_cmpuint(kvm_slot(kvm, slot)->range.size, ==, 0);
    *kvm_slot(kvm, slot) = (KvmSlot) {
        .range = *range, .logging = ((const Owner *)range->owner)->logging,
    };
    kvm->creates++;
}

static void kvm_delete(Kvm *kvm, unsigned int slot)
{
    g_assert_cmpuint(kvm_slot(kvm, slot)->range.size, >, 0);
    kvm_slot(kvm, slot)->range.size = 0;
    kvm->deletes++;
}

static void kvm_update(Kvm *kvm, unsigned int slot)
{
    KvmSlot *s = kvm_slot(kvm, slot);
    const Owner *owner = s->range.owner;

    g_assert_cmpuint(s->range.size, >, 0);
    if (s->logging != owner->logging) {
        s->logging = owner->logging;
        kvm->updates++;
    }
}

static uint64_t kvm_ioctls(const Kvm *kvm)
{
    return kvm->deletes + kvm->creates + kvm->updates;
}

static void assert_range(const SlotRange *a, const SlotRange *b)
{
    g_assert_cmphex(a->gpa, ==, b->gpa);
    g_assert_cmphex(a->size, ==, b->size);
    g_assert_cmphex(a->hva, ==, b->hva);
    g_assert_true(a->owner == b->owner);
    g_assert_cmpint(a->readonly, ==, b->readonly);
    g_assert_cmpint(a->apart, ==, b->apart);
    g_assert_cmpint(a->plain, ==, b->plain);
    g_assert_cmpint(a->may_wait, ==, b->may_wait);
}

static void kvm_execute(Kvm *kvm, const SlotChange *change)
{
    unsigned int deletes = 0, creates = 0, waiting = 0, overlap = 0;
    SlotOpType type = SLOT_OP_DELETE;
    uint64_t gpa = 0;

    for (unsigned int i = 0; i < change->nr_ops; i++) {
        const SlotOp *op = &change->ops[i];

        /* All deletes come before all creates, each by address. */
        g_assert_cmpint(op->type, >=, type);
        if (op->type == type) {
            g_assert_cmphex(op->range.gpa, >=, gpa);
        }
        type = op->type;
        gpa = op->range.gpa;
        if (op->waiting) {
            g_assert_true(op->range.may_wait);
            g_assert_cmpuint(kvm_slot(kvm, op->slot)->range.size, ==, 0);
            waiting += type == SLOT_OP_CREATE;
            continue;
        }

        switch (type) {
        case SLOT_OP_DELETE:
            assert_range(&kvm_slot(kvm, op->slot)->range, &op->range);
            kvm_delete(kvm, op->slot);
            deletes++;
            break;
        case SLOT_OP_KEEP:
            assert_range(&kvm_slot(kvm, op->slot)->range, &op->range);
            kvm_update(kvm, op->slot);
            break;
        case SLOT_OP_CREATE:
            kvm_create(kvm, op->slot, &op->range);
            creates++;
            for (unsigned int d = 0; d < i; d++) {
                overlap |= change->ops[d].type == SLOT_OP_DELETE &&
                           !change->ops[d].waiting &&
                           overlaps(&change->ops[d].range, &op->range);
            }
            break;
        }
    }
    g_assert_cmpuint(deletes, ==, change->nr_deletes);
    g_assert_cmpuint(creates, ==, change->nr_creates);
    g_assert_cmpuint(waiting, ==, change->nr_waiting);
    g_assert_cmpint(overlap, ==, change->overlap);
}

/* What QEMU does without a layout */

static int plain_lookup(Kvm *kvm, uint64_t gpa, uint64_t size)
{
    for (unsigned int i = 0; i < kvm->slots->len; i++) {
        const SlotRange *r = &kvm_slot(kvm, i)->range;

        if (r->gpa == gpa && r->size == size) {
            return i;
        }
    }
    return -1;
}

static void plain_del(Kvm *kvm, const SlotRange *section)
{
    int slot = plain_lookup(kvm, section->gpa, section->size);

    if (slot >= 0) {
        kvm_delete(kvm, slot);
    }
}

static void plain_add(Kvm *kvm, const SlotRange *section)
{
    unsigned int i;

    for (i = 0; i < kvm->slots->len; i++) {
        if (!kvm_slot(kvm, i)->range.size) {
            break;
        }
    }
    kvm_create(kvm, i, section);
}

/* A layout, and the KVM that does what it says */

typedef struct Fixture {
    SlotLayout *layout;
    SlotChange change;          /* the last one */
    Kvm kvm, plain;
    int64_t now;
    uint64_t plain_before;      /* ioctls of plain before the last change */
} Fixture;

static void setup_limits(Fixture *f, unsigned int max_slots, uint64_t max_size)
{
    *f = (Fixture) { .layout = slot_layout_new(max_slots, max_size) };
    kvm_init(&f->kvm);
    kvm_init(&f->plain);
}

static void setup(Fixture *f)
{
    setup_limits(f, 32764, UINT64_MAX);
}

static void teardown(Fixture *f)
{
    slot_layout_free(f->layout);
    kvm_destroy(&f->kvm);
    kvm_destroy(&f->plain);
}

static void del(Fixture *f, const SlotRange *section)
{
    slot_layout_del(f->layout, section->gpa, section->size);
    plain_del(&f->plain, section);
}

static void add(Fixture *f, const SlotRange *section)
{
    slot_layout_add(f->layout, section);
    plain_add(&f->plain, section);
}

static void settle(Fixture *f)
{
    slot_layout_settle(f->layout, &f->change);
    kvm_execute(&f->kvm, &f->change);
}

static void commit_after(Fixture *f, int64_t ns)
{
    uint64_t plain = f->plain.deletes + f->plain.creates;

    f->now += ns;
    slot_layout_commit(f->layout, f->now, &f->change);
    kvm_execute(&f->kvm, &f->change);
    g_assert_cmpuint(f->change.nr_plain, ==, plain - f->plain_before);
    f->plain_before = plain;
}

static void commit(Fixture *f)
{
    commit_after(f, SLOT_LAYOUT_SETTLE_NS);
}

static void assert_counts(const Fixture *f, unsigned int deletes,
                          unsigned int creates)
{
    g_assert_cmpuint(f->change.nr_deletes, ==, deletes);
    g_assert_cmpuint(f->change.nr_creates, ==, creates);
}

static void assert_slot(Fixture *f, uint64_t gpa, uint64_t end)
{
    SlotRange range;
    bool waiting;
    int slot = slot_layout_find(f->layout, gpa, &range, &waiting);

    g_assert_cmpint(slot, >=, 0);
    g_assert_false(waiting);
    g_assert_cmphex(range.gpa, ==, gpa);
    g_assert_cmphex(last_of(&range), ==, end - 1);
    assert_range(&kvm_slot(&f->kvm, slot)->range, &range);
    g_assert_cmpint(slot_layout_find(f->layout, end - 1, &range, &waiting), ==,
                    slot);
}

static void assert_no_slot(Fixture *f, uint64_t gpa)
{
    SlotRange range;
    bool waiting;

    g_assert_cmpint(slot_layout_find(f->layout, gpa, &range, &waiting), ==, -1);
}

static Owner ram = { .hva = 0x7f0000000000 };
static Owner rom = { .hva = 0x7e0000000000, .readonly = true };
static Owner vram = { .hva = 0x7c0000000000, .may_wait = true };
static Owner memfd = { .hva = 0x7d0000000000, .plain = true };

static SlotRange section(const Owner *owner, uint64_t gpa, uint64_t end,
                         uint64_t offset)
{
    return (SlotRange) {
        .gpa = gpa, .size = end - gpa, .hva = owner->hva + offset,
        .owner = owner, .readonly = owner->readonly, .plain = owner->plain,
        .may_wait = owner->may_wait,
    };
}

/* RAM where its offset is its address */
static SlotRange ram_at(uint64_t gpa, uint64_t end)
{
    return section(&ram, gpa, end, gpa);
}

#define ADD(f, s)       add(f, &(SlotRange []) { s }[0])
#define DEL(f, s)       del(f, &(SlotRange []) { s }[0])

#define TOP             (512 * MiB)
#define TSEG            (TOP - 16 * MiB)

static void test_cut(void)
{
    Fixture f;

    setup(&f);
    slot_layout_cut(f.layout, TSEG);
    slot_layout_cut(f.layout, 0xa0000);
    slot_layout_cut(f.layout, 1 * MiB);
    slot_layout_cut(f.layout, 1 * MiB);

    ADD(&f, ram_at(0, TOP));
    commit(&f);
    assert_counts(&f, 0, 4);
    g_assert_false(f.change.overlap);
    assert_slot(&f, 0, 0xa0000);
    assert_slot(&f, 0xa0000, 1 * MiB);
    assert_slot(&f, 1 * MiB, TSEG);
    assert_slot(&f, TSEG, TOP);
    assert_no_slot(&f, TOP);

    /* A section that starts or ends at a cut is not cut there. */
    ADD(&f, section(&rom, 4 * GiB - 1 * MiB, 4 * GiB, 0));
    slot_layout_cut(f.layout, 4 * GiB);
    ADD(&f, section(&ram, 4 * GiB, 5 * GiB, TOP));
    commit(&f);
    assert_counts(&f, 0, 2);

    /* A window at a cut takes its own slot, and brings back only that. */
    DEL(&f, ram_at(0, TOP));
    ADD(&f, ram_at(0, TSEG));
    commit(&f);
    assert_counts(&f, 1, 0);
    DEL(&f, ram_at(0, TSEG));
    ADD(&f, ram_at(0, TOP));
    commit(&f);
    assert_counts(&f, 0, 1);
    g_assert_false(f.change.overlap);
    teardown(&f);
}

/* A window where there is no cut splits a slot, but once only. */
static void test_window(void)
{
    Fixture f;

    setup(&f);
    ADD(&f, ram_at(0, TOP));
    commit(&f);
    assert_counts(&f, 0, 1);

    DEL(&f, ram_at(0, TOP));
    ADD(&f, ram_at(0, 0x30000));
    ADD(&f, ram_at(0x50000, TOP));
    commit(&f);
    assert_counts(&f, 1, 2);
    g_assert_true(f.change.overlap);

    for (int i = 0; i < 3; i++) {
        DEL(&f, ram_at(0, 0x30000));
        DEL(&f, ram_at(0x50000, TOP));
        ADD(&f, ram_at(0, TOP));
        commit(&f);
        assert_counts(&f, 0, 1);
        g_assert_false(f.change.overlap);

        DEL(&f, ram_at(0, TOP));
        ADD(&f, ram_at(0, 0x30000));
        ADD(&f, ram_at(0x50000, TOP));
        commit(&f);
        assert_counts(&f, 1, 0);
    }
    g_assert_cmpuint(f.kvm.deletes + f.kvm.creates, ==, 1 + 3 + 3 * 2);
    teardown(&f);
}

/* Sections that KVM can't tell apart are one slot. */
static void test_join(void)
{
    Fixture f;

    setup(&f);
    ADD(&f, ram_at(0, 0xc0000));
    ADD(&f, ram_at(0xc0000, 0xd0000));  /* read-only to QEMU, not to KVM */
    ADD(&f, ram_at(0xd0000, TOP));
    commit(&f);
    assert_counts(&f, 0, 1);
    assert_slot(&f, 0, TOP);

    /* Only the section in the middle becomes another: one slot for three. */
    DEL(&f, ram_at(0xc0000, 0xd0000));
    ADD(&f, ram_at(0xc0000, 0xc8000));
    ADD(&f, ram_at(0xc8000, 0xd0000));
    commit(&f);
    assert_counts(&f, 0, 0);

    /* One goes: what is left of the slot has no section that comes or goes. */
    DEL(&f, ram_at(0xc8000, 0xd0000));
    commit(&f);
    assert_counts(&f, 1, 2);
    g_assert_true(f.change.overlap);
    assert_slot(&f, 0, 0xc8000);
    assert_slot(&f, 0xd0000, TOP);

    /* The same memory at another offset, or another's memory, isn't joined. */
    ADD(&f, section(&ram, 0xc8000, 0xc9000, 0));
    ADD(&f, section(&rom, 0xc9000, 0xca000, 0xc9000));
    ADD(&f, ram_at(0xca000, 0xd0000));
    commit(&f);
    assert_counts(&f, 0, 3);
    teardown(&f);
}

/* A memory device with memory that comes and goes piece by piece */
static void test_apart(void)
{
    SlotRange pieces[3];
    Fixture f;

    setup(&f);
    for (int i = 0; i < ARRAY_SIZE(pieces); i++) {
        pieces[i] = ram_at(i * GiB, (i + 1) * GiB);
        pieces[i].apart = true;
        add(&f, &pieces[i]);
    }
    commit(&f);
    assert_counts(&f, 0, 3);
    for (int i = 0; i < ARRAY_SIZE(pieces); i++) {
        del(&f, &pieces[i]);
        if (i != 1) {
            add(&f, &pieces[i]);
        }
    }
    commit(&f);
    assert_counts(&f, 1, 0);
    teardown(&f);
}

/* A pair that cancels is not sent, but its flags are. */
static void test_logging(void)
{
    Fixture f;

    setup(&f);
    slot_layout_cut(f.layout, 1 * MiB);
    ADD(&f, ram_at(0, TOP));
    commit(&f);

    ram.logging = true;
    DEL(&f, ram_at(0, TOP));
    ADD(&f, ram_at(0, TOP));
    commit(&f);
    assert_counts(&f, 0, 0);
    g_assert_cmpuint(f.kvm.updates, ==, 2);
    g_assert_true(kvm_slot(&f.kvm, 0)->logging);

    DEL(&f, ram_at(0, TOP));
    ADD(&f, ram_at(0, TOP));
    commit(&f);
    g_assert_cmpuint(f.kvm.updates, ==, 2);
    ram.logging = false;
    teardown(&f);
}

/* Flash that leaves romd mode, returns, and becomes writable */
static void test_readonly(void)
{
    SlotRange flash = section(&rom, 4 * GiB - 4 * MiB, 4 * GiB, 0);
    Fixture f;

    setup(&f);
    ADD(&f, flash);
    commit(&f);
    DEL(&f, flash);
    commit(&f);
    assert_counts(&f, 1, 0);
    DEL(&f, flash);             /* an MMIO section now */
    ADD(&f, flash);
    commit(&f);
    assert_counts(&f, 0, 1);

    DEL(&f, flash);
    flash.readonly = false;
    ADD(&f, flash);
    commit(&f);
    assert_counts(&f, 1, 1);
    g_assert_true(f.change.overlap);
    teardown(&f);
}

/* Slots with guest_memfd: as without a layout */
static void test_plain(void)
{
    SlotRange all = section(&memfd, 0, TOP, 0);
    SlotRange low = section(&memfd, 0, 1 * MiB, 0);
    SlotRange high = section(&memfd, 1 * MiB, TOP, 1 * MiB);
    Fixture f;

    setup(&f);
    slot_layout_cut(f.layout, 0xa0000);
    ADD(&f, all);
    commit(&f);
    assert_counts(&f, 0, 1);
    DEL(&f, all);
    ADD(&f, all);
    commit(&f);
    assert_counts(&f, 1, 1);
    DEL(&f, all);
    ADD(&f, low);
    ADD(&f, high);
    commit(&f);
    assert_counts(&f, 1, 2);
    DEL(&f, low);
    commit(&f);
    assert_counts(&f, 1, 0);
    teardown(&f);
}

/* A BAR that is switched off and on, off and on */
static void test_wait(void)
{
    const int64_t ns = SLOT_LAYOUT_SETTLE_NS / 2;
    SlotRange bar = section(&vram, 0xfd000000, 0xfe000000, 0);
    SlotRange range;
    bool waiting;
    Fixture f;
    int slot;

    setup(&f);
    ADD(&f, bar);
    ADD(&f, section(&rom, 0xfe000000, 0xfe010000, 0));
    commit(&f);
    assert_counts(&f, 0, 2);
    g_assert_cmpuint(f.change.nr_waiting, ==, 0);

    for (int i = 0; i < 7; i++) {
        DEL(&f, bar);
        DEL(&f, section(&rom, 0xfe000000, 0xfe010000, 0));
        commit_after(&f, 10 * ns);
        /* The ROM may not wait. */
        assert_counts(&f, i ? 1 : 2, 0);
        assert_no_slot(&f, bar.gpa);
        ADD(&f, bar);
        ADD(&f, section(&rom, 0xfe000000, 0xfe010000, 0));
        commit_after(&f, ns);
        assert_counts(&f, 0, 1);
        g_assert_cmpuint(f.change.nr_waiting, ==, 1);
        slot = slot_layout_find(f.layout, bar.gpa, &range, &waiting);
        g_assert_cmpint(slot, >=, 0);
        g_assert_true(waiting);
    }

    /* It waits whatever comes with other sections, and has no flags yet. */
    vram.logging = true;
    DEL(&f, bar);
    ADD(&f, section(&vram, 0xfd000000, 0xfd800000, 0));
    ADD(&f, section(&vram, 0xfd800000, 0xfe000000, 0x800000));
    commit_after(&f, ns);
    assert_counts(&f, 0, 0);
    settle(&f);
    assert_counts(&f, 0, 1);
    assert_slot(&f, bar.gpa, 0xfe000000);
    g_assert_true(kvm_slot(&f.kvm, slot)->logging);
    settle(&f);
    assert_counts(&f, 0, 0);
    vram.logging = false;

    /* Gone for a while, it does not wait, nor does it elsewhere. */
    DEL(&f, section(&vram, 0xfd000000, 0xfd800000, 0));
    DEL(&f, section(&vram, 0xfd800000, 0xfe000000, 0x800000));
    commit_after(&f, ns);
    assert_counts(&f, 1, 0);
    ADD(&f, bar);
    commit_after(&f, 2 * ns);
    assert_counts(&f, 0, 1);
    DEL(&f, bar);
    ADD(&f, section(&vram, 0xfc000000, 0xfd000000, 0));
    commit_after(&f, 0);
    assert_counts(&f, 1, 1);

    /* Nor does less of it.  What waits is in nobody's way. */
    ADD(&f, section(&vram, 0xfd000000, 0xfd800000, 0));
    commit_after(&f, 0);
    assert_counts(&f, 0, 1);
    DEL(&f, section(&vram, 0xfd000000, 0xfd800000, 0));
    commit_after(&f, 0);
    assert_counts(&f, 1, 0);
    ADD(&f, bar);
    commit_after(&f, 0);
    assert_counts(&f, 0, 0);
    DEL(&f, bar);
    ADD(&f, section(&rom, 0xfd000000, 0xfd010000, 0));
    commit_after(&f, 0);
    assert_counts(&f, 0, 1);
    g_assert_false(f.change.overlap);
    teardown(&f);
}

static void test_max_size(void)
{
    Fixture f;

    setup_limits(&f, 100, 1 * GiB);
    slot_layout_cut(f.layout, 1536 * MiB);
    slot_layout_cut(f.layout, 4096 * MiB);
    ADD(&f, ram_at(256 * MiB, 4096 * MiB));
    commit(&f);
    assert_counts(&f, 0, 5);
    assert_slot(&f, 256 * MiB, 1280 * MiB);
    assert_slot(&f, 1280 * MiB, 1536 * MiB);
    assert_slot(&f, 1536 * MiB, 2560 * MiB);
    assert_slot(&f, 2560 * MiB, 3584 * MiB);
    assert_slot(&f, 3584 * MiB, 4096 * MiB);

    /* up to the end of the address space */
    ADD(&f, ram_at(-(3ull * GiB), 0));
    commit(&f);
    assert_counts(&f, 0, 3);
    DEL(&f, ram_at(-(3ull * GiB), 0));
    ADD(&f, ram_at(-(2ull * GiB), 0));
    commit(&f);
    assert_counts(&f, 1, 0);
    teardown(&f);
}

/* KVM has no slot to spare: as many as there are sections must do. */
static void test_max_slots(void)
{
    Fixture f;

    setup_limits(&f, 3, UINT64_MAX);
    slot_layout_cut(f.layout, 0xa0000);
    slot_layout_cut(f.layout, 1 * MiB);
    ADD(&f, section(&rom, 4 * GiB - 4 * MiB, 4 * GiB, 0));
    commit(&f);
    ADD(&f, ram_at(0, TOP));
    commit(&f);
    assert_counts(&f, 0, 1);
    DEL(&f, ram_at(0, TOP));
    ADD(&f, ram_at(0, 0xa0000));
    ADD(&f, ram_at(0xc0000, TOP));
    commit(&f);
    assert_counts(&f, 1, 2);
    /* The two could stay, but then there were four. */
    DEL(&f, ram_at(0, 0xa0000));
    DEL(&f, ram_at(0xc0000, TOP));
    ADD(&f, ram_at(0, TOP));
    commit(&f);
    assert_counts(&f, 2, 1);
    assert_slot(&f, 0, TOP);
    DEL(&f, ram_at(0, TOP));
    ADD(&f, ram_at(0, TOP));
    ADD(&f, section(&rom, TOP, TOP + 1 * MiB, 0));
    commit(&f);
    assert_counts(&f, 0, 1);
    g_assert_cmpuint(f.kvm.slots->len, ==, 3);
    teardown(&f);
}

/* A window that wanders over a section leaves no trail of slots. */
static void test_max_pieces(void)
{
    const unsigned int pages = 4096;
    unsigned int used, most = 0;
    Fixture f;

    setup(&f);
    slot_layout_cut(f.layout, 1 * MiB);
    ADD(&f, ram_at(0, pages * PAGE));
    commit(&f);
    for (unsigned int i = 1; i < pages - 1; i++) {
        SlotRange below = ram_at(0, i * PAGE);
        SlotRange above = ram_at((i + 1) * PAGE, pages * PAGE);

        DEL(&f, ram_at(0, pages * PAGE));
        ADD(&f, below);
        ADD(&f, above);
        commit(&f);
        DEL(&f, below);
        DEL(&f, above);
        ADD(&f, ram_at(0, pages * PAGE));
        commit(&f);

        used = f.kvm.creates - f.kvm.deletes;
        most = MAX(most, used);
        /* Between both pairs of cuts, and what closes the window */
        g_assert_cmpuint(used, <=, 2 * (SLOT_LAYOUT_MAX_PIECES + 1));
    }
    g_assert_cmpuint(most, >, SLOT_LAYOUT_MAX_PIECES);
    g_assert_cmpuint(f.kvm.slots->len, <, 3 * SLOT_LAYOUT_MAX_PIECES);
    g_assert_cmpuint(kvm_ioctls(&f.kvm), <=, kvm_ioctls(&f.plain));
    teardown(&f);
}

/* Pieces of different memory don't add up. */
static void test_pieces_of_two(void)
{
    const unsigned int pages = SLOT_LAYOUT_MAX_PIECES;
    Fixture f;

    setup(&f);
    for (unsigned int i = 0; i < pages; i++) {
        ADD(&f, ram_at(i * PAGE, (i + 1) * PAGE));
        commit(&f);
        ADD(&f, section(&rom, (pages + i) * PAGE, (pages + i + 1) * PAGE,
                        i * PAGE));
        commit(&f);
    }
    for (unsigned int i = 0; i < pages; i++) {
        DEL(&f, ram_at(i * PAGE, (i + 1) * PAGE));
    }
    for (unsigned int i = 0; i < pages; i++) {
        DEL(&f, section(&rom, (pages + i) * PAGE, (pages + i + 1) * PAGE,
                        i * PAGE));
    }
    ADD(&f, ram_at(0, pages * PAGE));
    ADD(&f, section(&rom, pages * PAGE, 2 * pages * PAGE, 0));
    commit(&f);
    assert_counts(&f, 0, 0);
    teardown(&f);
}

/* The map of a small machine */

#define PAGES           (4 * MiB / PAGE)

typedef struct Cell {
    const Owner *owner;         /* NULL: nothing there */
    uint64_t offset;            /* into the owner's memory */
    bool backed;                /* by a slot */
    bool readonly;              /* the owner, when the map was made */
    bool mapped_readonly;       /* QEMU's matter, not KVM's */
} Cell;

typedef struct Map {
    Cell cells[PAGES];
} Map;

/* Put @pages of @owner at @page, over what is there. */
static void put(Map *map, const Owner *owner, unsigned int page,
                unsigned int pages, unsigned int from, bool mapped_readonly)
{
    for (unsigned int i = 0; i < pages; i++) {
        map->cells[page + i] = (Cell) {
            .owner = owner, .offset = (from + i) * PAGE, .backed = owner->hva,
            .readonly = owner->readonly, .mapped_readonly = mapped_readonly,
        };
    }
}

static bool same_cell(const Cell *a, const Cell *b)
{
    return a->owner == b->owner && a->offset == b->offset &&
           a->backed == b->backed && a->readonly == b->readonly;
}

static bool joins(const Map *map, unsigned int page)
{
    const Cell *a = &map->cells[page - 1], *b = &map->cells[page];

    return a->owner == b->owner && a->offset + PAGE == b->offset &&
           a->backed == b->backed && a->readonly == b->readonly;
}

/* The section at or after @page; returns the page after it, 0 at the end */
static unsigned int next_section(const Map *map, unsigned int page,
                                 unsigned int *first, SlotRange *range)
{
    while (page < PAGES && !map->cells[page].owner) {
        page++;
    }
    if (page == PAGES) {
        return 0;
    }
    *first = page++;
    while (page < PAGES && joins(map, page) &&
           map->cells[page].mapped_readonly ==
           map->cells[page - 1].mapped_readonly) {
        page++;
    }
    *range = section(map->cells[*first].owner, *first * PAGE, page * PAGE,
                     map->cells[*first].offset);
    range->readonly = map->cells[*first].readonly;
    return page;
}

/* Is the section that starts at @page in @a in @b, too? */
static bool same_section(const Map *a, const Map *b, unsigned int page)
{
    SlotRange in_a, in_b;
    unsigned int first;

    next_section(a, page, &first, &in_a);
    /* It must start there, and not go on longer. */
    if (!b->cells[page].owner ||
        (page > 0 && b->cells[page - 1].owner && joins(b, page) &&
         b->cells[page - 1].mapped_readonly == b->cells[page].mapped_readonly)) {
        return false;
    }
    next_section(b, page, &first, &in_b);
    return same_cell(&a->cells[page], &b->cells[page]) &&
           a->cells[page].mapped_readonly == b->cells[page].mapped_readonly &&
           in_a.size == in_b.size;
}

static void log_section(Fixture *f, const SlotRange *range)
{
    uint64_t gpa = range->gpa;
    int slot = plain_lookup(&f->plain, range->gpa, range->size);
    SlotRange r;
    bool waiting;

    kvm_update(&f->plain, slot);
    while (gpa <= last_of(range)) {
        slot = slot_layout_find(f->layout, gpa, &r, &waiting);
        g_assert_cmpint(slot, >=, 0);
        if (!waiting) {
            kvm_update(&f->kvm, slot);
        }
        gpa = r.gpa + r.size;
    }
}

/* From one map to another, as address_space_update_topology_pass() goes */
static void change_map(Fixture *f, const Map *old, const Map *new, int64_t ns)
{
    unsigned int page, first;
    SlotRange range;

    for (page = 0; (page = next_section(old, page, &first, &range)); ) {
        if (!same_section(old, new, first)) {
            del(f, &range);
        }
    }
    for (page = 0; (page = next_section(new, page, &first, &range)); ) {
        if (!new->cells[first].backed) {
            continue;
        }
        if (same_section(new, old, first)) {
            log_section(f, &range);
        } else {
            add(f, &range);
        }
    }
    commit_after(f, ns);
}

/* What KVM shows at each page: the number of the slot, or -1 */
static void show_slots(Kvm *kvm, int *shown)
{
    for (unsigned int i = 0; i < PAGES; i++) {
        shown[i] = -1;
    }
    for (unsigned int s = 0; s < kvm->slots->len; s++) {
        const SlotRange *r = &kvm_slot(kvm, s)->range;

        for (unsigned int i = 0; i < r->size / PAGE; i++) {
            g_assert_cmpint(shown[r->gpa / PAGE + i], ==, -1);
            shown[r->gpa / PAGE + i] = s;
        }
    }
}

static void assert_shows(Kvm *kvm, const Map *map, SlotLayout *layout)
{
    int shown[PAGES];
    SlotRange range;
    bool waiting;

    show_slots(kvm, shown);
    for (unsigned int i = 0; i < PAGES; i++) {
        const Cell *cell = &map->cells[i];
        const KvmSlot *slot;

        if (layout && cell->owner && cell->owner->may_wait &&
            slot_layout_find(layout, i * PAGE, &range, &waiting) >= 0 &&
            waiting) {
            g_assert_cmpint(shown[i], ==, -1);
            continue;
        }
        g_assert_cmpint(shown[i] >= 0, ==, cell->owner && cell->backed);
        if (shown[i] >= 0) {
            slot = kvm_slot(kvm, shown[i]);
            g_assert_true(slot->range.owner == cell->owner);
            g_assert_cmphex(slot->range.hva + i * PAGE - slot->range.gpa, ==,
                            cell->owner->hva + cell->offset);
            g_assert_cmpint(slot->range.readonly, ==, cell->readonly);
            g_assert_cmpint(slot->logging, ==, cell->owner->logging);
        }
    }
}

/*
 * How many slots that the change deleted show the same memory before and
 * after: only where there were too many pieces may there be such.
 */
static unsigned int count_needless(const Fixture *f, const Map *old,
                                   const Map *new)
{
    unsigned int needless = 0;

    for (unsigned int d = 0; d < f->change.nr_ops; d++) {
        const SlotRange *r = &f->change.ops[d].range;
        bool changed = false;

        if (f->change.ops[d].type != SLOT_OP_DELETE) {
            break;
        }
        for (uint64_t i = r->gpa / PAGE; i <= last_of(r) / PAGE; i++) {
            changed |= !same_cell(&old->cells[i], &new->cells[i]);
        }
        needless += !changed;
    }
    return needless;
}

/*
 * How many operations it would take to delete all slots that a section taken
 * away overlaps, and to create what is then missing in as few as possible,
 * cut like the layout does.
 */
static unsigned int count_naive(const Map *old, const Map *new,
                                const int *shown, const bool *cut)
{
    bool changed[PAGES] = {}, deleted[PAGES] = {};
    unsigned int page, first, ops = 0;
    SlotRange range;

    for (page = 0; (page = next_section(old, page, &first, &range)); ) {
        if (!same_section(old, new, first)) {
            memset(&changed[first], true, page - first);
        }
    }
    for (page = 0; page < PAGES; page++) {
        if (changed[page] && shown[page] >= 0 && !deleted[shown[page]]) {
            deleted[shown[page]] = true;
            ops++;
        }
    }
    for (page = 0; page < PAGES; page++) {
        changed[page] = shown[page] >= 0 && deleted[shown[page]];
    }
    for (page = 0; (page = next_section(new, page, &first, &range)); ) {
        if (!same_section(new, old, first)) {
            memset(&changed[first], true, page - first);
        }
    }
    for (page = 0; page < PAGES; page++) {
        const Cell *cell = &new->cells[page];

        if (changed[page] && cell->owner && cell->backed &&
            !(page && changed[page - 1] && joins(new, page) && !cut[page])) {
            ops++;
        }
    }
    return ops;
}

/* Slots that waited when the change came: KVM had none of them */
static unsigned int count_waited(const Fixture *f)
{
    unsigned int waited = 0;

    for (unsigned int i = 0; i < f->change.nr_ops; i++) {
        waited += f->change.ops[i].type != SLOT_OP_CREATE &&
                  f->change.ops[i].waiting;
    }
    return waited;
}

typedef struct Fuzz {
    Fixture f;
    bool cut[PAGES];
    unsigned int needless;
} Fuzz;

static void fuzz_cut(Fuzz *fuzz, unsigned int page)
{
    slot_layout_cut(fuzz->f.layout, page * PAGE);
    fuzz->cut[page] = true;
}

static void fuzz_step(Fuzz *fuzz, const Map *old, const Map *new, int64_t ns)
{
    Fixture *f = &fuzz->f;
    unsigned int naive, needless;
    int shown[PAGES];

    show_slots(&f->kvm, shown);
    naive = count_naive(old, new, shown, fuzz->cut);
    change_map(f, old, new, ns);
    assert_shows(&f->kvm, new, f->layout);
    assert_shows(&f->plain, new, NULL);
    /* KVM has none of those that wait: the count sees nothing to delete. */
    naive += count_waited(f);
    g_assert_cmpuint(f->change.nr_deletes + f->change.nr_creates, <=, naive);
    needless = count_needless(f, old, new);
    if (needless) {
        g_assert_cmpuint(needless, >, SLOT_LAYOUT_MAX_PIECES);
    }
    fuzz->needless += needless;
}

static unsigned int below(unsigned int n)
{
    return g_test_rand_int_range(0, n);
}

static bool sometimes(unsigned int n)
{
    return below(n) == 0;
}

/* Windows, anywhere, of anything, over each other */
static void test_fuzz_random(void)
{
    static Map maps[2];
    static Owner owners[6] = {
        { .hva = 0x7000000000 }, { .hva = 0x7100000000 },
        { .hva = 0x7200000000, .may_wait = true }, { .hva = 0x7300000000, .readonly = true },
        { .hva = 0 }, { .hva = 0x7400000000 },
    };
    struct Window {
        unsigned int owner, page, pages, from;
        bool shown, mapped_readonly;
    } windows[12];
    Fuzz fuzz = {};

    for (int round = 0; round < 20; round++) {
        setup(&fuzz.f);
        memset(fuzz.cut, 0, sizeof(fuzz.cut));
        memset(maps, 0, sizeof(maps));
        for (int i = below(4); i > 0; i--) {
            fuzz_cut(&fuzz, 1 + below(PAGES - 1));
        }
        for (int i = 0; i < ARRAY_SIZE(windows); i++) {
            windows[i] = (struct Window) { .shown = i == 0, .pages = PAGES };
        }
        for (int step = 0; step < 300; step++) {
            const Map *old = &maps[step % 2];
            Map *new = &maps[!(step % 2)];
            struct Window *w = &windows[below(ARRAY_SIZE(windows))];

            switch (below(8)) {
            case 0:
                w->owner = below(ARRAY_SIZE(owners));
                w->pages = 1 + below(sometimes(4) ? PAGES - 1 : 64);
                w->page = below(PAGES - w->pages + 1);
                w->from = sometimes(2) ? w->page : below(PAGES);
                break;
            case 1:
                w->mapped_readonly ^= true;
                break;
            case 2:
                owners[below(ARRAY_SIZE(owners))].logging ^= true;
                break;
            case 3:
                owners[3].readonly ^= true;
                break;
            case 4:             /* romd mode */
                owners[5].hva ^= 0x7400000000;
                break;
            default:
                w->shown ^= true;
                break;
            }
            memset(new, 0, sizeof(*new));
            for (int i = 0; i < ARRAY_SIZE(windows); i++) {
                w = &windows[i];
                if (w->shown) {
                    put(new, &owners[w->owner], w->page, w->pages, w->from,
                        w->mapped_readonly);
                }
            }
            fuzz_step(&fuzz, old, new, below(SLOT_LAYOUT_SETTLE_NS));
            if (sometimes(10)) {
                settle(&fuzz.f);
                assert_shows(&fuzz.f.kvm, new, NULL);
            }
        }
        teardown(&fuzz.f);
    }
}

/* The windows of a PC */
static void test_fuzz_chipset(void)
{
    enum { SMRAM_OPEN, SMBASE, TSEG_OPEN, VAPIC, BAR, NR_BITS };
    const unsigned int mib = 1 * MiB / PAGE, tseg = 3 * mib;
    static Map maps[2];
    static Owner owners[] = {
        { .hva = 0x7000000000 },                        /* RAM */
        { .hva = 0x7100000000, .readonly = true },      /* ROMs */
        { .hva = 0x7200000000 },                        /* VGA */
        { .hva = 0 },                                   /* MMIO */
    };
    const Owner *pc_ram = &owners[0], *pc_rom = &owners[1];
    const Owner *vga = &owners[2], *mmio = &owners[3];
    uint64_t ours = 0, plain = 0;
    Fuzz fuzz = {};

    for (int round = 0; round < 20; round++) {
        unsigned int pam[13] = {}, bits = 0;

        setup(&fuzz.f);
        memset(fuzz.cut, 0, sizeof(fuzz.cut));
        memset(maps, 0, sizeof(maps));
        fuzz_cut(&fuzz, 0xa0000 / PAGE);
        fuzz_cut(&fuzz, mib);
        fuzz_cut(&fuzz, tseg);
        for (int step = 0; step < 300; step++) {
            const Map *old = &maps[step % 2];
            Map *new = &maps[!(step % 2)];

            if (sometimes(3)) {
                bits ^= 1 << below(NR_BITS);
            } else if (sometimes(20)) {
                owners[below(3)].logging ^= true;
            } else if (sometimes(20)) {
                memset(pam, 0, sizeof(pam));    /* reset */
                bits = 0;
            } else {
                for (int i = below(13), n = below(5); n >= 0 && i < 13;
                     i++, n--) {
                    pam[i] = below(4);
                }
            }
            memset(new, 0, sizeof(*new));
            put(new, pc_ram, 0, tseg + mib / 2, 0, false);
            for (int i = 0; i < 13; i++) {
                unsigned int page = 0xc0 + 4 * i, pages = i < 12 ? 4 : 16;

                if (pam[i] & 1) {
                    put(new, pc_ram, page, pages, page, !(pam[i] & 2));
                } else {
                    put(new, pc_rom, page, pages, page, true);
                }
            }
            if (bits & (1 << VAPIC) && pam[2] & 1) {
                put(new, pc_ram, 0xca, 3, 0xca, false);
            }
            if (!(bits & (1 << SMRAM_OPEN))) {
                put(new, mmio, 0xa0, 0x20, 0, false);
            }
            if (bits & (1 << SMBASE)) {
                put(new, mmio, 0x30, 0x20, 0, false);
            }
            if (bits & (1 << TSEG_OPEN)) {
                put(new, mmio, tseg, mib / 2, 0, false);
            }
            if (bits & (1 << BAR)) {
                put(new, vga, tseg + mib / 2, mib / 2, 0, false);
            }
            fuzz_step(&fuzz, old, new, SLOT_LAYOUT_SETTLE_NS);
            /* Main memory stays. */
            for (unsigned int d = 0; d < fuzz.f.change.nr_deletes; d++) {
                uint64_t gpa = fuzz.f.change.ops[d].range.gpa;

                g_assert_true(gpa < 1 * MiB || gpa >= tseg * PAGE);
            }
        }
        /*
         * A single change may take more: where several slots that were kept
         * apart go at once.
         */
        g_assert_cmpuint(kvm_ioctls(&fuzz.f.kvm), <=,
                         kvm_ioctls(&fuzz.f.plain));
        ours += kvm_ioctls(&fuzz.f.kvm);
        plain += kvm_ioctls(&fuzz.f.plain);
        teardown(&fuzz.f);
    }
    g_assert_cmpuint(fuzz.needless, ==, 0);
    g_test_message("6,000 changes: %" PRIu64 " ioctls, one slot per section "
                   "takes %" PRIu64, ours, plain);
}

/* Many slots, and windows that open and close in the middle of any */

#define SECTIONS        512
#define SECTION_SIZE    (64 * PAGE)

typedef struct Windows {
    unsigned int first[SECTIONS], pages[SECTIONS];      /* 0 pages: closed */
} Windows;

typedef struct Engine {
    void (*del)(void *opaque, const SlotRange *range);
    void (*add)(void *opaque, const SlotRange *range);
    void (*commit)(void *opaque);
    void *opaque;
} Engine;

static void layout_del(void *opaque, const SlotRange *range)
{
    slot_layout_del(opaque, range->gpa, range->size);
}

static void layout_add(void *opaque, const SlotRange *range)
{
    slot_layout_add(opaque, range);
}

static void layout_commit(void *opaque)
{
    SlotChange change;

    slot_layout_commit(opaque, 0, &change);
}

static void plain_engine_del(void *opaque, const SlotRange *range)
{
    plain_del(opaque, range);
}

static void plain_engine_add(void *opaque, const SlotRange *range)
{
    plain_add(opaque, range);
}

static void plain_engine_commit(void *opaque)
{
}

/* Call @visit for the sections that hold the i-th piece of memory. */
static void visit_sections(const Windows *w, unsigned int i,
                           const Engine *engine,
                           void (*visit)(void *, const SlotRange *))
{
    uint64_t gpa = (uint64_t)i * 2 * SECTION_SIZE, end = gpa + SECTION_SIZE;
    SlotRange r = ram_at(gpa, end);

    if (!w->pages[i]) {
        visit(engine->opaque, &r);
        return;
    }
    if (w->first[i]) {
        r = ram_at(gpa, gpa + w->first[i] * PAGE);
        visit(engine->opaque, &r);
    }
    gpa += (w->first[i] + w->pages[i]) * PAGE;
    if (gpa < end) {
        r = ram_at(gpa, end);
        visit(engine->opaque, &r);
    }
}

static void toggle_window(Windows *w, const Engine *engine, unsigned int i,
                          unsigned int first)
{
    visit_sections(w, i, engine, engine->del);
    if (w->pages[i]) {
        w->pages[i] = 0;
    } else {
        w->first[i] = first;
        w->pages[i] = 8;
    }
    visit_sections(w, i, engine, engine->add);
    engine->commit(engine->opaque);
}

static void toggle_any_window(Windows *w, const Engine *engine, GRand *rand)
{
    unsigned int i = g_rand_int_range(rand, 0, SECTIONS);

    toggle_window(w, engine, i, g_rand_int_range(rand, 0, 4) * 8);
}

static void fill(Windows *w, const Engine *engine)
{
    memset(w, 0, sizeof(*w));
    for (unsigned int i = 0; i < SECTIONS; i++) {
        visit_sections(w, i, engine, engine->add);
    }
    engine->commit(engine->opaque);
}

static double run_commits(const Engine *engine, unsigned int commits)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    static Windows windows;
    gint64 start;

    fill(&windows, engine);
    start = g_get_monotonic_time();
    for (unsigned int i = 0; i < commits; i++) {
        toggle_any_window(&windows, engine, rand);
    }
    return (g_get_monotonic_time() - start) / 1000.0;
}

static void test_benchmark(void)
{
    Kvm kvm;
    SlotLayout *layout = slot_layout_new(32764, UINT64_MAX);
    Engine with = { layout_del, layout_add, layout_commit, layout };
    Engine without = { plain_engine_del, plain_engine_add,
                       plain_engine_commit, &kvm };
    double ms, plain_ms;

    kvm_init(&kvm);
    ms = run_commits(&with, 10000);
    plain_ms = run_commits(&without, 10000);
    g_test_message("%d slots, 10,000 commits: %.1f ms, one slot per section "
                   "%.1f ms", SECTIONS, ms, plain_ms);
    g_assert_cmpfloat(ms, <, 1000);
    kvm_destroy(&kvm);
    slot_layout_free(layout);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
/* All allocations of this program, and of the libraries that it uses */
static uint64_t allocations;

void *__libc_malloc(size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_calloc(size_t n, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *realloc(void *p, size_t size)
{
    allocations++;
    return __libc_realloc(p, size);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

static void test_no_allocation(void)
{
    SlotLayout *layout = slot_layout_new(32764, UINT64_MAX);
    Engine engine = { layout_del, layout_add, layout_commit, layout };
    GRand *rand = g_rand_new_with_seed(2);
    static Windows windows;
    uint64_t before;

    fill(&windows, &engine);
    /* All windows in all places: there can't be more slots. */
    for (int i = 0; i < SECTIONS * 8; i++) {
        toggle_window(&windows, &engine, i / 8, i / 2 % 4 * 8);
    }
    /* All open: there can't be more slots that were used before. */
    for (int i = 0; i < SECTIONS; i++) {
        toggle_window(&windows, &engine, i, 8);
    }
    before = allocations;
    g_assert_cmpuint(before, >, SECTIONS);
    for (int i = 0; i < 100000; i++) {
        toggle_any_window(&windows, &engine, rand);
    }
    g_assert_cmpuint(allocations, ==, before);
    g_rand_free(rand);
    slot_layout_free(layout);
}
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/slot-layout/cut", test_cut);
    g_test_add_func("/slot-layout/window", test_window);
    g_test_add_func("/slot-layout/join", test_join);
    g_test_add_func("/slot-layout/apart", test_apart);
    g_test_add_func("/slot-layout/logging", test_logging);
    g_test_add_func("/slot-layout/readonly", test_readonly);
    g_test_add_func("/slot-layout/plain", test_plain);
    g_test_add_func("/slot-layout/wait", test_wait);
    g_test_add_func("/slot-layout/max-size", test_max_size);
    g_test_add_func("/slot-layout/max-slots", test_max_slots);
    g_test_add_func("/slot-layout/max-pieces", test_max_pieces);
    g_test_add_func("/slot-layout/pieces-of-two", test_pieces_of_two);
    g_test_add_func("/slot-layout/fuzz/random", test_fuzz_random);
    g_test_add_func("/slot-layout/fuzz/chipset", test_fuzz_chipset);
    g_test_add_func("/slot-layout/benchmark", test_benchmark);
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
    g_test_add_func("/slot-layout/no-allocation", test_no_allocation);
#endif
    return g_test_run();
}
