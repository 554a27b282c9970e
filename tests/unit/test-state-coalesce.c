/*
 * KVM state coalescing: what is not sent, against a vCPU that has the side
 * effects that KVM's has
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "target/i386/kvm/state-known.h"

#define XSAVE_SIZE      sizeof(struct kvm_xsave)
#define NR_CALLS        256     /* by the number of an ioctl */
#define CALL(type)      _IOC_NR(type)
#define CR0_PG          (1u << 31)
#define CR4_PAE         (1u << 5)
#define EFER_SVME       (1u << 12)
#define APIC_ENABLE     (1u << 11)
#define RESET_RIP       0xfff0

enum {
    TSC = 0x10, WALL_CLOCK = 0x11, SYSTEM_TIME = 0x12, APIC_BASE = 0x1b,
    FEATURES = 0x3a, SYSENTER_CS = 0x174, XFD = 0x1c4, FIXED_CTR0 = 0x309,
    FIXED_CTR_CTRL = 0x38d, DEADLINE = 0x6e0, XSS = 0xda0,
    HV_ASSIST_PAGE = 0x40000073, STEAL_TIME = 0x4b564d03, STAR = 0xc0000081,
};

static const uint32_t listed_msrs[] = {
    SYSENTER_CS, XFD, XSS, STAR, STEAL_TIME, SYSTEM_TIME, WALL_CLOCK,
    HV_ASSIST_PAGE, FIXED_CTR_CTRL, FIXED_CTR0, FEATURES, DEADLINE, TSC,
};

/* ---- the model ------------------------------------------------------- */

typedef struct Model {
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;            /* but for CR8, which is the TPR */
    uint8_t xsave[XSAVE_SIZE];
    uint64_t xcr0;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;      /* without flags */
    uint32_t mp_state;
    uint64_t nested_flags;
    struct kvm_lapic_state lapic;
    uint64_t msrs[ARRAY_SIZE(listed_msrs)];
    bool init, sipi;
    uint64_t vapic_addr;
    uint32_t tpr_reports;
    uint32_t guest_debug;
} Model;

typedef struct Vcpu {
    Model m;                            /* all that a guest could notice */
    bool bsp;
    GRand *rand;                        /* drawn from by running alone */
    unsigned int calls[NR_CALLS];
    unsigned int mmu_resets;
    unsigned int msrs_written;
    uint32_t bad_msr;                   /* KVM refuses it */
    KVMStateKnown *known;               /* NULL: all is sent */
    unsigned int mismatches;
    char *mismatch;
} Vcpu;

static uint64_t *msr(Vcpu *v, uint32_t index)
{
    for (int i = 0; i < ARRAY_SIZE(listed_msrs); i++) {
        if (listed_msrs[i] == index) {
            return &v->m.msrs[i];
        }
    }
    g_assert_cmphex(index, ==, APIC_BASE);
    return (uint64_t *)&v->m.sregs.apic_base;
}

static bool deadline_mode(Vcpu *v)
{
    return ((uint8_t)v->m.lapic.regs[0x322] >> 1 & 3) == 2;
}

static void leave_nested(Vcpu *v)
{
    if (v->m.nested_flags & KVM_STATE_NESTED_GUEST_MODE) {
        v->m.nested_flags &= ~KVM_STATE_NESTED_GUEST_MODE;
        v->m.sregs.cr3 = 0x1000;
        v->m.regs.rip = 0x2000;
    }
}

static void reset_lapic(Vcpu *v)
{
    memset(&v->m.lapic, 0, sizeof(v->m.lapic));
    *msr(v, DEADLINE) = 0;
}

static void set_apic_base(Vcpu *v, uint64_t value)
{
    if ((v->m.sregs.apic_base & ~value) & APIC_ENABLE) {
        reset_lapic(v);
    }
    v->m.sregs.apic_base = value;
}

static void init_state(Vcpu *v)
{
    memset(&v->m.regs, 0, sizeof(v->m.regs));
    v->m.regs.rip = RESET_RIP;
    v->m.sregs.cr0 = 0x60000010;
    v->m.sregs.cr3 = v->m.sregs.cr4 = v->m.sregs.efer = 0;
    v->m.sregs.cs.selector = 0xf000;
    memset(&v->m.events, 0, sizeof(v->m.events));
    leave_nested(v);
    v->m.nested_flags = KVM_STATE_NESTED_GIF_SET;
    *msr(v, XFD) = 0;
    reset_lapic(v);
}

static void accept_events(Vcpu *v)
{
    if (v->m.init) {
        v->m.init = false;
        init_state(v);
        v->m.mp_state = v->bsp ? KVM_MP_STATE_RUNNABLE :
                                 KVM_MP_STATE_INIT_RECEIVED;
    }
    if (v->m.sipi) {
        v->m.sipi = false;
        if (v->m.mp_state == KVM_MP_STATE_INIT_RECEIVED) {
            v->m.sregs.cs.selector = 0x9000;
            v->m.regs.rip = 0;
            v->m.mp_state = KVM_MP_STATE_RUNNABLE;
        }
    }
}

