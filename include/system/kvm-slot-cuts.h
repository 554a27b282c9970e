/*
 * KVM memory slots: where they are cut, and which of them a change leaves alone
 *
 * KVM gets a slot for each section of memory, and loses page tables when one is
 * deleted.  Windows that a chipset opens and closes in main memory change the
 * sections around them, too.  Where sections are cut at fixed addresses, most
 * pieces are taken away and added again as they were, in the same commit, and
 * cancel each other.
 *
 * A piece is a function of its section alone: nothing here knows the slots.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_KVM_SLOT_CUTS_H
#define SYSTEM_KVM_SLOT_CUTS_H

#include "exec/memory.h"
#include "qemu/queue.h"

typedef struct KVMMemoryUpdate {
    QSIMPLEQ_ENTRY(KVMMemoryUpdate) next;
    MemoryRegionSection section;
} KVMMemoryUpdate;

typedef QSIMPLEQ_HEAD(KVMMemoryUpdates, KVMMemoryUpdate) KVMMemoryUpdates;

/* Let no piece cross @gpa from now on.  There may be 8 cuts at most. */
void slot_cuts_add(hwaddr gpa);

/* Are there any?  If not, a piece is a section, and nothing is to cancel. */
bool slot_cuts_present(void);

/* How much of @size bytes at @start is in the first piece, in bytes */
hwaddr slot_cuts_piece(hwaddr start, hwaddr size);

/* Append the pieces of @section to @updates. */
void slot_cuts_queue(KVMMemoryUpdates *updates,
                     const MemoryRegionSection *section);

/**
 * slot_cuts_cancel: drop the pieces that are taken away and added as they were
 * @del: what is taken away, in the order of addresses
 * @add: what is added, likewise
 * @same: is the slot of a piece, which has the same memory as before, to be the
 *        same, too?  Called once for each such piece; if it returns true, the
 *        piece is in neither list afterwards
 * @opaque: passed to @same
 */
void slot_cuts_cancel(KVMMemoryUpdates *del, KVMMemoryUpdates *add,
                      bool (*same)(void *opaque, MemoryRegionSection *piece),
                      void *opaque);

#endif
