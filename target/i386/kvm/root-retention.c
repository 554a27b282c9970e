/*
 * KVM root retention on x86: the capability, and the slot zap quirk
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/utsname.h>
#include <linux/kvm.h>
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "exec/address-spaces.h"
#include "hw/boards.h"
#include "hw/i386/kvm/slot-cuts.h"
#include "hw/pci/pci_bus.h"
#include "hw/qdev-core.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/kvm-own-stats.h"
#include "system/kvm-root-retention.h"
#include "system/system.h"
#include "state-coalesce.h"
#include "trace.h"

/* All of it under the BQL */
static struct utsname root_uts;
static KVMRootOffer root_offer = { .kernel = root_uts.release };
static KVMRootEffect root_resolved;     /* slot_zap may be auto */
static KVMRootEffect root_effect;       /* slot_zap as decided by the devices */
static uint64_t root_cap_calls;         /* how often KVM was told something */
static Notifier root_machine_done;
static Notifier slot_coalescing_machine_done;

static const char *on_off(bool on)
{
    return on ? "on" : "off";
}

static void probe_offer(KVMState *s)
{
    int capability = kvm_vm_check_extension(s, KVM_CAP_X86_TDP_ROOT_RETENTION);
    int quirks = kvm_vm_check_extension(s, KVM_CAP_DISABLE_QUIRKS2);

    uname(&root_uts);
    root_offer.capability = capability > 0 ? capability : 0;
    root_offer.slot_quirk =
        quirks > 0 && (quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL);
    root_offer.slots = s->nr_slots_max;
    root_offer.confidential = current_machine->cgs;
    trace_kvm_root_offer(root_offer.capability, root_offer.slot_quirk);
}

/* The capability's part; nothing has changed if it fails */
static int enable_cap(KVMState *s, const KVMRootEffect *effect, Error **errp)
{
    uint64_t args[3];
    int ret;

    if (!kvm_root_policy_cap_args(effect, args) && !root_cap_calls) {
        /* Leave a kernel alone that is to do what it does by itself. */
        return 0;
    }

    root_cap_calls++;
    ret = kvm_vm_enable_cap(s, KVM_CAP_X86_TDP_ROOT_RETENTION, 0,
                            args[0], args[1], args[2], 0);
    trace_kvm_root_enable_cap(args[0], args[1], args[2], ret);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "root-retention=%s,reset-elision=%s,"
                         "slot-zap=%s: could not enable "
                         "KVM_CAP_X86_TDP_ROOT_RETENTION",
                         KvmRootRetention_str(effect->retention),
                         on_off(effect->reset_elision),
                         KvmSlotZap_str(effect->slot_zap));
        return ret;
    }
    return 0;
}

/* ... and the quirk's, which is for good */
static int disable_quirk(KVMState *s, Error **errp)
{
    int ret = kvm_vm_enable_cap(s, KVM_CAP_DISABLE_QUIRKS2, 0,
                                KVM_X86_QUIRK_SLOT_ZAP_ALL);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "slot-zap=slot: could not disable "
                         "KVM_X86_QUIRK_SLOT_ZAP_ALL");
        return ret;
    }
    root_offer.slot_quirk_disabled = true;
    return 0;
}

/* How many pages the roots may hold that no vCPU uses */
static uint64_t root_limit(const KVMRootEffect *effect)
{
    switch (effect->retention) {
    case KVM_ROOT_RETENTION_DROP:
        return 0;
    case KVM_ROOT_RETENTION_QUOTA:
        return effect->quota_pages;
    default:
        return UINT64_MAX;
    }
}

/*
 * Put @effect, with slot_zap decided, into effect.  All or nothing; returns
 * negative errno on failure.
 */
static int apply_effect(KVMState *s, const KVMRootEffect *effect, Error **errp)
{
    int ret;

    /* A smaller limit evicts from when KVM is told, and KVM doesn't wait. */
    if (root_limit(effect) < root_limit(&root_effect)) {
        kvm_root_quota_watch(effect->quota_pages);
    }

    ret = enable_cap(s, effect, errp);
    if (ret == 0 && effect->slot_zap == KVM_SLOT_ZAP_SLOT &&
        !effect->slot_flag && !root_offer.slot_quirk_disabled) {
        ret = disable_quirk(s, errp);
        if (ret < 0) {
            enable_cap(s, &root_effect, NULL);
        }
    }
    if (ret == 0) {
        root_effect = *effect;
    }

    kvm_root_quota_watch(root_effect.quota_pages);
    return ret;
}

/* slot-zap=auto follows the VM's devices */

#define TYPE_VFIO "vfio-pci"

static int find_vfio(Object *obj, void *opaque)
{
    return !!object_dynamic_cast(obj, TYPE_VFIO);
}

static int find_pluggable_pci(Object *obj, void *opaque)
{
    return object_dynamic_cast(obj, TYPE_PCI_BUS) &&
           qbus_is_hotpluggable(BUS(obj));
}

/* @vfio_coming: a VFIO device is about to be created */
static KvmSlotZap decide_slot_zap(const KVMRootEffect *effect,
                                  bool vfio_coming)
{
    Object *root = object_get_root();
    bool present, pluggable;
    KvmSlotZap slot_zap;

    if (effect->slot_zap != KVM_SLOT_ZAP_AUTO) {
        return effect->slot_zap;
    }

    present = vfio_coming ||
        object_child_foreach_recursive(root, find_vfio, NULL);
    pluggable = object_child_foreach_recursive(root, find_pluggable_pci, NULL);
    slot_zap = kvm_root_policy_slot_zap(effect, present, pluggable);
    trace_kvm_root_slot_zap_auto(present, pluggable, effect->slot_flag,
                                 KvmSlotZap_str(slot_zap));
    return slot_zap;
}