static void outside_event(Vcpu *v, unsigned int which)
{
    switch (which % 7) {
    case 0:
        v->m.init = true;
        break;
    case 1:
        /* To another it does nothing, and is dropped sooner or later. */
        v->m.sipi |= v->m.init ||
                     v->m.mp_state == KVM_MP_STATE_INIT_RECEIVED;
        break;
    case 2:
        v->m.events.nmi.pending = 1;
        break;
    case 3:
        v->m.events.smi.pending = 1;
        break;
    case 4:
        /* An interrupt, which is accepted only if the APIC is on */
        if (v->m.lapic.regs[0xf1] & 1) {
            v->m.lapic.regs[0x200] |= 4;
        }
        break;
    case 5:
        /* Another vCPU writes what is the VM's. */
        (*msr(v, WALL_CLOCK))++;
        break;
    case 6:
        /* Another vCPU wakes it. */
        if (v->m.mp_state == KVM_MP_STATE_HALTED) {
            v->m.mp_state = KVM_MP_STATE_RUNNABLE;
        }
        break;
    }
}

static void run_guest(Vcpu *v)
{
    uint32_t r = g_rand_int(v->rand);
    uint8_t byte = g_rand_int(v->rand);

    if (v->m.mp_state == KVM_MP_STATE_UNINITIALIZED) {
        /* Saved after it was loaded, XSTATE_BV may be another. */
        v->m.xsave[512] = byte & 3;
        accept_events(v);
        return;
    }
    accept_events(v);
    v->m.events.smi.pending = v->m.events.nmi.pending = 0;
    v->m.events.exception.pending = v->m.events.exception.injected = 0;
    /* It does some of all that a guest can, often the same as before. */
    for (int i = 0; i < 3; i++, r >>= 5) {
        switch (r % 24) {
        case 0:
            v->m.regs.rax = byte;
            break;
        case 1:
            v->m.regs.rip += 2;
            break;
        case 2:
            v->m.sregs.cr3 = byte << 12;
            break;
        case 3:
            v->m.sregs.cr0 ^= CR0_PG;
            v->m.sregs.cr4 |= CR4_PAE;
            break;
        case 4:
            v->m.xsave[(byte & 1 ? 160 : 1024) + byte % 16] = byte;
            break;
        case 5:
            v->m.xcr0 = 1 | (byte & 6);
            break;
        case 6:
            v->m.debugregs.dr7 = 0x400 | byte;
            break;
        case 7:
            v->m.lapic.regs[0x80] = byte & 0xf0;
            break;
        case 8:
            v->m.lapic.regs[0x322] = byte & 6;
            *msr(v, DEADLINE) = deadline_mode(v) ? byte : 0;
            break;
        case 9:
            *msr(v, STAR) = byte;
            break;
        case 10:
            *msr(v, STEAL_TIME) = byte & 1;
            break;
        case 11:
            *msr(v, FIXED_CTR0) += byte;
            break;
        case 12:
            v->m.regs.rip++;
            v->m.mp_state = KVM_MP_STATE_HALTED;
            break;
        case 13:
            v->m.mp_state = KVM_MP_STATE_RUNNABLE;
            break;
        case 14:
            v->m.events.exception.pending = 1;
            break;
        case 15:
            v->m.events.nmi.masked ^= 1;
            break;
        case 16:
            v->m.events.smi.smm ^= 1;
            break;
        case 17:
            v->m.sregs.efer |= EFER_SVME;
            v->m.nested_flags = KVM_STATE_NESTED_GUEST_MODE;
            break;
        case 18:
            v->m.sregs.efer |= EFER_SVME;
            v->m.nested_flags ^= KVM_STATE_NESTED_GIF_SET;
            break;
        case 19:
            set_apic_base(v, v->m.sregs.apic_base ^ APIC_ENABLE);
            break;
        case 20:
            *msr(v, FEATURES) = byte & 1;
            break;
        case 22:
            v->m.lapic.regs[0xf1] = byte & 1;
            break;
        case 21:
            *msr(v, HV_ASSIST_PAGE) = byte;
            break;
        default:
            break;
        }
    }
}

static int get_events(Vcpu *v, struct kvm_vcpu_events *e)
{
    *e = v->m.events;
    e->smi.latched_init = v->m.init;
    e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
               KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD;
    return 0;
}

static int set_events(Vcpu *v, const struct kvm_vcpu_events *e)
{
    v->m.events.exception = e->exception;
    v->m.events.interrupt.injected = e->interrupt.injected;
    v->m.events.nmi.injected = e->nmi.injected;
    v->m.events.nmi.masked = e->nmi.masked;
    if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
        v->m.events.nmi.pending = e->nmi.pending;
    }
    if (e->flags & KVM_VCPUEVENT_VALID_SMM) {
        if (v->m.events.smi.smm != e->smi.smm) {
            leave_nested(v);
        }
        v->m.events.smi.smm = e->smi.smm;
        v->m.events.smi.pending = e->smi.pending;
        v->m.init = e->smi.latched_init;
    }
    return 0;
}

static void set_sregs(Vcpu *v, const struct kvm_sregs2 *s)
{
    uint64_t base = v->m.sregs.apic_base;
    bool pae = (s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE);

    v->mmu_resets += pae || s->cr3 != v->m.sregs.cr3;
    if (v->m.sregs.efer & ~s->efer & EFER_SVME) {
        leave_nested(v);
        v->m.nested_flags |= KVM_STATE_NESTED_GIF_SET;
    }
    v->m.sregs = *s;
    v->m.sregs.apic_base = base;
    set_apic_base(v, s->apic_base);
    v->m.lapic.regs[0x80] = s->cr8 << 4;
    v->m.sregs.cr8 = 0;
    if (v->bsp && v->m.regs.rip == RESET_RIP && s->cs.selector == 0xf000) {
        v->m.mp_state = KVM_MP_STATE_RUNNABLE;
    }
}

