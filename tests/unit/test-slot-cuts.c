/*
 * KVM memory slots: where they are cut, and which of them a change leaves alone
 *
 * A model of the memory map makes the same sections come and go that the
 * memory API would name.  They go through cut and cancel, and as they are to a
 * model of KVM each, which refuses what KVM refuses; both must show the map.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "system/kvm-slot-cuts.h"

#define PAGE            (4 * KiB)
#define PAGES           (4 * MiB / PAGE)
#define TSEG            (3 * MiB)

static const uint64_t cuts[] = { 1 * MiB, 0xa0000, TSEG, 0xc0000 };

/* Memory; only the addresses of the regions count */
typedef struct Owner {
    MemoryRegion mr;
    bool backed;                /* by slots: RAM, or ROM in ROMD mode */
    bool readonly;
} Owner;

/* KVM */

typedef struct Slot {
    uint64_t gpa, size, offset;
    const Owner *owner;
    bool readonly;
} Slot;

typedef struct Kvm {
    GArray *slots;
    unsigned int deletes, creates;
    unsigned int main_deletes;  /* of slots with memory from 1 MiB to TSEG */
} Kvm;

static void kvm_reset(Kvm *kvm)
{
    if (kvm->slots) {
        g_array_unref(kvm->slots);
    }
    *kvm = (Kvm) { .slots = g_array_new(false, true, sizeof(Slot)) };
}

static int find_slot(const Kvm *kvm, uint64_t gpa, uint64_t size)
{
    for (int i = 0; i < kvm->slots->len; i++) {
        const Slot *slot = &g_array_index(kvm->slots, Slot, i);

        if (slot->gpa == gpa && slot->size == size) {
            return i;
        }
    }
    return -1;
}

static Slot slot_of(const MemoryRegionSection *section)
{
    const Owner *owner = container_of(section->mr, Owner, mr);

    return (Slot) {
        .gpa = section->offset_within_address_space,
        .size = int128_get64(section->size),
        .offset = section->offset_within_region,
        .owner = owner, .readonly = owner->readonly,
    };
}

static bool same_slot(const Slot *a, const Slot *b)
{
    return a->gpa == b->gpa && a->size == b->size && a->offset == b->offset &&
           a->owner == b->owner && a->readonly == b->readonly;
}

/* As kvm_set_phys_mem(); returns whether a slot went or came */
static bool set_memory(Kvm *kvm, const MemoryRegionSection *section, bool add,
                       Slot *which)
{
    Slot slot = slot_of(section);
    int old;

    if (add && slot.owner->backed) {
        for (int i = 0; i < kvm->slots->len; i++) {
            const Slot *s = &g_array_index(kvm->slots, Slot, i);

            g_assert(slot.gpa + slot.size <= s->gpa ||
                     s->gpa + s->size <= slot.gpa);
        }
        g_array_append_val(kvm->slots, slot);
        kvm->creates++;
        *which = slot;
        return true;
    }
    old = find_slot(kvm, slot.gpa, slot.size);
    if (old < 0) {
        return false;
    }
    *which = g_array_index(kvm->slots, Slot, old);
    g_array_remove_index_fast(kvm->slots, old);
    kvm->deletes++;
    kvm->main_deletes += slot.gpa < TSEG && slot.gpa + slot.size > 1 * MiB;
    return true;
}

/* As kvm_slot_stays() */
static bool stays(void *opaque, MemoryRegionSection *piece)
{
    Kvm *kvm = opaque;
    Slot slot = slot_of(piece);
    int old = find_slot(kvm, slot.gpa, slot.size);

    return old < 0 ? !slot.owner->backed :
           slot.owner->backed &&
           same_slot(&slot, &g_array_index(kvm->slots, Slot, old));
}

static void add_cuts(void)
{
    bool present = slot_cuts_present();

    for (int i = 0; !present && i < ARRAY_SIZE(cuts); i++) {
        slot_cuts_add(cuts[i]);
    }
}

/* Cut and queue */

static MemoryRegionSection section_of(Owner *owner, uint64_t gpa,
                                      uint64_t size, uint64_t offset)
{
    return (MemoryRegionSection) {
        .mr = &owner->mr, .size = int128_make64(size),
        .offset_within_address_space = gpa, .offset_within_region = offset,
    };
}

static void clear(KVMMemoryUpdates *updates)
{
    while (!QSIMPLEQ_EMPTY(updates)) {
        KVMMemoryUpdate *u = QSIMPLEQ_FIRST(updates);

        QSIMPLEQ_REMOVE_HEAD(updates, next);
        g_free(u);
    }
}

