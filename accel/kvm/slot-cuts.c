/*
 * KVM memory slots: where they are cut, and which of them a change leaves alone
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/kvm-slot-cuts.h"

static hwaddr cuts[8];          /* ascending */
static unsigned int nr_cuts;

void slot_cuts_add(hwaddr gpa)
{
    unsigned int i;

    assert(nr_cuts < ARRAY_SIZE(cuts));
    for (i = nr_cuts++; i && cuts[i - 1] > gpa; i--) {
        cuts[i] = cuts[i - 1];
    }
    cuts[i] = gpa;
}

bool slot_cuts_present(void)
{
    return nr_cuts;
}

hwaddr slot_cuts_piece(hwaddr start, hwaddr size)
{
    for (unsigned int i = 0; i < nr_cuts; i++) {
        if (cuts[i] > start) {
            return MIN(size, cuts[i] - start);
        }
    }
    return size;
}

void slot_cuts_queue(KVMMemoryUpdates *updates,
                     const MemoryRegionSection *section)
{
    MemoryRegionSection rest = *section;

    do {
        hwaddr start = rest.offset_within_address_space;
        hwaddr size = int128_gethi(rest.size) ? UINT64_MAX
                                              : int128_getlo(rest.size);
        hwaddr piece = slot_cuts_piece(start, size);
        KVMMemoryUpdate *update = g_new0(KVMMemoryUpdate, 1);

        update->section = rest;
        if (piece < size) {
            update->section.size = int128_make64(piece);
        }
        QSIMPLEQ_INSERT_TAIL(updates, update, next);

        rest.offset_within_address_space += piece;
        rest.offset_within_region += piece;
        rest.size = int128_sub(rest.size, update->section.size);
    } while (int128_nz(rest.size));
}

/* Whether the section is read-only is nothing to KVM: kvm_mem_flags() */
static bool same_memory(const MemoryRegionSection *a,
                        const MemoryRegionSection *b)
{
    return a->mr == b->mr && int128_eq(a->size, b->size) &&
           a->offset_within_address_space == b->offset_within_address_space &&
           a->offset_within_region == b->offset_within_region;
}

void slot_cuts_cancel(KVMMemoryUpdates *del, KVMMemoryUpdates *add,
                      bool (*same)(void *opaque, MemoryRegionSection *piece),
                      void *opaque)
{
    KVMMemoryUpdates dels = QSIMPLEQ_HEAD_INITIALIZER(dels);
    KVMMemoryUpdates adds = QSIMPLEQ_HEAD_INITIALIZER(adds);
    KVMMemoryUpdate *d, *a;

    while ((d = QSIMPLEQ_FIRST(del)) && (a = QSIMPLEQ_FIRST(add))) {
        if (same_memory(&d->section, &a->section) &&
            same(opaque, &a->section)) {
            QSIMPLEQ_REMOVE_HEAD(del, next);
            QSIMPLEQ_REMOVE_HEAD(add, next);
            g_free(d);
            g_free(a);
        } else if (d->section.offset_within_address_space <=
                   a->section.offset_within_address_space) {
            QSIMPLEQ_REMOVE_HEAD(del, next);
            QSIMPLEQ_INSERT_TAIL(&dels, d, next);
        } else {
            QSIMPLEQ_REMOVE_HEAD(add, next);
            QSIMPLEQ_INSERT_TAIL(&adds, a, next);
        }
    }
    QSIMPLEQ_CONCAT(&dels, del);
    QSIMPLEQ_CONCAT(&adds, add);
    QSIMPLEQ_CONCAT(del, &dels);
    QSIMPLEQ_CONCAT(add, &adds);
}