static bool set_msr(Vcpu *v, const struct kvm_msr_entry *e)
{
    if (e->index == v->bad_msr) {
        return false;
    }
    v->msrs_written++;
    switch (e->index) {
    case APIC_BASE:
        set_apic_base(v, e->data);
        break;
    case DEADLINE:
        if (deadline_mode(v)) {
            *msr(v, DEADLINE) = e->data;
        }
        break;
    case XFD:
        if (e->data && !*msr(v, XFD)) {
            memset(v->m.xsave + 1024, 0, 64);
        }
        *msr(v, XFD) = e->data;
        break;
    case FEATURES:
        *msr(v, FEATURES) = e->data;
        if (!e->data) {
            leave_nested(v);
        }
        break;
    case HV_ASSIST_PAGE:
        *msr(v, HV_ASSIST_PAGE) = e->data;
        /* Not listed: it might do anything. */
        v->m.regs.r15 = e->data;
        break;
    default:
        *msr(v, e->index) = e->data;
        break;
    }
    return true;
}

static int model_ioctl(void *opaque, unsigned long type, void *arg)
{
    Vcpu *v = opaque;
    unsigned int i;

    v->calls[CALL(type)]++;
    switch (type) {
    case KVM_RUN:
        run_guest(v);
        return -EINTR;
    case KVM_GET_REGS:
        *(struct kvm_regs *)arg = v->m.regs;
        break;
    case KVM_SET_REGS:
        v->m.regs = *(struct kvm_regs *)arg;
        v->m.events.exception.pending = 0;
        break;
    case KVM_GET_SREGS2: {
        struct kvm_sregs2 *s = arg;

        *s = v->m.sregs;
        s->cr8 = (uint8_t)v->m.lapic.regs[0x80] >> 4;
        break;
    }
    case KVM_SET_SREGS2:
        set_sregs(v, arg);
        break;
    case KVM_GET_XSAVE:
        memcpy(arg, v->m.xsave, XSAVE_SIZE);
        memset(arg + 464, 0x46, 48);
        break;
    case KVM_SET_XSAVE:
        memcpy(v->m.xsave, arg, XSAVE_SIZE);
        break;
    case KVM_GET_XCRS:
        *(struct kvm_xcrs *)arg = (struct kvm_xcrs) {
            .nr_xcrs = 1, .xcrs[0].value = v->m.xcr0,
        };
        break;
    case KVM_SET_XCRS:
        v->m.xcr0 = ((struct kvm_xcrs *)arg)->xcrs[0].value;
        break;
    case KVM_GET_DEBUGREGS:
        *(struct kvm_debugregs *)arg = v->m.debugregs;
        break;
    case KVM_SET_DEBUGREGS:
        v->m.debugregs = *(struct kvm_debugregs *)arg;
        /* as dr6_fixed() */
        v->m.debugregs.dr6 |= 0xff0;
        break;
    case KVM_GET_VCPU_EVENTS:
        return get_events(v, arg);
    case KVM_SET_VCPU_EVENTS:
        return set_events(v, arg);
    case KVM_GET_MP_STATE:
        accept_events(v);
        ((struct kvm_mp_state *)arg)->mp_state = v->m.mp_state;
        break;
    case KVM_SET_MP_STATE:
        v->m.mp_state = ((struct kvm_mp_state *)arg)->mp_state;
        break;
    case KVM_GET_NESTED_STATE: {
        struct kvm_nested_state *n = arg;

        memset(n, 0, sizeof(*n));
        n->size = sizeof(*n);
        n->format = KVM_STATE_NESTED_FORMAT_SVM;
        n->flags = v->m.nested_flags;
        break;
    }
    case KVM_SET_NESTED_STATE: {
        const struct kvm_nested_state *n = arg;

        if (!(n->flags & KVM_STATE_NESTED_GUEST_MODE)) {
            leave_nested(v);
        }
        v->m.nested_flags = n->flags;
        break;
    }
    case KVM_GET_LAPIC:
        *(struct kvm_lapic_state *)arg = v->m.lapic;
        break;
    case KVM_SET_LAPIC:
        v->m.lapic = *(struct kvm_lapic_state *)arg;
        if (!deadline_mode(v)) {
            *msr(v, DEADLINE) = 0;
        }
        break;
    case KVM_GET_MSRS: {
        struct kvm_msrs *list = arg;

        for (i = 0; i < list->nmsrs; i++) {
            if (list->entries[i].index == v->bad_msr) {
                break;
            }
            list->entries[i].data = *msr(v, list->entries[i].index);
        }
        return i;
    }
    case KVM_SET_MSRS: {
        struct kvm_msrs *list = arg;

        for (i = 0; i < list->nmsrs && set_msr(v, &list->entries[i]); i++) {
            /* nothing */
        }
        return i;
    }
    case KVM_SET_VAPIC_ADDR:
        v->m.vapic_addr = ((struct kvm_vapic_addr *)arg)->vapic_addr;
        break;
    case KVM_TPR_ACCESS_REPORTING:
        v->m.tpr_reports = ((struct kvm_tpr_access_ctl *)arg)->enabled;
        break;
    case KVM_SET_GUEST_DEBUG:
        /* as if it left something in each kind of state */
        v->m.guest_debug++;
        v->m.regs.rflags ^= 0x100;
        v->m.debugregs.dr6 ^= 0x4000;
        v->m.sregs.cr4 ^= 8;
        v->m.events.exception.pending = 1;
        v->m.xsave[200]++;
        v->m.xcr0 ^= 2;
        v->m.nested_flags ^= KVM_STATE_NESTED_GIF_SET;
        (*msr(v, STAR))++;
        break;
    default:
        g_assert_not_reached();
    }
    return 0;
}

