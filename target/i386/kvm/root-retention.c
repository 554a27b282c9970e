/*
 * KVM root retention on x86: the capability, and the slot zap quirk
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/utsname.h>
#include <linux/kvm.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "exec/address-spaces.h"
#include "hw/boards.h"
#include "hw/i386/kvm/slot-cuts.h"
#include "hw/pci/pci_bus.h"
#include "hw/qdev-core.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/kvm-root-retention.h"
#include "system/system.h"
#include "state-coalesce.h"
#include "trace.h"

static KVMRootEffect root_effect;
static Notifier root_machine_done;
static Notifier slot_coalescing_machine_done;

static int slot_zap_by_slot(KVMState *s, Error **errp)
{
    int ret = kvm_vm_enable_cap(s, KVM_CAP_DISABLE_QUIRKS2, 0,
                                KVM_X86_QUIRK_SLOT_ZAP_ALL);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "slot-zap=slot: could not disable "
                         "KVM_X86_QUIRK_SLOT_ZAP_ALL");
    }
    return ret;
}

static int find_vfio(Object *obj, void *opaque)
{
    return !!object_dynamic_cast(obj, "vfio-pci");
}

static int find_pluggable_pci(Object *obj, void *opaque)
{
    return object_dynamic_cast(obj, TYPE_PCI_BUS) &&
           qbus_is_hotpluggable(BUS(obj));
}

/*
 * Decide slot-zap=auto.  All devices that are not hot-plugged exist now, and
 * the guest has not run, so that the deletions so far had nothing to zap.
 */
static void root_retention_machine_done(Notifier *n, void *unused)
{
    Object *root = object_get_root();
    bool present, pluggable;
    KvmSlotZap slot_zap;
    Error *err = NULL;

    if (!kvm_enabled()) {
        /* KVM failed after all, and QEMU fell back to another accelerator. */
        return;
    }

    present = object_child_foreach_recursive(root, find_vfio, NULL);
    pluggable = object_child_foreach_recursive(root, find_pluggable_pci, NULL);
    slot_zap = kvm_root_policy_slot_zap(&root_effect, present, pluggable);
    trace_kvm_root_slot_zap_auto(present, pluggable, KvmSlotZap_str(slot_zap));

    if (slot_zap == KVM_SLOT_ZAP_SLOT &&
        slot_zap_by_slot(kvm_state, &err) < 0) {
        /* auto takes what it gets; the VM is as it was without it. */
        warn_report_err(err);
        slot_zap = KVM_SLOT_ZAP_ALL;
    }
    root_effect.slot_zap = slot_zap;
}

/*
 * Until now no vCPU ran, and slots that came and went with the machine's
 * parts would have been for nothing.
 */
static void register_memory_listener(Notifier *n, void *unused)
{
    if (!kvm_enabled()) {
        return;
    }

    /* Of the address spaces this is the first, SMRAM's comes next. */
    assert(!kvm_state->as[0].ml);
    pc_kvm_slot_cuts(current_machine);
    kvm_memory_listener_register(kvm_state, &kvm_state->memory_listener,
                                 &address_space_memory, 0, "kvm-memory");
}

static void coalesce_slots(KVMState *s)
{
    s->slot_coalescing.enabled = true;
    /* The notifier that is added last runs first. */
    slot_coalescing_machine_done.notify = register_memory_listener;
    qemu_add_machine_init_done_notifier(&slot_coalescing_machine_done);
}

static void probe_offer(KVMState *s, KVMRootOffer *offer, struct utsname *uts)
{
    int capability = kvm_vm_check_extension(s, KVM_CAP_X86_TDP_ROOT_RETENTION);
    int quirks = kvm_vm_check_extension(s, KVM_CAP_DISABLE_QUIRKS2);

    uname(uts);
    *offer = (KVMRootOffer) {
        .capability = capability > 0 ? capability : 0,
        .slot_zap = quirks > 0 && (quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL),
        .slots = s->nr_slots_max,
        .confidential = current_machine->cgs,
        .kernel = uts->release,
    };
}

static int enable_retention(KVMState *s, const KVMRootEffect *effect,
                            Error **errp)
{
    uint64_t policy, flags;
    int ret;

    if (!kvm_root_policy_cap_args(effect, &policy, &flags)) {
        return 0;
    }

    ret = kvm_vm_enable_cap(s, KVM_CAP_X86_TDP_ROOT_RETENTION, 0,
                            policy, flags, 0, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "root-retention=%s,reset-elision=%s: "
                         "could not enable KVM_CAP_X86_TDP_ROOT_RETENTION",
                         KvmRootRetention_str(effect->retention),
                         effect->reset_elision ? "on" : "off");
    }
    return ret;
}

int kvm_arch_root_retention_init(KVMState *s)
{
    struct utsname uts;
    KVMRootOffer offer;
    Error *err = NULL;
    int ret;

    probe_offer(s, &offer, &uts);
    trace_kvm_root_offer(offer.capability, offer.slot_zap);

    if (!kvm_root_policy_resolve(&s->root_request, &offer, &root_effect,
                                 &err)) {
        error_report_err(err);
        return -ENOTSUP;
    }
    trace_kvm_root_effect(KvmRootRetention_str(root_effect.retention),
                          root_effect.reset_elision ? "on" : "off",
                          KvmSlotZap_str(root_effect.slot_zap));
    trace_kvm_slot_coalescing(offer.slots, offer.confidential,
                              root_effect.slot_coalescing ? "on" : "off");

    ret = enable_retention(s, &root_effect, &err);
    if (ret == 0 && root_effect.slot_zap == KVM_SLOT_ZAP_SLOT) {
        ret = slot_zap_by_slot(s, &err);
    }
    if (ret < 0) {
        error_report_err(err);
        return ret;
    }

    if (root_effect.slot_zap == KVM_SLOT_ZAP_AUTO) {
        root_machine_done.notify = root_retention_machine_done;
        qemu_add_machine_init_done_notifier(&root_machine_done);
    }
    if (root_effect.slot_coalescing) {
        coalesce_slots(s);
    }
    kvm_state_coalescing_init(s, root_effect.state_coalescing);
    return 0;
}