static void assert_pieces(KVMMemoryUpdates *updates, const uint64_t *at, int n,
                          uint64_t gpa_to_offset)
{
    KVMMemoryUpdate *u = QSIMPLEQ_FIRST(updates);

    for (int i = 0; i + 1 < n; i++, u = QSIMPLEQ_NEXT(u, next)) {
        g_assert_nonnull(u);
        g_assert_cmphex(u->section.offset_within_address_space, ==, at[i]);
        g_assert_cmphex(int128_get64(u->section.size), ==, at[i + 1] - at[i]);
        g_assert_cmphex(u->section.offset_within_region, ==,
                        at[i] + gpa_to_offset);
    }
    g_assert_null(u);
}

static void test_cut(void)
{
    static const uint64_t all[] = {
        0, 0xa0000, 0xc0000, 1 * MiB, TSEG, 8 * MiB,
    };
    static const uint64_t odd[] = { 0x9fc00, 0xa0000, 0xa0200 };
    static const uint64_t exact[] = { 0xa0000, 0xc0000 };
    KVMMemoryUpdates updates = QSIMPLEQ_HEAD_INITIALIZER(updates);
    Owner ram = {};
    MemoryRegionSection s = section_of(&ram, 0, 8 * MiB, 0x5000);

    /* Without cuts a piece is a section. */
    g_assert_false(slot_cuts_present());
    g_assert_cmphex(slot_cuts_piece(0x9f000, 8 * MiB), ==, 8 * MiB);
    slot_cuts_queue(&updates, &s);
    g_assert_cmphex(int128_get64(QSIMPLEQ_FIRST(&updates)->section.size), ==,
                    8 * MiB);
    g_assert_null(QSIMPLEQ_NEXT(QSIMPLEQ_FIRST(&updates), next));
    clear(&updates);

    add_cuts();
    g_assert_true(slot_cuts_present());
    g_assert_cmphex(slot_cuts_piece(0x9f000, 8 * MiB), ==, 0x1000);
    g_assert_cmphex(slot_cuts_piece(0x9f000, 0x800), ==, 0x800);
    g_assert_cmphex(slot_cuts_piece(0xa0000, 0x20000), ==, 0x20000);
    g_assert_cmphex(slot_cuts_piece(TSEG, 8 * GiB), ==, 8 * GiB);

    slot_cuts_queue(&updates, &s);
    assert_pieces(&updates, all, ARRAY_SIZE(all), 0x5000);
    clear(&updates);

    s = section_of(&ram, 0x9fc00, 0x600, 0);
    slot_cuts_queue(&updates, &s);
    assert_pieces(&updates, odd, ARRAY_SIZE(odd), -0x9fc00);
    clear(&updates);

    s = section_of(&ram, 0xa0000, 0x20000, 0xa0000);
    slot_cuts_queue(&updates, &s);
    assert_pieces(&updates, exact, ARRAY_SIZE(exact), 0);
    clear(&updates);

    /* All of the address space */
    s = section_of(&ram, 0, 0, 0);
    s.size = int128_2_64();
    slot_cuts_queue(&updates, &s);
    for (KVMMemoryUpdate *u = QSIMPLEQ_FIRST(&updates); u;
         u = QSIMPLEQ_NEXT(u, next)) {
        s.size = int128_sub(s.size, u->section.size);
    }
    g_assert_false(int128_nz(s.size));
    clear(&updates);
}

/* A map, of pages */

typedef struct Cell {
    Owner *owner;               /* NULL: nothing there */
    uint64_t offset;
    bool mapped_readonly;       /* QEMU's matter, not KVM's */
} Cell;

typedef struct Map {
    Cell cells[PAGES];
} Map;

static void put(Map *map, Owner *owner, unsigned int page, unsigned int pages,
                unsigned int from, bool mapped_readonly)
{
    for (unsigned int i = 0; i < pages; i++) {
        map->cells[page + i] = (Cell) { owner, (from + i) * PAGE,
                                        mapped_readonly };
    }
}