static void model_mismatch(void *opaque, const char *name, const char *field)
{
    Vcpu *v = opaque;

    v->mismatches++;
    g_free(v->mismatch);
    v->mismatch = g_strdup_printf("%s %s", name, field);
}

static const KVMStateKnownOps ops = {
    .ioctl = model_ioctl,
    .mismatch = model_mismatch,
};

static void vcpu_init(Vcpu *v, bool bsp, bool coalesce, uint32_t seed)
{
    memset(v, 0, sizeof(*v));
    v->bsp = bsp;
    v->rand = g_rand_new_with_seed(seed);
    v->m.sregs.apic_base = 0xfee00000 | APIC_ENABLE;
    v->m.debugregs.dr6 = 0xffff0ff0;
    init_state(v);
    v->m.mp_state = bsp ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
    v->known = coalesce ? kvm_known_new(&ops, v, XSAVE_SIZE, false) : NULL;
}

static void vcpu_free(Vcpu *v)
{
    kvm_known_free(v->known);
    g_rand_free(v->rand);
    g_free(v->mismatch);
}

static int vcpu_ioctl(Vcpu *v, unsigned long type, void *arg)
{
    KVMStateOutcome outcome;

    return v->known ? kvm_known_ioctl(v->known, type, arg, &outcome) :
                      model_ioctl(v, type, arg);
}

/* ---- what QEMU does with it ------------------------------------------ */

typedef struct MsrList {
    struct kvm_msrs info;
    struct kvm_msr_entry entries[ARRAY_SIZE(listed_msrs) + 1];
} MsrList;

typedef struct Env {
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    uint8_t xsave[XSAVE_SIZE];
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp_state;
    struct kvm_nested_state nested;
    struct kvm_lapic_state lapic;
    MsrList msrs;
} Env;

typedef enum Level { RUNTIME, RESET, FULL } Level;

static void list_msr(MsrList *list, uint32_t index, uint64_t data)
{
    list->entries[list->info.nmsrs++] = (struct kvm_msr_entry) {
        .index = index, .data = data,
    };
}

static uint64_t *env_msr(Env *env, uint32_t index)
{
    for (int i = 0; i < env->msrs.info.nmsrs; i++) {
        if (env->msrs.entries[i].index == index) {
            return (uint64_t *)&env->msrs.entries[i].data;
        }
    }
    g_assert_not_reached();
}

/* kvm_arch_get_registers() */
static void get_registers(Vcpu *v, Env *env)
{
    memset(env, 0, sizeof(*env));
    vcpu_ioctl(v, KVM_GET_VCPU_EVENTS, &env->events);
    vcpu_ioctl(v, KVM_GET_MP_STATE, &env->mp_state);
    vcpu_ioctl(v, KVM_GET_REGS, &env->regs);
    vcpu_ioctl(v, KVM_GET_XSAVE, env->xsave);
    vcpu_ioctl(v, KVM_GET_XCRS, &env->xcrs);
    vcpu_ioctl(v, KVM_GET_SREGS2, &env->sregs);
    for (int i = 0; i < ARRAY_SIZE(listed_msrs); i++) {
        list_msr(&env->msrs, listed_msrs[i], 0);
    }
    g_assert_cmpint(vcpu_ioctl(v, KVM_GET_MSRS, &env->msrs), ==,
                    ARRAY_SIZE(listed_msrs));
    vcpu_ioctl(v, KVM_GET_LAPIC, &env->lapic);
    vcpu_ioctl(v, KVM_GET_DEBUGREGS, &env->debugregs);
    vcpu_ioctl(v, KVM_GET_NESTED_STATE, &env->nested);
    /* QEMU's buffer has no room for KVM's bytes. */
    memset(env->xsave + 464, 0, 48);
}

static void put_msr(Vcpu *v, uint32_t index, uint64_t data)
{
    MsrList list = {};

    list_msr(&list, index, data);
    g_assert_cmpint(vcpu_ioctl(v, KVM_SET_MSRS, &list), ==, 1);
}

/* kvm_arch_put_registers() */
static void put_registers(Vcpu *v, Env *env, Level level)
{
    MsrList list = {};

    if (level == FULL && v->known) {
        kvm_known_forget(v->known);
    }
    if (level >= RESET) {
        put_msr(v, FEATURES, *env_msr(env, FEATURES));
    }
    vcpu_ioctl(v, KVM_SET_SREGS2, &env->sregs);
    if (level >= RESET) {
        vcpu_ioctl(v, KVM_SET_NESTED_STATE, &env->nested);
    }
    vcpu_ioctl(v, KVM_SET_REGS, &env->regs);
    vcpu_ioctl(v, KVM_SET_XSAVE, env->xsave);
    vcpu_ioctl(v, KVM_SET_XCRS, &env->xcrs);
    list_msr(&list, SYSENTER_CS, *env_msr(env, SYSENTER_CS));
    list_msr(&list, XSS, *env_msr(env, XSS));
    list_msr(&list, STAR, *env_msr(env, STAR));
    if (level >= RESET) {
        list_msr(&list, TSC, *env_msr(env, TSC));
        list_msr(&list, SYSTEM_TIME, *env_msr(env, SYSTEM_TIME));
        list_msr(&list, WALL_CLOCK, *env_msr(env, WALL_CLOCK));
        list_msr(&list, STEAL_TIME, *env_msr(env, STEAL_TIME));
        list_msr(&list, FIXED_CTR_CTRL, 0);
        list_msr(&list, FIXED_CTR0, *env_msr(env, FIXED_CTR0));
        list_msr(&list, FIXED_CTR_CTRL, *env_msr(env, FIXED_CTR_CTRL));
        list_msr(&list, XFD, *env_msr(env, XFD));
        if (*env_msr(env, HV_ASSIST_PAGE)) {
            list_msr(&list, HV_ASSIST_PAGE, *env_msr(env, HV_ASSIST_PAGE));
        }
    }
    g_assert_cmpint(vcpu_ioctl(v, KVM_SET_MSRS, &list), ==, list.info.nmsrs);
    env->events.flags = KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD |
        (level >= RESET ? KVM_VCPUEVENT_VALID_NMI_PENDING : 0);
    vcpu_ioctl(v, KVM_SET_VCPU_EVENTS, &env->events);
    if (level >= RESET) {
        vcpu_ioctl(v, KVM_SET_MP_STATE, &env->mp_state);
    }
    put_msr(v, DEADLINE, *env_msr(env, DEADLINE));
    vcpu_ioctl(v, KVM_SET_DEBUGREGS, &env->debugregs);
}

