/*
 * KVM root retention on x86: the properties, and what KVM is told
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/utsname.h>
#include <linux/kvm.h>
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "tdp-root-retention.h"
#include "trace.h"

static KVMRootRetention *root_retention(KVMState *s)
{
    if (!s->root_retention) {
        s->root_retention = g_new0(KVMRootRetention, 1);
    }
    return s->root_retention;
}

/* What was asked for, for a setter; NULL, with @errp set, if it is too late */
static KVMRootRequest *request_to_set(Object *obj, Error **errp)
{
    KVMState *s = KVM_STATE(obj);

    if (s->fd != -1) {
        error_setg(errp, "Cannot set properties after the accelerator has been "
                   "initialized");
        return NULL;
    }
    return &root_retention(s)->request;
}

static int get_root_retention(Object *obj, Error **errp)
{
    return root_retention(KVM_STATE(obj))->request.retention;
}

static void set_root_retention(Object *obj, int value, Error **errp)
{
    KVMRootRequest *request = request_to_set(obj, errp);

    if (request) {
        request->retention = value;
    }
}

static void get_root_quota(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    visit_type_size(v, name, &root_retention(KVM_STATE(obj))->request.quota,
                    errp);
}

static void set_root_quota(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    KVMRootRequest *request = request_to_set(obj, errp);
    uint64_t value;

    if (request && visit_type_size(v, name, &value, errp) &&
        kvm_root_quota_valid(value, errp)) {
        request->quota = value;
    }
}

static int get_slot_zap(Object *obj, Error **errp)
{
    return root_retention(KVM_STATE(obj))->request.slot_zap;
}

static void set_slot_zap(Object *obj, int value, Error **errp)
{
    KVMRootRequest *request = request_to_set(obj, errp);

    if (request) {
        request->slot_zap = value;
    }
}

static int get_reset_elision(Object *obj, Error **errp)
{
    return root_retention(KVM_STATE(obj))->request.reset_elision;
}

static void set_reset_elision(Object *obj, int value, Error **errp)
{
    KVMRootRequest *request = request_to_set(obj, errp);

    if (request) {
        request->reset_elision = value;
    }
}

void kvm_root_retention_class_init(ObjectClass *oc)
{
    object_class_property_add_enum(oc, "root-retention", "KvmRootRetention",
                                   &KvmRootRetention_lookup,
                                   get_root_retention, set_root_retention);
    object_class_property_set_description(oc, "root-retention",
        "What KVM does with page tables that no vCPU uses");

    object_class_property_add(oc, "root-quota", "size", get_root_quota,
                              set_root_quota, NULL, NULL);
    object_class_property_set_description(oc, "root-quota",
        "What the page tables that no vCPU uses may hold with "
        "root-retention=quota, in bytes");

    object_class_property_add_enum(oc, "slot-zap", "KvmSlotZap",
                                   &KvmSlotZap_lookup,
                                   get_slot_zap, set_slot_zap);
    object_class_property_set_description(oc, "slot-zap",
        "Which page tables KVM zaps when a memory slot is deleted");

    object_class_property_add_enum(oc, "x-reset-elision", "OnOffAuto",
                                   &OnOffAuto_lookup,
                                   get_reset_elision, set_reset_elision);
    object_class_property_set_description(oc, "x-reset-elision",
        "Keep page tables loaded across resets of KVM's MMU that don't change "
        "them");
}

/*
 * KVM is told by one ioctl, which does all or nothing: the quirk is used only
 * where there is no capability.
 */