/* The section at or after @page; returns the page after it, 0 at the end */
static unsigned int next_section(const Map *map, unsigned int page,
                                 MemoryRegionSection *section)
{
    const Cell *c = map->cells;
    unsigned int first;

    while (page < PAGES && !c[page].owner) {
        page++;
    }
    if (page == PAGES) {
        return 0;
    }
    first = page++;
    while (page < PAGES && c[page].owner == c[first].owner &&
           c[page].offset == c[page - 1].offset + PAGE &&
           c[page].mapped_readonly == c[first].mapped_readonly) {
        page++;
    }
    *section = section_of(c[first].owner, first * PAGE, (page - first) * PAGE,
                          c[first].offset);
    section->readonly = c[first].mapped_readonly;
    return page;
}

/* As address_space_update_topology_pass() */
static void queue_difference(KVMMemoryUpdates *cut, KVMMemoryUpdates *plain,
                             const Map *map, const Map *other,
                             const Owner *changed)
{
    MemoryRegionSection s, t = {};

    for (unsigned int page = 0, at = 0;
         (page = next_section(map, page, &s)); ) {
        KVMMemoryUpdate *update;

        while (t.offset_within_address_space < s.offset_within_address_space ||
               !t.mr) {
            at = next_section(other, at, &t);
            if (!at) {
                t.offset_within_address_space = UINT64_MAX;
                at = PAGES;
                break;
            }
        }
        if (t.offset_within_address_space == s.offset_within_address_space &&
            t.mr == s.mr && int128_eq(t.size, s.size) &&
            t.offset_within_region == s.offset_within_region &&
            t.readonly == s.readonly && s.mr != &changed->mr) {
            continue;
        }
        slot_cuts_queue(cut, &s);
        update = g_new0(KVMMemoryUpdate, 1);
        update->section = s;
        QSIMPLEQ_INSERT_TAIL(plain, update, next);
    }
}

/* Returns how many slots came as they went: these should have stayed. */
static unsigned int commit(Kvm *kvm, KVMMemoryUpdates *del,
                           KVMMemoryUpdates *add)
{
    g_autoptr(GArray) gone = g_array_new(false, false, sizeof(Slot));
    unsigned int needless = 0;
    KVMMemoryUpdate *u;
    Slot slot;

    QSIMPLEQ_FOREACH(u, del, next) {
        if (set_memory(kvm, &u->section, false, &slot)) {
            g_array_append_val(gone, slot);
        }
    }
    QSIMPLEQ_FOREACH(u, add, next) {
        if (set_memory(kvm, &u->section, true, &slot)) {
            for (int i = 0; i < gone->len; i++) {
                needless += same_slot(&g_array_index(gone, Slot, i), &slot);
            }
        }
    }
    clear(del);
    clear(add);
    return needless;
}

static void assert_shows(const Kvm *kvm, const Map *map)
{
    const Slot *shown[PAGES] = {};

    for (int i = 0; i < kvm->slots->len; i++) {
        const Slot *slot = &g_array_index(kvm->slots, Slot, i);

        for (unsigned int j = 0; j < slot->size / PAGE; j++) {
            g_assert_null(shown[slot->gpa / PAGE + j]);
            shown[slot->gpa / PAGE + j] = slot;
        }
    }
    for (unsigned int i = 0; i < PAGES; i++) {
        const Cell *cell = &map->cells[i];

        if (!cell->owner || !cell->owner->backed) {
            g_assert_null(shown[i]);
            continue;
        }
        g_assert_nonnull(shown[i]);
        g_assert_true(shown[i]->owner == cell->owner);
        g_assert_cmphex(shown[i]->offset + i * PAGE - shown[i]->gpa, ==,
                        cell->offset);
        g_assert_cmpint(shown[i]->readonly, ==, cell->owner->readonly);
    }
}

/* @changed: its sections go and come in any case; they are of another kind */
static void change(Kvm *cut, Kvm *plain, const Map *old, const Map *new,
                   const Owner *changed)
{
    KVMMemoryUpdates del = QSIMPLEQ_HEAD_INITIALIZER(del);
    KVMMemoryUpdates add = QSIMPLEQ_HEAD_INITIALIZER(add);
    KVMMemoryUpdates plain_del = QSIMPLEQ_HEAD_INITIALIZER(plain_del);
    KVMMemoryUpdates plain_add = QSIMPLEQ_HEAD_INITIALIZER(plain_add);

    queue_difference(&del, &plain_del, old, new, changed);
    queue_difference(&add, &plain_add, new, old, changed);
    slot_cuts_cancel(&del, &add, stays, cut);
    g_assert_cmpuint(commit(cut, &del, &add), ==, 0);
    commit(plain, &plain_del, &plain_add);
    assert_shows(cut, new);
    assert_shows(plain, new);
}