static void reset_env(Vcpu *v, Env *env)
{
    uint64_t apic_base = 0xfee00000 | APIC_ENABLE;

    memset(env, 0, sizeof(*env));
    for (int i = 0; i < ARRAY_SIZE(listed_msrs); i++) {
        list_msr(&env->msrs, listed_msrs[i], 0);
    }
    env->regs.rip = RESET_RIP;
    env->regs.rflags = 2;
    env->sregs.cr0 = 0x60000010;
    env->sregs.cs.selector = 0xf000;
    env->sregs.apic_base = apic_base;
    env->xcrs.nr_xcrs = 1;
    env->xcrs.xcrs[0].value = 1;
    env->debugregs.dr6 = 0xffff0ff0;
    env->debugregs.dr7 = 0x400;
    env->nested.size = sizeof(env->nested);
    env->nested.format = KVM_STATE_NESTED_FORMAT_SVM;
    env->nested.flags = KVM_STATE_NESTED_GIF_SET;
    env->mp_state.mp_state = v->bsp ? KVM_MP_STATE_RUNNABLE :
                                      KVM_MP_STATE_UNINITIALIZED;
    *env_msr(env, TSC) = 1;
}

/* qemu_system_reset(), of one vCPU */
static void system_reset(Vcpu *v, bool dirty)
{
    struct kvm_tpr_access_ctl reports = {};
    struct kvm_vapic_addr vapic = {};
    static Env env;

    if (!dirty) {
        get_registers(v, &env);
    }
    reset_env(v, &env);
    vcpu_ioctl(v, KVM_TPR_ACCESS_REPORTING, &reports);
    vcpu_ioctl(v, KVM_SET_VAPIC_ADDR, &vapic);
    put_msr(v, APIC_BASE, env.sregs.apic_base);
    vcpu_ioctl(v, KVM_SET_LAPIC, &env.lapic);
    put_registers(v, &env, RESET);
}

/* ---- tests ----------------------------------------------------------- */

static unsigned int total(const Vcpu *v)
{
    unsigned int sum = 0;

    for (int i = 0; i < NR_CALLS; i++) {
        sum += i == CALL(KVM_RUN) ? 0 : v->calls[i];
    }
    return sum;
}

static void clear_calls(Vcpu *v)
{
    memset(v->calls, 0, sizeof(v->calls));
    v->mmu_resets = v->msrs_written = 0;
}

static void make_pae(Vcpu *v)
{
    v->m.sregs.cr0 |= CR0_PG;
    v->m.sregs.cr4 |= CR4_PAE;
}

/* info registers: nothing is written back, and all of it is read */
static void test_read_only(void)
{
    static Vcpu v;
    static Env env;

    vcpu_init(&v, true, true, 1);
    make_pae(&v);
    for (int i = 0; i < 100; i++) {
        vcpu_ioctl(&v, KVM_RUN, NULL);
        /* What makes a write necessary is tested elsewhere. */
        v.m.events.exception.pending = 0;
        v.m.mp_state = KVM_MP_STATE_RUNNABLE;
        clear_calls(&v);
        get_registers(&v, &env);
        g_assert_cmpuint(total(&v), ==, 10);
        put_registers(&v, &env, RUNTIME);
        g_assert_cmpuint(total(&v), ==, 10);
        g_assert_cmpuint(v.mmu_resets, ==, 0);
    }
    vcpu_free(&v);
}

/* vmport: a result in RAX */
static void test_vmport(void)
{
    static Vcpu v;
    static Env env;

    vcpu_init(&v, true, true, 2);
    make_pae(&v);
    get_registers(&v, &env);
    clear_calls(&v);
    env.regs.rax++;
    put_registers(&v, &env, RUNTIME);
    g_assert_cmpuint(v.calls[CALL(KVM_SET_REGS)], ==, 1);
    /* A pending exception is gone with KVM_SET_REGS. */
    g_assert_cmpuint(v.calls[CALL(KVM_SET_VCPU_EVENTS)], ==, 1);
    g_assert_cmpuint(total(&v), ==, 2);
    g_assert_cmpuint(v.mmu_resets, ==, 0);
    g_assert_cmphex(v.m.regs.rax, ==, env.regs.rax);
    vcpu_free(&v);
}

