/*
 * KVM memory slots: where they are cut, and which a change leaves alone
 *
 * A layout knows the slots of one address space.  It is told of the sections
 * that a change of the memory map takes away and adds, and answers with the
 * fewest operations on slots that bring them about:
 *
 * - a slot whose memory is all there afterwards, at the same address, with the
 *   same backing and as writable as before, is left alone, whichever sections
 *   it now belongs to;
 * - any other slot that a section taken away overlaps is deleted;
 * - what is then missing is created, cut where the layout was told to cut, so
 *   that windows which come and go later don't take large slots with them;
 * - memory that may wait, and that was gone for a moment only, is created when
 *   it has stayed for a while: until then each access traps.
 *
 * Nothing here knows KVM or QEMU's memory API.  The caller serializes all
 * calls for one layout.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_SLOT_LAYOUT_H
#define ACCEL_KVM_SLOT_LAYOUT_H

/*
 * As many slots may stay side by side between two cuts, in one stretch of
 * memory, although one would do.  A guest that moves windows across a section
 * thus can't use up KVM's slots: beyond that they are put together again.
 * The chipset's own windows leave 13 at most (16 KiB steps below 1 MiB).
 */
#define SLOT_LAYOUT_MAX_PIECES  16

/*
 * Memory that was taken away less than this ago, in nanoseconds, and comes
 * back is likely to go again: an operating system sizes a PCI device's BARs
 * one by one, and switches all of them off and on for each.
 */
#define SLOT_LAYOUT_SETTLE_NS   (20 * 1000 * 1000)

typedef struct SlotLayout SlotLayout;

/* A section of memory, or a slot */
typedef struct SlotRange {
    uint64_t gpa;               /* guest physical address, in bytes */
    uint64_t size;              /* in bytes, not 0; gpa + size - 1 fits */
    uint64_t hva;               /* host virtual address of gpa */
    const void *owner;          /* whose memory it is: only compared */
    bool readonly;
    bool apart;                 /* in no slot with another section's */
    bool plain;                 /* likewise, and neither cut nor kept */
    bool may_wait;              /* nobody executes from it, and the processor
                                   keeps no tables in it */
} SlotRange;

typedef enum SlotOpType {
    SLOT_OP_DELETE,
    SLOT_OP_KEEP,               /* the owner's dirty logging may have changed */
    SLOT_OP_CREATE,
} SlotOpType;

typedef struct SlotOp {
    SlotOpType type;
    unsigned int slot;          /* number of the slot */
    bool waiting;               /* there is nothing to execute (yet) */
    SlotRange range;
} SlotOp;

typedef struct SlotChange {
    const SlotOp *ops;          /* in the order in which to execute them */
    unsigned int nr_ops;
    unsigned int nr_deletes;    /* to be executed */
    unsigned int nr_creates;    /* to be executed */
    unsigned int nr_waiting;    /* creates that are to wait */
    unsigned int nr_plain;      /* deletes and creates, if one section were
                                   one slot and all were sent */
    bool overlap;               /* a created slot overlaps a deleted one */
} SlotChange;

/**
 * slot_layout_new: a layout without slots
 * @max_slots: how many there may be.  If they don't suffice, slots that could
 *             stay are given up to use fewer; the numbers of slots exceed
 *             @max_slots only if that does not suffice either.
 * @max_size: of a slot, in bytes
 */
SlotLayout *slot_layout_new(unsigned int max_slots, uint64_t max_size);

void slot_layout_free(SlotLayout *layout);

/**
 * slot_layout_cut: let no slot that is created from now on cross @gpa
 */
void slot_layout_cut(SlotLayout *layout, uint64_t gpa);

/**
 * slot_layout_del, slot_layout_add: a section goes away, or comes
 *
 * Until slot_layout_commit() nothing happens.  Sections taken away are named
 * in the order of their addresses, so are those added.  A section may be added
 * where there is none, or where one is taken away at the same time.  Taking
 * away a section that no slot backs has no effect.
 */
void slot_layout_del(SlotLayout *layout, uint64_t gpa, uint64_t size);
void slot_layout_add(SlotLayout *layout, const SlotRange *section);

/**
 * slot_layout_commit: carry out what was asked for since the last time
 * @now: in nanoseconds, of any clock that doesn't run backwards
 * @change: set to what is to be done; valid until the layout's next change
 *
 * The layout is that after the change.  Takes time in proportion to the
 * sections and slots that change, times the logarithm of the number of all
 * slots.  Allocates memory only if this change is larger than all before.
 */
void slot_layout_commit(SlotLayout *layout, int64_t now, SlotChange *change);

/**
 * slot_layout_settle: create the slots that wait
 *
 * To be called SLOT_LAYOUT_SETTLE_NS after the last change that let a slot
 * wait, or earlier.
 */
void slot_layout_settle(SlotLayout *layout, SlotChange *change);

/**
 * slot_layout_find: the slot that holds an address
 * @range: set to the slot's, if there is one
 * @waiting: set to whether it is yet to be created
 *
 * Returns: the number of the slot, -1 if there is none
 */
int slot_layout_find(SlotLayout *layout, uint64_t gpa, SlotRange *range,
                     bool *waiting);

#endif
