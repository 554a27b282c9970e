/*
 * KVM slot coalescing on PCs: where the chipset's windows are
 *
 * What counts is that no window takes main memory with it, which is large and
 * in use.  Hence one cut between it and all windows below 1 MiB, and one at
 * the lowest TSEG.  SMRAM at 0xa0000, which opens and closes, does not take
 * low memory with it.
 *
 * There are no cuts between the steps of PAM, nor at the SMBASE window: a
 * slot that is cut in advance is created in pieces, in each address space,
 * and deleted in pieces.  A slot that a window splits stays split, which
 * costs as much for the windows that firmware uses, and nothing for others.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "hw/i386/pc.h"
#include "hw/i386/x86.h"
#include "hw/pci-host/pam.h"
#include "hw/pci-host/q35.h"
#include "system/kvm-slot-coalescing.h"
#include "slot-cuts.h"

/* The largest TSEG that needs no extension, see mch_update_smram() */
#define TSEG_MAX_MBYTES     8

void pc_kvm_slot_cuts(MachineState *machine)
{
    X86MachineState *x86ms;
    Object *mch;

    if (!object_dynamic_cast(OBJECT(machine), TYPE_PC_MACHINE)) {
        return;
    }

    kvm_slot_cut(SMRAM_C_BASE);
    kvm_slot_cut(1 * MiB);

    x86ms = X86_MACHINE(machine);
    mch = object_resolve_path_type("", TYPE_MCH_PCI_DEVICE, NULL);
    if (mch && x86_machine_is_smm_enabled(x86ms)) {
        uint64_t tseg = MAX(MCH_PCI_DEVICE(mch)->ext_tseg_mbytes,
                            TSEG_MAX_MBYTES) * MiB;

        if (x86ms->below_4g_mem_size > tseg) {
            kvm_slot_cut(x86ms->below_4g_mem_size - tseg);
        }
    }
}