static bool sometimes(unsigned int n)
{
    return g_test_rand_int_range(0, n) == 0;
}

/* Windows, anywhere, of anything, over each other */
static void test_random(void)
{
    static Map maps[2];
    static Owner owners[] = {
        { .backed = true }, { .backed = true }, { .backed = false },
        { .backed = true, .readonly = true },
    };
    struct Window {
        unsigned int owner, page, pages, from;
        bool shown, mapped_readonly;
    } windows[10];
    Kvm cut = {}, plain = {};

    add_cuts();
    for (int round = 0; round < 20; round++) {
        kvm_reset(&cut);
        kvm_reset(&plain);
        memset(maps, 0, sizeof(maps));
        for (int i = 0; i < ARRAY_SIZE(windows); i++) {
            windows[i] = (struct Window) { .shown = i == 0, .pages = PAGES };
        }
        for (int step = 0; step < 300; step++) {
            struct Window *w =
                &windows[g_test_rand_int_range(0, ARRAY_SIZE(windows))];
            Map *new = &maps[!(step % 2)];
            const Owner *changed = &owners[1];

            switch (g_test_rand_int_range(0, 8)) {
            case 0:
                w->owner = g_test_rand_int_range(0, ARRAY_SIZE(owners));
                w->pages = g_test_rand_int_range(1, sometimes(4) ? PAGES : 64);
                w->page = g_test_rand_int_range(0, PAGES - w->pages + 1);
                w->from = sometimes(2) ? w->page : step;
                break;
            case 1:
                w->mapped_readonly ^= true;
                break;
            case 2:
                owners[3].readonly ^= true;
                changed = &owners[3];
                break;
            case 3:                             /* ROMD mode */
                owners[2].backed ^= true;
                changed = &owners[2];
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
            change(&cut, &plain, &maps[step % 2], new, changed);
        }
    }
    g_array_unref(cut.slots);
    g_array_unref(plain.slots);
}

/* A PC's windows never take main memory with them. */
static void test_chipset(void)
{
    static Map maps[2];
    static Owner rom = { .backed = true, .readonly = true };
    static Owner ram = { .backed = true };
    static Owner vga = { .backed = true }, hole = {};
    bool pam[13] = {}, readonly[13] = {}, smram = false, chain4 = false;
    unsigned int tseg = 0;
    Kvm cut = {}, plain = {};

    add_cuts();
    kvm_reset(&cut);
    kvm_reset(&plain);
    for (int step = 0; step < 5000; step++) {
        unsigned int area = g_test_rand_int_range(0, ARRAY_SIZE(pam));
        Map *new = &maps[!(step % 2)];

        switch (g_test_rand_int_range(0, 5)) {
        case 0:
            smram ^= true;
            break;
        case 1:
            chain4 ^= true;
            break;
        case 2:
            tseg = g_test_rand_int_range(0, 4) * MiB / 4;
            break;
        case 3:
            readonly[area] ^= true;
            break;
        default:
            pam[area] ^= true;
            break;
        }
        memset(new, 0, sizeof(*new));
        put(new, &ram, 0, PAGES, 0, false);
        put(new, &rom, 0xc0000 / PAGE, 64, 0, false);
        if (!smram) {
            put(new, chain4 ? &vga : &hole, 0xa0000 / PAGE, 32, 0, false);
        }
        for (int i = 0; i < ARRAY_SIZE(pam); i++) {
            unsigned int page = 0xc0 + 4 * i;

            if (pam[i]) {
                put(new, &ram, page, i == 12 ? 16 : 4, page, readonly[i]);
            }
        }
        put(new, &hole, PAGES - tseg / PAGE, tseg / PAGE, 0, false);
        change(&cut, &plain, &maps[step % 2], new, NULL);
    }
    g_test_message("cut: %u deletes, %u creates; one slot per section: %u, %u",
                   cut.deletes, cut.creates, plain.deletes, plain.creates);
    g_assert_cmpuint(cut.main_deletes, ==, 0);
    g_assert_cmpuint(plain.main_deletes, >, 0);
    g_array_unref(cut.slots);
    g_array_unref(plain.slots);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* The first one begins without cuts. */
    g_test_add_func("/slot-cuts/cut", test_cut);
    g_test_add_func("/slot-cuts/fuzz/random", test_random);
    g_test_add_func("/slot-cuts/fuzz/chipset", test_chipset);
    return g_test_run();
}