/* Returns false, with nothing changed, if KVM refuses */
static bool update_slot_zap(bool vfio_coming, Error **errp)
{
    KVMRootEffect effect = root_resolved;

    effect.slot_zap = decide_slot_zap(&root_resolved, vfio_coming);
    return effect.slot_zap == root_effect.slot_zap ||
           apply_effect(kvm_state, &effect, errp) == 0;
}

static void devices_changed_bh(void *opaque)
{
    Error *err = NULL;

    if (!update_slot_zap(false, &err)) {
        /* Zapping more than need be. */
        warn_report_err(err);
    }
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

/*
 * A VFIO device is about to be created: it must not find slot-zap=slot.  That
 * is before the guest's memory is mapped for its DMA, which its realization
 * does.  Whether it was created, and how long it stays, shows later.
 */
static bool vfio_device_add(DeviceListener *listener, const QDict *opts,
                            bool from_json, Error **errp)
{
    const char *driver = qdict_get_try_str(opts, "driver");
    ObjectClass *oc = driver ? object_class_by_name(driver) : NULL;

    if (oc && object_class_dynamic_cast(oc, TYPE_VFIO)) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), devices_changed_bh,
                                NULL);
        update_slot_zap(true, errp);
    }
    return false;               /* the device is not to be hidden */
}

static void vfio_device_unrealize(DeviceListener *listener, DeviceState *dev)
{
    if (find_vfio(OBJECT(dev), NULL)) {
        /* It is there until it is unparented. */
        aio_bh_schedule_oneshot(qemu_get_aio_context(), devices_changed_bh,
                                NULL);
    }
}

static DeviceListener root_device_listener = {
    .hide_device = vfio_device_add,
    .unrealize = vfio_device_unrealize,
};

/*
 * Decide slot-zap=auto.  All devices that are not hot-plugged exist now, and
 * the guest has not run, so that the deletions so far had nothing to zap.
 */
static void root_retention_machine_done(Notifier *n, void *unused)
{
    Error *err = NULL;

    if (!kvm_enabled()) {
        /* KVM failed after all, and QEMU fell back to another accelerator. */
        return;
    }

    if (!update_slot_zap(false, &err)) {
        /* auto takes what it gets; the VM is as it was without it. */
        warn_report_err(err);
    }
    if (kvm_root_offers_flag(&root_offer, KVM_X86_TDP_ROOT_SLOT)) {
        device_listener_register(&root_device_listener);
    }
}

static uint64_t get_root_cap_calls(CPUState *cpu)
{
    return root_cap_calls;
}

static const KVMOwnStat root_own_stats[] = {
    { "qemu_root_cap_calls", STATS_TARGET_VM, STATS_TYPE_CUMULATIVE,
      get_root_cap_calls },
};

static void trace_effect(void)
{
    trace_kvm_root_effect(KvmRootRetention_str(root_resolved.retention),
                          root_resolved.quota_pages,
                          on_off(root_resolved.reset_elision),
                          KvmSlotZap_str(root_resolved.slot_zap));
}

int kvm_arch_root_retention_init(KVMState *s)
{
    KVMRootEffect effect;
    Error *err = NULL;
    int ret;

    kvm_own_stats_register(root_own_stats, ARRAY_SIZE(root_own_stats));
    probe_offer(s);
    if (!kvm_root_policy_resolve(&s->root_request, &root_offer, &root_resolved,
                                 &err)) {
        error_report_err(err);
        return -ENOTSUP;
    }
    trace_effect();
    trace_kvm_slot_coalescing(root_offer.slots, root_offer.confidential,
                              on_off(root_resolved.slot_coalescing));

    effect = root_resolved;
    if (effect.slot_zap == KVM_SLOT_ZAP_AUTO) {
        effect.slot_zap = KVM_SLOT_ZAP_ALL;
    }
    ret = apply_effect(s, &effect, &err);
    if (ret < 0) {
        error_report_err(err);
        return ret;
    }

    root_machine_done.notify = root_retention_machine_done;
    qemu_add_machine_init_done_notifier(&root_machine_done);
    if (root_resolved.slot_coalescing) {
        coalesce_slots(s);
    }
    kvm_state_coalescing_init(s, root_effect.state_coalescing);
    return 0;
}

bool kvm_arch_root_retention_get(KVMRootState *state, Error **errp)
{
    if (!kvm_enabled()) {
        error_setg(errp, "KVM root retention needs the accelerator KVM");
        return false;
    }

    *state = (KVMRootState) {
        .request = &kvm_state->root_request,
        .effect = &root_effect,
        .offer = &root_offer,
    };
    return true;
}

bool kvm_arch_root_retention_set(const KvmRootRetentionChange *change,
                                 Error **errp)
{
    KVMRootEffect resolved, effect;
    KVMRootRequest request;
    KVMRootState state;

    if (!kvm_arch_root_retention_get(&state, errp) ||
        !kvm_root_policy_change(state.request, change, &request, errp) ||
        !kvm_root_policy_resolve(&request, state.offer, &resolved, errp)) {
        return false;
    }

    effect = resolved;
    effect.slot_zap = decide_slot_zap(&resolved, false);
    if (apply_effect(kvm_state, &effect, errp) < 0) {
        return false;
    }

    kvm_state->root_request = request;
    root_resolved = resolved;
    trace_effect();
    return true;
}