static void test_resets(gconstpointer opaque)
{
    bool run = GPOINTER_TO_INT(opaque);
    static Vcpu on, off;
    /* Of the vCPU that waits for its INIT, running changes nothing. */
    bool bsp = !run;

    vcpu_init(&on, bsp, true, 3);
    vcpu_init(&off, bsp, false, 3);
    for (int i = 0; i < 20; i++) {
        system_reset(&on, false);
        system_reset(&off, false);
        if (run) {
            vcpu_ioctl(&on, KVM_RUN, NULL);
            vcpu_ioctl(&off, KVM_RUN, NULL);
        }
        g_assert_cmpmem(&on.m, sizeof(Model), &off.m, sizeof(Model));
        if (i == 2) {
            clear_calls(&on);
            clear_calls(&off);
        }
    }
    g_test_message("17 resets: %u ioctls; without %u", total(&on), total(&off));
    g_assert_cmpuint(on.calls[CALL(KVM_SET_SREGS2)], ==, 0);
    g_assert_cmpuint(on.calls[CALL(KVM_SET_REGS)], ==, 0);
    g_assert_cmpuint(on.calls[CALL(KVM_SET_LAPIC)], ==, 0);
    g_assert_cmpuint(on.calls[CALL(KVM_SET_VCPU_EVENTS)], ==, 17);
    g_assert_cmpuint(total(&on) * 2, <, total(&off));
    vcpu_free(&on);
    vcpu_free(&off);
}

/* After a load, each part of the state is written. */
static void test_full(void)
{
    static Vcpu v;
    static Env env;

    vcpu_init(&v, true, true, 4);
    get_registers(&v, &env);
    clear_calls(&v);
    put_registers(&v, &env, FULL);
    g_assert_cmpuint(total(&v), ==, 11);
    g_assert_cmpuint(v.msrs_written, ==, 13);
    vcpu_free(&v);
}

/* What is not known to change nothing changes all. */
static void test_unknown_ioctl(void)
{
    static Vcpu v;
    static Env env;

    vcpu_init(&v, true, true, 5);
    get_registers(&v, &env);
    vcpu_ioctl(&v, KVM_SET_GUEST_DEBUG, NULL);
    clear_calls(&v);
    put_registers(&v, &env, RUNTIME);
    g_assert_cmpuint(total(&v), ==, 8);
    vcpu_free(&v);
}

/* An INIT that is accepted by a read leaves nothing known. */
static void test_init(void)
{
    static Vcpu v;
    static Env env, again;

    vcpu_init(&v, false, true, 6);
    system_reset(&v, false);
    get_registers(&v, &env);
    outside_event(&v, 0);
    outside_event(&v, 1);
    get_registers(&v, &again);
    g_assert_cmpuint(again.mp_state.mp_state, ==, KVM_MP_STATE_RUNNABLE);
    g_assert_cmphex(again.regs.rip, ==, 0);
    g_assert_cmphex(again.sregs.cs.selector, ==, 0x9000);

    /* Nor does one that is accepted by running, if nobody asks. */
    system_reset(&v, false);
    get_registers(&v, &env);
    outside_event(&v, 0);
    outside_event(&v, 1);
    vcpu_ioctl(&v, KVM_RUN, NULL);
    g_assert_cmphex(v.m.regs.rip, ==, 0);
    vcpu_ioctl(&v, KVM_SET_REGS, &env.regs);
    g_assert_cmphex(v.m.regs.rip, ==, env.regs.rip);
    vcpu_free(&v);
}

/* Side effects that random runs seldom meet */
static void test_side_effects(void)
{
    static Vcpu v;
    static Env env;

    /* Out of guest mode, the vCPU has the host's CR3. */
    vcpu_init(&v, true, true, 10);
    v.m.sregs.efer |= EFER_SVME;
    v.m.sregs.cr3 = 0x5000;
    v.m.nested_flags = KVM_STATE_NESTED_GUEST_MODE;
    *msr(&v, FEATURES) = 1;
    get_registers(&v, &env);
    env.nested.flags = KVM_STATE_NESTED_GIF_SET;
    put_registers(&v, &env, RESET);
    g_assert_cmphex(v.m.sregs.cr3, ==, 0x1000);
    put_registers(&v, &env, RESET);
    g_assert_cmphex(v.m.sregs.cr3, ==, 0x5000);
    vcpu_free(&v);

    /* SREGS make a BSP runnable that is at the reset vector. */
    vcpu_init(&v, true, true, 11);
    get_registers(&v, &env);
    env.mp_state.mp_state = KVM_MP_STATE_UNINITIALIZED;
    put_registers(&v, &env, RESET);
    env.sregs.cr3 = 0x6000;
    put_registers(&v, &env, RESET);
    g_assert_cmpuint(v.m.mp_state, ==, KVM_MP_STATE_UNINITIALIZED);
    vcpu_free(&v);
}

static void test_events(void)
{
    static Vcpu v;
    static Env env;

    /* Something is pending: to write it back is more than to keep it. */
    vcpu_init(&v, true, true, 7);
    v.m.events.exception.pending = 1;
    get_registers(&v, &env);
    clear_calls(&v);
    put_registers(&v, &env, RUNTIME);
    g_assert_cmpuint(v.calls[CALL(KVM_SET_VCPU_EVENTS)], ==, 1);
    g_assert_cmpuint(total(&v), ==, 1);

    /* What came from outside since the read survives it, but no reset. */
    v.m.events.exception.pending = 0;
    vcpu_ioctl(&v, KVM_RUN, NULL);
    v.m.events.exception.pending = 0;
    v.m.mp_state = KVM_MP_STATE_RUNNABLE;
    get_registers(&v, &env);
    outside_event(&v, 3);
    put_registers(&v, &env, RUNTIME);
    g_assert_cmpuint(v.m.events.smi.pending, ==, 1);
    put_registers(&v, &env, RESET);
    g_assert_cmpuint(v.m.events.smi.pending, ==, 0);
    vcpu_free(&v);
}

