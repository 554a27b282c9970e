/*
 * KVM slot coalescing: a listener's slots as its layout decides
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/memory.h"
#include "hw/pci/pci_device.h"
#include "system/accel-blocker.h"
#include "system/kvm.h"
#include "slot-coalesce.h"
#include "slot-layout.h"
#include "trace.h"

struct KVMSlotCoalescer {
    SlotLayout *layout;
    GPtrArray *removed;         /* MemoryRegions of the sections taken away */
    bool pending;
    QEMUTimer *settle;
};

static GArray *slot_cuts;       /* of hwaddr */

void kvm_slot_cut(hwaddr gpa)
{
    if (!slot_cuts) {
        slot_cuts = g_array_new(false, false, sizeof(hwaddr));
    }
    if (QEMU_IS_ALIGNED(gpa, qemu_real_host_page_size())) {
        g_array_append_val(slot_cuts, gpa);
    }
}

void kvm_coalesce_register(KVMState *s, KVMMemoryListener *kml,
                           hwaddr max_slot_size, QEMUTimerCB *settle)
{
    if (!s->slot_coalescing.enabled) {
        return;
    }

    kml->coalescer = g_new0(KVMSlotCoalescer, 1);
    kml->coalescer->layout = slot_layout_new(s->nr_slots_max, max_slot_size);
    kml->coalescer->removed = g_ptr_array_new();
    kml->coalescer->settle = timer_new_ns(QEMU_CLOCK_REALTIME, settle, kml);
    for (unsigned int i = 0; slot_cuts && i < slot_cuts->len; i++) {
        slot_layout_cut(kml->coalescer->layout,
                        g_array_index(slot_cuts, hwaddr, i));
    }
}

/* kvm_set_phys_mem() says why. */
static bool has_slot(MemoryRegion *mr)
{
    return memory_region_is_ram(mr) ||
           ((mr->readonly || mr->rom_device) && mr->romd_mode &&
            kvm_readonly_mem_allowed);
}

/*
 * A frame buffer's BAR is switched off and on many times while it is sized, and
 * firmware or a driver that draws does so with plain stores.  What other devices
 * have in their memory the guest may use with any instruction at once, and KVM
 * emulates only some on memory that traps.
 */
static bool may_wait(MemoryRegion *mr)
{
    Object *owner = object_dynamic_cast(memory_region_owner(mr),
                                        TYPE_PCI_DEVICE);

    return owner && memory_region_is_ram(mr) && !mr->readonly &&
           !memory_region_is_ram_device(mr) &&
           pci_get_word(PCI_DEVICE(owner)->config + PCI_CLASS_DEVICE) >> 8 ==
           PCI_BASE_CLASS_DISPLAY;
}

void kvm_coalesce_add(KVMMemoryListener *kml, MemoryRegionSection *section)
{
    MemoryRegion *mr = section->mr;
    SlotRange range = {
        .owner = mr,
        .readonly = (mr->readonly || memory_region_is_romd(mr)) &&
                    kvm_readonly_mem_allowed,
        .apart = section->unmergeable,
        .plain = memory_region_has_guest_memfd(mr),
        .may_wait = may_wait(mr),
    };

    memory_region_ref(mr);
    kml->coalescer->pending = true;
    range.size = kvm_align_section(section, &range.gpa);
    if (range.size && has_slot(mr)) {
        range.hva = (uintptr_t)memory_region_get_ram_ptr(mr) +
            section->offset_within_region +
            (range.gpa - section->offset_within_address_space);
        slot_layout_add(kml->coalescer->layout, &range);
    }
}

void kvm_coalesce_del(KVMMemoryListener *kml, MemoryRegionSection *section)
{
    hwaddr gpa, size = kvm_align_section(section, &gpa);

    g_ptr_array_add(kml->coalescer->removed, section->mr);
    kml->coalescer->pending = true;
    if (size) {
        slot_layout_del(kml->coalescer->layout, gpa, size);
    }
}

