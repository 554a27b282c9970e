/*
 * KVM slot coalescing on PCs: where the chipset's windows are
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_I386_KVM_SLOT_CUTS_H
#define HW_I386_KVM_SLOT_CUTS_H

#include "hw/boards.h"

/* Cut KVM's slots for this machine, which must be complete. */
void pc_kvm_slot_cuts(MachineState *machine);

#endif