/* Lists: the order, duplicates, and where one fails */
static void test_msr_lists(void)
{
    static Vcpu v;
    MsrList list = {};

    vcpu_init(&v, true, true, 8);
    list_msr(&list, STAR, 1);
    list_msr(&list, XSS, 2);
    list_msr(&list, STAR, 3);
    g_assert_cmpint(vcpu_ioctl(&v, KVM_SET_MSRS, &list), ==, 3);
    g_assert_cmphex(*msr(&v, STAR), ==, 3);
    g_assert_cmpuint(v.msrs_written, ==, 3);

    /* XSS is what it was, STAR becomes 1 and 3 again. */
    g_assert_cmpint(vcpu_ioctl(&v, KVM_SET_MSRS, &list), ==, 3);
    g_assert_cmphex(*msr(&v, STAR), ==, 3);
    g_assert_cmpuint(v.msrs_written, ==, 5);

    /* The number is that of the whole list. */
    memset(&list, 0, sizeof(list));
    list_msr(&list, STAR, 3);
    list_msr(&list, XSS, 4);
    list_msr(&list, SYSENTER_CS, 5);
    v.bad_msr = SYSENTER_CS;
    g_assert_cmpint(vcpu_ioctl(&v, KVM_SET_MSRS, &list), ==, 2);
    g_assert_cmphex(*msr(&v, XSS), ==, 4);
    list.entries[0].data = list.entries[1].data = 0;
    g_assert_cmpint(vcpu_ioctl(&v, KVM_GET_MSRS, &list), ==, 2);
    g_assert_cmphex(list.entries[0].data, ==, 3);
    g_assert_cmphex(list.entries[1].data, ==, 4);

    /* One that moves is never left out, a page that is shared only if off. */
    v.bad_msr = 0;
    memset(&list, 0, sizeof(list));
    list_msr(&list, TSC, 1);
    list_msr(&list, STEAL_TIME, 0);
    list_msr(&list, SYSTEM_TIME, 1);
    vcpu_ioctl(&v, KVM_SET_MSRS, &list);
    v.msrs_written = 0;
    vcpu_ioctl(&v, KVM_SET_MSRS, &list);
    g_assert_cmpuint(v.msrs_written, ==, 2);
    vcpu_free(&v);
}

/* KVM holds something else than what is known: is it seen, and where? */
static void test_verify(void)
{
    static const struct {
        size_t offset;
        const char *mismatch;
    } cases[] = {
        { offsetof(Model, regs.rbx), "KVM_SET_REGS rbx" },
        { offsetof(Model, sregs.cr3), "KVM_SET_SREGS2 cr3" },
        { offsetof(Model, sregs.gs.base), "KVM_SET_SREGS2 gs" },
        { offsetof(Model, xsave) + 40, "KVM_SET_XSAVE st, xmm" },
        { offsetof(Model, xcr0), "KVM_SET_XCRS xcrs[0].value" },
        { offsetof(Model, debugregs.db[1]), "KVM_SET_DEBUGREGS db" },
        { offsetof(Model, events.nmi.masked),
          "KVM_SET_VCPU_EVENTS nmi.masked" },
        { offsetof(Model, msrs[3]), "KVM_SET_MSRS MSR 0xc0000081" },
    };
    static Vcpu v;
    static Env env;

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        vcpu_init(&v, true, false, 9);
        v.known = kvm_known_new(&ops, &v, XSAVE_SIZE, true);
        get_registers(&v, &env);
        put_registers(&v, &env, RUNTIME);
        system_reset(&v, true);
        get_registers(&v, &env);
        put_registers(&v, &env, RUNTIME);
        g_assert_cmpuint(v.mismatches, ==, 0);
        ((char *)&v.m)[cases[i].offset] ^= 1;
        put_registers(&v, &env, RUNTIME);
        g_assert_cmpuint(v.mismatches, ==, 1);
        g_assert_cmpstr(v.mismatch, ==, cases[i].mismatch);
        vcpu_free(&v);
    }
}

static void change(Env *env, GRand *rand)
{
    uint8_t byte = g_rand_int(rand);

    switch (g_rand_int_range(rand, 0, 17)) {
    case 0:
        env->regs.rax = byte;
        break;
    case 1:
        env->sregs.cr3 = byte << 12;
        break;
    case 2:
        env->sregs.cr8 = byte & 15;
        env->lapic.regs[0x80] = env->sregs.cr8 << 4;
        break;
    case 3:
        env->xsave[170] = byte;
        break;
    case 4:
        env->xcrs.xcrs[0].value = 1 | (byte & 6);
        break;
    case 5:
        env->debugregs.dr6 = byte;
        break;
    case 6:
        env->events.smi.smm = byte & 1;
        break;
    case 7:
        env->events.exception.pending = byte & 1;
        break;
    case 8:
        env->nested.flags = byte & 1 ? KVM_STATE_NESTED_GIF_SET : 0;
        break;
    case 9:
        /* not halted at the reset vector: see state-known.c */
        env->regs.rip++;
        env->mp_state.mp_state = byte % 5;
        break;
    case 10:
        *env_msr(env, STAR) = byte;
        break;
    case 11:
        *env_msr(env, XFD) = byte & 1;
        break;
    case 12:
        *env_msr(env, DEADLINE) = byte & 3;
        break;
    case 13:
        *env_msr(env, FEATURES) = byte & 1;
        break;
    case 14:
        env->sregs.apic_base ^= APIC_ENABLE;
        break;
    case 15:
        env->sregs.efer = byte & 1 ? EFER_SVME : 0;
        break;
    default:
        break;
    }
}