static void execute(KVMMemoryListener *kml, const SlotOp *op)
{
    static const char *const names[] = { "delete", "keep", "create" };
    KVMSlot *mem = kvm_numbered_slot(kml, op->slot);
    MemoryRegion *mr = (MemoryRegion *)op->range.owner;

    trace_kvm_coalesce_op(kml->as_id, names[op->type],
                          op->waiting ? " waiting" : "", op->slot,
                          op->range.gpa, op->range.size);
    if (op->waiting) {
        return;
    }
    switch (op->type) {
    case SLOT_OP_DELETE:
        kvm_delete_slot(kml, mem);
        break;
    case SLOT_OP_KEEP:
        if (kvm_slot_update_flags(kml, mem, mr) < 0) {
            abort();
        }
        break;
    case SLOT_OP_CREATE:
        kvm_create_slot(kml, mem, mr, op->range.hva -
                        (uintptr_t)memory_region_get_ram_ptr(mr),
                        op->range.gpa, op->range.size);
        break;
    }
}

bool kvm_coalesce_pending(const KVMMemoryListener *kml)
{
    return kml->coalescer->pending;
}

void kvm_coalesce_commit(KVMMemoryListener *kml)
{
    KVMSlotCoalescer *c = kml->coalescer;
    KVMSlotCoalescing *counted = &kvm_state->slot_coalescing;
    uint64_t before = stat64_get(&counted->ioctls), sent;
    SlotChange change;

    c->pending = false;
    slot_layout_commit(c->layout, qemu_clock_get_ns(QEMU_CLOCK_REALTIME),
                       &change);
    /* See kvm_region_commit(). */
    if (change.overlap) {
        accel_ioctl_inhibit_begin();
    }
    for (unsigned int i = 0; i < change.nr_ops; i++) {
        execute(kml, &change.ops[i]);
    }
    if (change.overlap) {
        accel_ioctl_inhibit_end();
    }

    sent = stat64_get(&counted->ioctls) - before;
    stat64_add(&counted->saved, (uint64_t)change.nr_plain - sent);
    trace_kvm_coalesce_commit(kml->as_id, change.nr_deletes, change.nr_creates,
                              sent, change.nr_plain, change.overlap);

    for (unsigned int i = 0; i < c->removed->len; i++) {
        memory_region_unref(g_ptr_array_index(c->removed, i));
    }
    g_ptr_array_set_size(c->removed, 0);

    if (change.nr_waiting) {
        timer_mod(c->settle, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                  SLOT_LAYOUT_SETTLE_NS);
    }
}

void kvm_coalesce_settle(KVMMemoryListener *kml)
{
    SlotChange change;

    slot_layout_settle(kml->coalescer->layout, &change);
    for (unsigned int i = 0; i < change.nr_ops; i++) {
        execute(kml, &change.ops[i]);
    }
    stat64_add(&kvm_state->slot_coalescing.saved,
               -(uint64_t)change.nr_creates);
}

KVMSlot *kvm_coalesce_lookup(KVMMemoryListener *kml, hwaddr start_addr,
                             hwaddr size, hwaddr *slot_size)
{
    SlotRange range;
    bool waiting;
    int slot = slot_layout_find(kml->coalescer->layout, start_addr, &range,
                                &waiting);

    if (slot < 0) {
        return NULL;
    }
    if (waiting) {
        /* Whoever asks wants to change its flags, or to read its log. */
        kvm_coalesce_settle(kml);
    }
    /* Slots of several sections start before this one, or go on behind it. */
    *slot_size = MIN(size, range.size - (start_addr - range.gpa));
    return &kml->slots[slot];
}

void kvm_count_slot_ioctl(KVMState *s, uint64_t memory_size)
{
    stat64_add(&s->slot_coalescing.ioctls, 1);
    if (!memory_size) {
        stat64_add(&s->slot_coalescing.deletes, 1);
    }
}

void kvm_get_slot_counters(KVMState *s, KVMSlotCounters *counters)
{
    *counters = (KVMSlotCounters) {
        .ioctls = stat64_get(&s->slot_coalescing.ioctls),
        .deletes = stat64_get(&s->slot_coalescing.deletes),
        .saved = stat64_get(&s->slot_coalescing.saved),
    };
}
