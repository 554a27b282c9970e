/*
 * KVM root retention: the accelerator's properties
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/kvm-root-retention.h"

typedef struct KVMRootProperty {
    const char *name;
    const char *type;
    const QEnumLookup *lookup;
    size_t offset;              /* into KVMState, of an enum */
    const char *description;
} KVMRootProperty;

QEMU_BUILD_BUG_ON(sizeof(KvmRootRetention) != sizeof(int));
QEMU_BUILD_BUG_ON(sizeof(OnOffAuto) != sizeof(int));
QEMU_BUILD_BUG_ON(sizeof(KvmSlotZap) != sizeof(int));

static const KVMRootProperty root_properties[] = {
    {
        .name = "root-retention",
        .type = "KvmRootRetention",
        .lookup = &KvmRootRetention_lookup,
        .offset = offsetof(KVMState, root_request.retention),
        .description = "What KVM does with page tables that no vCPU uses",
    }, {
        .name = "reset-elision",
        .type = "OnOffAuto",
        .lookup = &OnOffAuto_lookup,
        .offset = offsetof(KVMState, root_request.reset_elision),
        .description = "Keep page tables loaded across resets of KVM's MMU "
                       "that don't change them",
    }, {
        .name = "slot-zap",
        .type = "KvmSlotZap",
        .lookup = &KvmSlotZap_lookup,
        .offset = offsetof(KVMState, root_request.slot_zap),
        .description = "Which page tables KVM zaps when a slot is deleted",
    }, {
        .name = "slot-coalescing",
        .type = "OnOffAuto",
        .lookup = &OnOffAuto_lookup,
        .offset = offsetof(KVMState, root_request.slot_coalescing),
        .description = "Leave memory slots alone that a change of the memory "
                       "map does not change",
    }, {
        .name = "state-coalescing",
        .type = "OnOffAuto",
        .lookup = &OnOffAuto_lookup,
        .offset = offsetof(KVMState, root_request.state_coalescing),
        .description = "Do not write vCPU state to KVM that it holds already",
    },
};

static void root_property_get(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    const KVMRootProperty *prop = opaque;
    int value = *(int *)((char *)KVM_STATE(obj) + prop->offset);

    visit_type_enum(v, name, &value, prop->lookup, errp);
}

static bool root_may_set(KVMState *s, const char *name, Error **errp)
{
    if (s->fd != -1) {
        error_setg(errp, "Cannot set property '%s' after the accelerator has "
                   "been initialized", name);
        return false;
    }
    return true;
}

static void root_property_set(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    ERRP_GUARD();
    const KVMRootProperty *prop = opaque;
    KVMState *s = KVM_STATE(obj);
    int value;

    if (!root_may_set(s, name, errp)) {
        return;
    }

    if (!visit_type_enum(v, name, &value, prop->lookup, errp)) {
        error_append_hint(errp, "Accepted values:");
        for (int i = 0; i < prop->lookup->size; i++) {
            error_append_hint(errp, " %s", qapi_enum_lookup(prop->lookup, i));
        }
        error_append_hint(errp, "\n");
        return;
    }

    *(int *)((char *)s + prop->offset) = value;
}

static void root_quota_get(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    uint64_t value = KVM_STATE(obj)->root_request.quota;

    visit_type_size(v, name, &value, errp);
}

static void root_quota_set(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    KVMState *s = KVM_STATE(obj);
    uint64_t value;

    if (!root_may_set(s, name, errp) ||
        !visit_type_size(v, name, &value, errp) ||
        !kvm_root_quota_valid(value, errp)) {
        return;
    }
    s->root_request.quota = value;
}

static bool state_verify_get(Object *obj, Error **errp)
{
    return KVM_STATE(obj)->state_coalescing.verify;
}

static void state_verify_set(Object *obj, bool value, Error **errp)
{
    KVMState *s = KVM_STATE(obj);

    if (root_may_set(s, "x-state-verify", errp)) {
        s->state_coalescing.verify = value;
    }
}

void kvm_root_retention_class_init(ObjectClass *oc)
{
    for (int i = 0; i < ARRAY_SIZE(root_properties); i++) {
        const KVMRootProperty *prop = &root_properties[i];

        object_class_property_add(oc, prop->name, prop->type,
                                  root_property_get, root_property_set,
                                  NULL, (void *)prop);
        object_class_property_set_description(oc, prop->name,
                                              prop->description);
    }

    object_class_property_add(oc, "root-quota", "size",
                              root_quota_get, root_quota_set, NULL, NULL);
    object_class_property_set_description(oc, "root-quota",
        "What the page tables that no vCPU uses may hold with "
        "root-retention=quota, in bytes");
    object_class_property_add_bool(oc, "x-state-verify", state_verify_get,
                                   state_verify_set);
    object_class_property_set_description(oc, "x-state-verify",
        "Abort if KVM does not hold what state-coalescing did not write");
}