/* As kvm_apic_put(), but for any APIC */
static void put_lapic(Vcpu *v, Env *env, uint32_t seed)
{
    memset(&env->lapic, 0, sizeof(env->lapic));
    env->lapic.regs[0x80] = seed & 0x30;
    env->lapic.regs[0x322] = seed >> 8 & 4;
    env->lapic.regs[0xf1] = seed >> 12 & 1;
    put_msr(v, APIC_BASE, 0xfee00000 | (seed >> 16 & 1 ? APIC_ENABLE : 0));
    vcpu_ioctl(v, KVM_SET_LAPIC, &env->lapic);
    put_msr(v, DEADLINE, seed >> 20 & 1);
    put_msr(v, XFD, seed >> 21 & 1);
}

static void assert_same(const void *a, const void *b, size_t size,
                        const char *what, int round, int step, int op)
{
    const uint8_t *p = a, *q = b;

    for (size_t i = 0; i < size; i++) {
        if (p[i] != q[i]) {
            g_error("%s: byte %zu is 0x%x, without 0x%x, in round %d, step %d, "
                    "operation %d", what, i, p[i], q[i], round, step, op);
        }
    }
}

/*
 * Two vCPUs see the same, one with all ioctls, one without those that do
 * nothing: all that is read, and all that there is, is the same at any time.
 */
static void test_differential(void)
{
    static Vcpu v[2];
    static Env env[2];
    unsigned int sent = 0, plain = 0;

    for (int round = 0; round < 300; round++) {
        GRand *rand = g_rand_new_with_seed(round + 1);
        bool dirty = false;

        for (int i = 0; i < 2; i++) {
            vcpu_init(&v[i], round % 3 == 0, i == 0, round);
            if (i == 0 && round % 2) {
                kvm_known_free(v[i].known);
                v[i].known = kvm_known_new(&ops, &v[i], XSAVE_SIZE, true);
            }
        }
        for (int step = 0; step < 400; step++) {
            int op = g_rand_int_range(rand, 0, 17);
            uint32_t seed = g_rand_int(rand);

            for (int i = 0; i < 2; i++) {
                GRand *each = g_rand_new_with_seed(seed);
                Level level = seed % 8 == 0 ? FULL : seed % 8 == 1 ? RESET :
                              RUNTIME;

                switch (op) {
                case 0:
                    /* From outside: between a read and a write see events */
                    if (!dirty) {
                        outside_event(&v[i], seed);
                    }
                    break;
                case 1:
                    system_reset(&v[i], dirty);
                    break;
                case 2:
                    if (!dirty) {
                        vcpu_ioctl(&v[i], KVM_SET_GUEST_DEBUG, NULL);
                    }
                    break;
                case 3 ... 6:
                    if (!dirty) {
                        get_registers(&v[i], &env[i]);
                    }
                    break;
                case 7 ... 9:
                    if (dirty) {
                        change(&env[i], each);
                    }
                    break;
                case 10 ... 12:
                    /* As after a reset of a VM that is stopped */
                    if (dirty) {
                        put_registers(&v[i], &env[i], level);
                    }
                    break;
                case 13:
                    if (!dirty) {
                        put_lapic(&v[i], &env[i], seed);
                    }
                    break;
                default:
                    if (dirty) {
                        put_registers(&v[i], &env[i], level);
                    }
                    vcpu_ioctl(&v[i], KVM_RUN, NULL);
                    break;
                }
                g_rand_free(each);
            }
            dirty = (dirty || (op >= 3 && op <= 6)) && op != 1 && op <= 9;
            if (dirty) {
                assert_same(&env[0], &env[1], sizeof(Env), "read",
                            round, step, op);
            }
            assert_same(&v[0].m, &v[1].m, sizeof(Model), "held",
                        round, step, op);
            g_assert_cmpuint(v[0].mismatches, ==, 0);
        }
        if (round % 2 == 0) {
            sent += total(&v[0]);
            plain += total(&v[1]);
        }
        for (int i = 0; i < 2; i++) {
            vcpu_free(&v[i]);
        }
        g_rand_free(rand);
    }
    g_test_message("%u ioctls; without %u", sent, plain);
    g_assert_cmpuint(sent, <, plain);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state-coalesce/read-only", test_read_only);
    g_test_add_func("/state-coalesce/vmport", test_vmport);
    g_test_add_data_func("/state-coalesce/resets/stopped",
                         GINT_TO_POINTER(false), test_resets);
    g_test_add_data_func("/state-coalesce/resets/waiting",
                         GINT_TO_POINTER(true), test_resets);
    g_test_add_func("/state-coalesce/full", test_full);
    g_test_add_func("/state-coalesce/unknown-ioctl", test_unknown_ioctl);
    g_test_add_func("/state-coalesce/init", test_init);
    g_test_add_func("/state-coalesce/side-effects", test_side_effects);
    g_test_add_func("/state-coalesce/events", test_events);
    g_test_add_func("/state-coalesce/msr-lists", test_msr_lists);
    g_test_add_func("/state-coalesce/verify", test_verify);
    g_test_add_func("/state-coalesce/differential", test_differential);
    return g_test_run();
}
