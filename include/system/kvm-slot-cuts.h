/*
 * KVM memory slots: where they are cut, and which of them a change leaves alone
 *
 * Windows that a chipset opens and closes in main memory change the sections
 * around them.  Cut at fixed addresses, most of these come back as they went.
 * A piece is a function of its section alone: nothing here knows the slots.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_KVM_SLOT_CUTS_H
#define SYSTEM_KVM_SLOT_CUTS_H

#include "qemu/queue.h"
#include "system/memory.h"

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

/*
 * Drop what is taken away and added as it was; both lists are in the order of
 * addresses.  @same is called once for each such piece, which has the memory
 * that it had: is its slot to be the same, too?
 */
void slot_cuts_cancel(KVMMemoryUpdates *del, KVMMemoryUpdates *add,
                      bool (*same)(void *opaque, MemoryRegionSection *piece),
                      void *opaque);

#endif