static bool tell_kvm(KVMRootRetention *r, const KVMRootEffect *effect,
                     Error **errp)
{
    bool slot = effect->slot_zap == KVM_SLOT_ZAP_SCOPE_SLOT;
    uint64_t args[3];
    int ret;

    if (!r->offer.capability) {
        if (!slot || r->offer.slot_quirk_disabled) {
            return true;
        }
        ret = kvm_vm_enable_cap(kvm_state, KVM_CAP_DISABLE_QUIRKS2, 0,
                                KVM_X86_QUIRK_SLOT_ZAP_ALL);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "slot-zap=slot: could not disable "
                             "KVM_X86_QUIRK_SLOT_ZAP_ALL");
        }
        r->offer.slot_quirk_disabled = ret == 0;
        return ret == 0;
    }

    if (!kvm_root_cap_args(effect, args) && !r->told) {
        /* Leave a kernel alone that is to do what it does by itself. */
        return true;
    }
    ret = kvm_vm_enable_cap(kvm_state, KVM_CAP_X86_TDP_ROOT_RETENTION, 0,
                            args[0], args[1], args[2], 0);
    trace_kvm_root_enable_cap(args[0], args[1], args[2], ret);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "could not enable "
                         "KVM_CAP_X86_TDP_ROOT_RETENTION with policy %s, "
                         "slot-zap=%s, x-reset-elision=%s",
                         KvmRootPolicy_str(effect->policy),
                         KvmSlotZapScope_str(effect->slot_zap),
                         effect->reset_elision ? "on" : "off");
        return false;
    }
    r->told = true;
    return true;
}

bool kvm_root_retention_set(const KVMRootRequest *request, Error **errp)
{
    KVMRootRetention *r = root_retention(kvm_state);
    KVMRootEffect effect;

    if (!kvm_root_decide(request, &r->offer, r->vfio, &effect, errp) ||
        !tell_kvm(r, &effect, errp)) {
        return false;
    }

    r->request = *request;
    r->effect = effect;
    trace_kvm_root_effect(KvmRootPolicy_str(effect.policy), effect.quota_pages,
                          KvmSlotZapScope_str(effect.slot_zap),
                          effect.reset_elision);
    return true;
}

/*
 * KVM's VFIO device is about to be created, before any of the guest's memory
 * is mapped for DMA.  slot-zap=auto is "all" from now on.
 */
static int vfio_added(NotifierWithReturn *n, void *unused, Error **errp)
{
    KVMRootRetention *r = container_of(n, KVMRootRetention, vfio_added);

    r->vfio = true;
    if (r->request.slot_zap != KVM_SLOT_ZAP_AUTO ||
        r->effect.slot_zap == KVM_SLOT_ZAP_SCOPE_ALL) {
        return 0;
    }
    return kvm_root_retention_set(&r->request, errp) ? 0 : -ENOTSUP;
}

int kvm_root_retention_init(KVMState *s)
{
    static struct utsname uts;
    int capability = kvm_vm_check_extension(s, KVM_CAP_X86_TDP_ROOT_RETENTION);
    int quirks = kvm_vm_check_extension(s, KVM_CAP_DISABLE_QUIRKS2);
    KVMRootRetention *r = root_retention(s);
    Error *err = NULL;

    uname(&uts);
    r->offer.kernel = uts.release;
    r->offer.capability = MAX(capability, 0);
    r->offer.slot_quirk = quirks > 0 && (quirks & KVM_X86_QUIRK_SLOT_ZAP_ALL);
    trace_kvm_root_offer(r->offer.capability, r->offer.slot_quirk);
    if (!kvm_root_retention_set(&r->request, &err)) {
        error_report_err(err);
        return -ENOTSUP;
    }

    r->vfio_added.notify = vfio_added;
    kvm_vfio_add_notifier(&r->vfio_added);
    return 0;
}

const KVMRootRetention *kvm_root_retention_get(Error **errp)
{
    if (!kvm_enabled()) {
        error_setg(errp, "KVM root retention needs the accelerator KVM");
        return NULL;
    }
    if (!kvm_state) {
        /* VFIO's live update closes KVM once another QEMU has the VM.  */
        error_setg(errp, "The VM was handed over to another QEMU");
        return NULL;
    }
    return root_retention(kvm_state);
}
