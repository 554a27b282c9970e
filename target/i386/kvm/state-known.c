/*
 * KVM state coalescing on x86: what KVM is known to hold of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "qemu/bitops.h"
#include "state-known.h"

/*
 * A write that is not sent must be one that does nothing.  It does nothing if
 *
 * - it is an assignment: its effect depends on its argument alone, and doing
 *   it twice is doing it once; and
 * - what it assigns is what KVM holds: it was read, or written, and no other
 *   ioctl and no other thread can have changed it since.
 *
 * The rest of what KVM does on a write (KVM_REQ_EVENT, a reset of the MMU, a
 * flush of the TLB, CPUID bits that follow CR4) follows a change, and has been
 * done for the value that it holds; KVM_SET_SREGS resets the MMU of a PAE guest
 * without one, which is what costs.  KVM_SET_CPUID2, which may change what a
 * value means, forgets all, as does each ioctl that is not named here.
 *
 * Two things follow from the write itself.  Of a PAE guest KVM_SET_SREGS
 * (without the 2) loads the PDPTRs from memory, a processor only with CR3: if
 * not sent they stay as the guest loaded them.  And KVM_SET_SREGS makes a BSP
 * runnable that stands at the reset vector, for QEMUs that write no MP_STATE
 * after a reset; one that the guest halted there now stays halted.
 *
 * KVM_RUN may change anything.  So may another thread what comes from outside,
 * while the vCPU does not run: NMI, SMI, INIT, SIPI, and the local APIC's
 * registers and timer unless it is switched off.  Therefore KVM_GET_VCPU_EVENTS
 * is always sent, and KVM_SET_VCPU_EVENTS unless nothing is pending on either
 * side: then whatever comes between the read and the write comes after both.
 */

typedef enum StateId {
    REGS,
    SREGS,
    SREGS2,
    XSAVE,
    XCRS,
    DEBUGREGS,
    EVENTS,
    MP_STATE,
    NESTED,
    LAPIC,
    NR_STATES,
} StateId;

/* A part that matters: a read and a write that agree in all are the same */
typedef struct StateField {
    const char *name;
    size_t offset, size;
} StateField;

#define FIELD(type, member) \
    { #member, offsetof(struct type, member), \
      sizeof(((struct type *)NULL)->member) }
/* without padding: from the first of two members to the second */
#define FIELDS(type, member, last) \
    { #member, offsetof(struct type, member), \
      offsetof(struct type, member.last) + \
      sizeof(((struct type *)NULL)->member.last) - \
      offsetof(struct type, member) }
#define SREGS_FIELDS(type) \
    FIELDS(type, cs, unusable), FIELDS(type, ds, unusable), \
    FIELDS(type, es, unusable), FIELDS(type, fs, unusable), \
    FIELDS(type, gs, unusable), FIELDS(type, ss, unusable), \
    FIELDS(type, tr, unusable), FIELDS(type, ldt, unusable), \
    FIELDS(type, gdt, limit), FIELDS(type, idt, limit), \
    FIELD(type, cr0), FIELD(type, cr2), FIELD(type, cr3), FIELD(type, cr4), \
    FIELD(type, cr8), FIELD(type, efer), FIELD(type, apic_base)

static const StateField regs_fields[] = {
    FIELD(kvm_regs, rax), FIELD(kvm_regs, rbx), FIELD(kvm_regs, rcx),
    FIELD(kvm_regs, rdx), FIELD(kvm_regs, rsi), FIELD(kvm_regs, rdi),
    FIELD(kvm_regs, rsp), FIELD(kvm_regs, rbp), FIELD(kvm_regs, r8),
    FIELD(kvm_regs, r9), FIELD(kvm_regs, r10), FIELD(kvm_regs, r11),
    FIELD(kvm_regs, r12), FIELD(kvm_regs, r13), FIELD(kvm_regs, r14),
    FIELD(kvm_regs, r15), FIELD(kvm_regs, rip), FIELD(kvm_regs, rflags), {}
};

/* interrupt_bitmap is a view of the events, and 0 in all writes of QEMU. */
static const StateField sregs_fields[] = {
    SREGS_FIELDS(kvm_sregs), {}
};

static const StateField sregs2_fields[] = {
    SREGS_FIELDS(kvm_sregs2), FIELD(kvm_sregs2, flags), {}
};

static const StateField pdptrs_field[] = {
    FIELD(kvm_sregs2, pdptrs), {}
};

/*
 * KVM tells the mask of MXCSR and, in the bytes that are left to software,
 * its own format; it takes neither.  The last part ends with the buffer.
 */
static const StateField xsave_fields[] = {
    { "x87", 0, 28 }, { "st, xmm", 32, 432 }, { "header", 512, 64 },
    { "extended", 576, SIZE_MAX }, {}
};

/* There is one so far, number 0. */
static const StateField xcrs_fields[] = {
    FIELD(kvm_xcrs, nr_xcrs), FIELD(kvm_xcrs, flags),
    FIELD(kvm_xcrs, xcrs[0].xcr), FIELD(kvm_xcrs, xcrs[0].value), {}
};

static const StateField debugregs_fields[] = {
    FIELD(kvm_debugregs, db), FIELD(kvm_debugregs, dr6),
    FIELD(kvm_debugregs, dr7), FIELD(kvm_debugregs, flags), {}
};

static const StateField nmi_mask_field[] = {
    FIELD(kvm_vcpu_events, nmi.masked), {}
};

static const StateField shadow_field[] = {
    FIELD(kvm_vcpu_events, interrupt.shadow), {}
};

static const StateField smm_fields[] = {
    FIELD(kvm_vcpu_events, smi.smm),
    FIELD(kvm_vcpu_events, smi.smm_inside_nmi), {}
};

static const StateField mp_state_fields[] = {
    FIELD(kvm_mp_state, mp_state), {}
};

/* Outside of guest mode there is nothing behind the header; see idle(). */
static const StateField nested_fields[] = {
    FIELD(kvm_nested_state, flags), FIELD(kvm_nested_state, format),
    FIELD(kvm_nested_state, hdr), {}
};

/* KVM ignores, or works out: the version (0x30), PPR (0xa0), TMCCT (0x390) */
static const StateField lapic_fields[] = {
    { "ID", 0x20, 16 }, { "TPR", 0x80, 32 }, { "LDR, DFR", 0xb0, 64 },
    { "SPIV", 0xf0, 16 }, { "ISR", 0x100, 128 }, { "TMR", 0x180, 128 },
    { "IRR", 0x200, 128 }, { "ESR, LVT, ICR", 0x280, 256 },
    { "TMICT", 0x380, 16 }, { "TDCR", 0x3a0, 96 }, {}
};

typedef struct StateKind {
    const char *name;
    unsigned long get, get_too, set;
    size_t size;                /* of what is remembered; 0: of KVM_GET_XSAVE */
    const StateField *fields;
    unsigned int touches;       /* BIT(StateId) of what a write may change */
} StateKind;

static const StateKind kinds[] = {
    /* __set_regs() drops a pending exception, and one that is software's. */
    [REGS] = {
        "KVM_SET_REGS", KVM_GET_REGS, 0, KVM_SET_REGS,
        sizeof(struct kvm_regs), regs_fields, BIT(EVENTS),
    },
    /*
     * __set_sregs_common(): CR0 changes what KVM makes of RFLAGS in real mode;
     * EFER.SVME = 0 leaves guest mode; at the reset vector the BSP is made
     * runnable; what it injects is with the events.  The APIC base and CR8,
     * too, are the local APIC's.
     */
    [SREGS] = {
        "KVM_SET_SREGS", KVM_GET_SREGS, 0, KVM_SET_SREGS,
        sizeof(struct kvm_sregs), sregs_fields,
        BIT(REGS) | BIT(SREGS2) | BIT(EVENTS) | BIT(NESTED) | BIT(MP_STATE) |
        BIT(LAPIC),
    },
    [SREGS2] = {
        "KVM_SET_SREGS2", KVM_GET_SREGS2, 0, KVM_SET_SREGS2,
        sizeof(struct kvm_sregs2), sregs2_fields,
        BIT(REGS) | BIT(SREGS) | BIT(EVENTS) | BIT(NESTED) | BIT(MP_STATE) |
        BIT(LAPIC),
    },
    [XSAVE] = {
        "KVM_SET_XSAVE", KVM_GET_XSAVE, KVM_GET_XSAVE2, KVM_SET_XSAVE,
        0, xsave_fields, 0,
    },
    /* What of the state is enabled follows XCR0. */
    [XCRS] = {
        "KVM_SET_XCRS", KVM_GET_XCRS, 0, KVM_SET_XCRS,
        sizeof(struct kvm_xcrs), xcrs_fields, BIT(XSAVE),
    },
    [DEBUGREGS] = {
        "KVM_SET_DEBUGREGS", KVM_GET_DEBUGREGS, 0, KVM_SET_DEBUGREGS,
        sizeof(struct kvm_debugregs), debugregs_fields, 0,
    },
    /* see touch() */
    [EVENTS] = {
        "KVM_SET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS, 0, KVM_SET_VCPU_EVENTS,
        sizeof(struct kvm_vcpu_events), nmi_mask_field, 0,
    },
    [MP_STATE] = {
        "KVM_SET_MP_STATE", KVM_GET_MP_STATE, 0, KVM_SET_MP_STATE,
        sizeof(struct kvm_mp_state), mp_state_fields, 0,
    },
    /* GIF is part of whether an NMI is masked. */
    [NESTED] = {
        "KVM_SET_NESTED_STATE", KVM_GET_NESTED_STATE, 0, KVM_SET_NESTED_STATE,
        sizeof(struct kvm_nested_state), nested_fields, BIT(EVENTS),
    },
    /* see touch() */
    [LAPIC] = {
        "KVM_SET_LAPIC", KVM_GET_LAPIC, 0, KVM_SET_LAPIC,
        sizeof(struct kvm_lapic_state), lapic_fields, 0,
    },
};

QEMU_BUILD_BUG_ON(ARRAY_SIZE(kinds) != NR_STATES);

typedef enum MsrClass {
    /* Only listed: a write may do anything, and a read is always sent. */
    MSR_UNKNOWN,
    /* A value of this vCPU that KVM keeps for the guest, and nothing else */
    MSR_PLAIN,
    /*
     * The address of a page that KVM shares with the guest, and an enable bit:
     * a write of 0 on 0 does nothing; another may update the page.
     */
    MSR_PAGE,
    /* Moves by itself, is the whole VM's, or its write is an order */
    MSR_MOVES,
    MSR_APIC_BASE,              /* is in KVM_{GET,SET}_SREGS, too */
    MSR_FEATURES,               /* IA32_FEATURE_CONTROL: 0 leaves VMX */
    MSR_XFD_MASK,               /* of KVM_{GET,SET}_XSAVE */
    MSR_TSC_VALUE,              /* moves, and with it when a deadline is */
    MSR_DEADLINE,               /* the local APIC's timer */
} MsrClass;

static const struct {
    uint32_t first, last;
    MsrClass class;
} msr_classes[] = {
    { 0x00000010, 0x00000010, MSR_TSC_VALUE },
    { 0x00000011, 0x00000011, MSR_MOVES },      /* KVM_WALL_CLOCK: the VM's */
    { 0x00000012, 0x00000012, MSR_PAGE },       /* KVM_SYSTEM_TIME */
    { 0x0000001b, 0x0000001b, MSR_APIC_BASE },
    { 0x00000034, 0x00000034, MSR_PLAIN },      /* SMI_COUNT */
    { 0x0000003a, 0x0000003a, MSR_FEATURES },
    { 0x0000003b, 0x0000003b, MSR_PLAIN },      /* TSC_ADJUST */
    { 0x00000048, 0x00000048, MSR_PLAIN },      /* SPEC_CTRL */
    { 0x0000008c, 0x0000008f, MSR_PLAIN },      /* SGXLEPUBKEYHASH0..3 */
    { 0x0000009e, 0x0000009e, MSR_PLAIN },      /* SMBASE */
    { 0x000000c1, 0x000000c8, MSR_MOVES },      /* PMC0..7 */
    { 0x000000e1, 0x000000e1, MSR_PLAIN },      /* UMWAIT_CONTROL */
    { 0x00000122, 0x00000122, MSR_PLAIN },      /* TSX_CTRL */
    { 0x00000174, 0x00000176, MSR_PLAIN },      /* SYSENTER_* */
    { 0x0000017a, 0x0000017b, MSR_PLAIN },      /* MCG_STATUS, MCG_CTL */
    { 0x00000186, 0x0000018d, MSR_MOVES },      /* PERFEVTSEL0..7 */
    { 0x000001a0, 0x000001a0, MSR_PLAIN },      /* MISC_ENABLE */
    { 0x000001c4, 0x000001c4, MSR_XFD_MASK },
    { 0x000001c5, 0x000001c5, MSR_PLAIN },      /* XFD_ERR */
    { 0x00000200, 0x0000020f, MSR_PLAIN },      /* MTRRphys* */
    { 0x00000250, 0x00000250, MSR_PLAIN },      /* MTRRfix* */
    { 0x00000258, 0x00000259, MSR_PLAIN },
    { 0x00000268, 0x0000026f, MSR_PLAIN },
    { 0x00000277, 0x00000277, MSR_PLAIN },      /* PAT */
    { 0x000002ff, 0x000002ff, MSR_PLAIN },      /* MTRRdefType */
    { 0x00000309, 0x00000310, MSR_MOVES },      /* FIXED_CTR0..7 */
    { 0x0000038d, 0x00000390, MSR_MOVES },      /* PERF_GLOBAL_* and so on */
    { 0x00000400, 0x0000047f, MSR_PLAIN },      /* MCi_* */
    { 0x000004d0, 0x000004d0, MSR_PLAIN },      /* MCG_EXT_CTL */
    { 0x000006e0, 0x000006e0, MSR_DEADLINE },
    { 0x00000d90, 0x00000d90, MSR_PLAIN },      /* BNDCFGS */
    { 0x00000da0, 0x00000da0, MSR_PLAIN },      /* XSS */
    /*
     * Hyper-V's, in each reset also without Hyper-V: the VM's, timers, and what
     * SynIC may do.  Not HV_X64_MSR_APIC_ASSIST_PAGE, which is PV EOI, too.
     */
    { 0x40000000, 0x40000002, MSR_MOVES },
    { 0x40000010, 0x40000010, MSR_MOVES },
    { 0x40000020, 0x40000021, MSR_MOVES },
    { 0x40000080, 0x4000009f, MSR_MOVES },
    { 0x400000b0, 0x400000b7, MSR_MOVES },
    { 0x40000100, 0x40000108, MSR_MOVES },
    { 0x4b564d02, 0x4b564d04, MSR_PAGE },       /* ASYNC_PF_EN, STEAL_TIME,
                                                   PV_EOI_EN */
    { 0x4b564d05, 0x4b564d06, MSR_PLAIN },      /* POLL_CONTROL, ASYNC_PF_INT */
    { 0xc0000081, 0xc0000084, MSR_PLAIN },      /* STAR, LSTAR, CSTAR, FMASK */
    { 0xc0000102, 0xc0000104, MSR_PLAIN },      /* KERNEL_GS_BASE, TSC_AUX,
                                                   AMD64_TSC_RATIO */
    { 0xc0010015, 0xc0010015, MSR_PLAIN },      /* HWCR */
    { 0xc0010117, 0xc0010117, MSR_PLAIN },      /* VM_HSAVE_PA */
    { 0xc001011f, 0xc001011f, MSR_PLAIN },      /* VIRT_SSBD */
};

#define TSC_DEADLINE    0x6e0

typedef struct KnownMsr {
    uint32_t index;
    bool known, readable;
    uint64_t value;
    uint64_t held;              /* if verifying: as KVM told it */
} KnownMsr;

typedef struct KnownState {
    bool known;                 /* what it was last read or written as */
    bool readable;              /* that is what a read would answer */
    uint8_t *data;
    uint8_t *held;              /* if verifying: as KVM told it */
} KnownState;

struct KVMStateKnown {
    const KVMStateKnownOps *ops;
    void *opaque;
    bool verify;
    size_t xsave_size;
    uint8_t *scratch;           /* if verifying */

    KnownState states[NR_STATES];
    GArray *msrs;               /* KnownMsr */
    unsigned int next_msr;      /* lists come in one order: where to look */
    struct kvm_msrs *part;      /* of a list, what has to be sent of it */
    unsigned int *position;     /* of each entry of @part in the list */
    unsigned int part_size;

    bool used;                  /* since it ran: there may be what to forget */
    int smm;                    /* -1 if not known */
    bool doubt;                 /* see run() */

    /*
     * The last argument of two ioctls that set what only userspace can:
     * running does not change it.
     */
    bool vapic_off, tpr_reports_off;
};

static size_t state_size(const KVMStateKnown *k, StateId id)
{
    return kinds[id].size ? kinds[id].size : k->xsave_size;
}

KVMStateKnown *kvm_known_new(const KVMStateKnownOps *ops, void *opaque,
                             size_t xsave_size, bool verify)
{
    KVMStateKnown *k = g_new0(KVMStateKnown, 1);
    size_t largest = 0;

    k->ops = ops;
    k->opaque = opaque;
    k->xsave_size = xsave_size;
    k->verify = verify;
    k->msrs = g_array_new(false, true, sizeof(KnownMsr));
    k->smm = -1;
    for (StateId id = 0; id < NR_STATES; id++) {
        size_t size = state_size(k, id);

        k->states[id].data = g_malloc0(size);
        k->states[id].held = verify ? g_malloc0(size) : NULL;
        largest = MAX(largest, size);
    }
    k->scratch = verify ? g_malloc0(largest) : NULL;
    return k;
}

void kvm_known_free(KVMStateKnown *k)
{
    if (!k) {
        return;
    }
    for (StateId id = 0; id < NR_STATES; id++) {
        g_free(k->states[id].data);
        g_free(k->states[id].held);
    }
    g_array_unref(k->msrs);
    g_free(k->part);
    g_free(k->position);
    g_free(k->scratch);
    g_free(k);
}

static void forget_states(KVMStateKnown *k, unsigned int states)
{
    for (StateId id = 0; id < NR_STATES; id++) {
        if (states & BIT(id)) {
            k->states[id].known = k->states[id].readable = false;
        }
    }
}

/* All that running may change */
static void forget(KVMStateKnown *k)
{
    forget_states(k, MAKE_64BIT_MASK(0, NR_STATES));
    for (unsigned int i = 0; i < k->msrs->len; i++) {
        KnownMsr *msr = &g_array_index(k->msrs, KnownMsr, i);

        msr->known = msr->readable = false;
    }
    k->smm = -1;
    k->doubt = false;
}

void kvm_known_forget(KVMStateKnown *k)
{
    forget(k);
    k->vapic_off = k->tpr_reports_off = false;
}

static int pass(KVMStateKnown *k, unsigned long type, void *arg)
{
    return k->ops->ioctl(k->opaque, type, arg);
}

/* Returns the name of the first field that differs, or NULL */
static const char *differ(const KVMStateKnown *k, const StateField *fields,
                          const void *a, const void *b)
{
    for (const StateField *f = fields; f->name; f++) {
        size_t size = f->size == SIZE_MAX ? k->xsave_size - f->offset : f->size;

        if (memcmp((const char *)a + f->offset, (const char *)b + f->offset,
                   size)) {
            return f->name;
        }
    }
    return NULL;
}

/* ---- events ---------------------------------------------------------- */

/*
 * Nothing is pending or injected, so that most of the rest means nothing.
 * KVM does not tell of an exception or interrupt of software's that it is about
 * to inject, and a write would make the guest execute the instruction again:
 * it is sent once REGS or SREGS were, else it is as if nobody had read.
 */
static bool quiet(const struct kvm_vcpu_events *e)
{
    return !e->exception.injected && !e->exception.pending &&
           !e->interrupt.injected && !e->nmi.injected && !e->nmi.pending &&
           !(e->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) &&
           !((e->flags & KVM_VCPUEVENT_VALID_SMM) &&
             (e->smi.pending || e->smi.latched_init)) &&
           !((e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) &&
             e->triple_fault.pending);
}

/* What @written, which may leave out some, would change of @held */
static const char *events_differ(const KVMStateKnown *k,
                                 const struct kvm_vcpu_events *held,
                                 const struct kvm_vcpu_events *written)
{
    const char *field = differ(k, nmi_mask_field, held, written);

    if (!field && (written->flags & KVM_VCPUEVENT_VALID_SHADOW)) {
        field = differ(k, shadow_field, held, written);
    }
    if (!field && (written->flags & KVM_VCPUEVENT_VALID_SMM)) {
        field = differ(k, smm_fields, held, written);
    }
    return field;
}

/* ---- other states ---------------------------------------------------- */

/*
 * Not in guest mode, and for VMX not in VMX operation, either: then a write of
 * the same leaves a mode that the vCPU is not in.
 */
static bool idle(const struct kvm_nested_state *n)
{
    return !(n->flags & ~KVM_STATE_NESTED_GIF_SET) &&
           (n->format == KVM_STATE_NESTED_FORMAT_SVM ||
            (n->format == KVM_STATE_NESTED_FORMAT_VMX &&
             n->hdr.vmx.vmxon_pa == -1ull));
}

/* The other states of a vCPU are left by an INIT or SIPI, or by a wakeup. */
static bool stable(const struct kvm_mp_state *m)
{
    return m->mp_state == KVM_MP_STATE_RUNNABLE ||
           m->mp_state == KVM_MP_STATE_UNINITIALIZED;
}

/*
 * Switched off by software, and its timer not started: it accepts no interrupt
 * (kvm_apic_local_deliver(), __apic_accept_irq()), so that nothing changes it
 * but its vCPU and userspace.
 */
static bool silent(const struct kvm_lapic_state *l)
{
    return !(l->regs[0xf1] & 1) &&
           !l->regs[0x380] && !l->regs[0x381] &&
           !l->regs[0x382] && !l->regs[0x383];
}

/* Some states are known only in part of what they can be. */
static bool may_be_known(StateId id, const void *data)
{
    switch (id) {
    case NESTED:
        return idle(data);
    case MP_STATE:
        return stable(data);
    case LAPIC:
        return silent(data);
    default:
        return true;
    }
}

static bool same(const KVMStateKnown *k, StateId id, const void *held,
                 const void *written)
{
    switch (id) {
    case EVENTS: {
        const struct kvm_vcpu_events *e = written;

        /*
         * With NMI_PENDING it is a reset's, or a load's, and to drop what came
         * from outside since the read is what it is for.
         */
        return !(e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) &&
               quiet(held) && quiet(e) && !events_differ(k, held, e);
    }
    case SREGS: {
        static const struct kvm_sregs none;
        const struct kvm_sregs *s = written;

        return !differ(k, kinds[id].fields, held, written) &&
               !memcmp(s->interrupt_bitmap, none.interrupt_bitmap,
                       sizeof(s->interrupt_bitmap));
    }
    case SREGS2: {
        const struct kvm_sregs2 *s = written;

        return !differ(k, kinds[id].fields, held, written) &&
               !((s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) &&
                 differ(k, pdptrs_field, held, written));
    }
    case NESTED:
        return idle(written) && !differ(k, kinds[id].fields, held, written);
    default:
        return !differ(k, kinds[id].fields, held, written);
    }
}

static const char *state_mismatch(const KVMStateKnown *k, StateId id,
                                  const void *known, const void *now)
{
    const char *field;

    if (id == EVENTS) {
        return events_differ(k, now, known);
    }
    field = differ(k, kinds[id].fields, known, now);
    if (!field && id == SREGS2 &&
        (((const struct kvm_sregs2 *)now)->flags &
         KVM_SREGS2_FLAGS_PDPTRS_VALID)) {
        field = differ(k, pdptrs_field, known, now);
    }
    return field;
}

/* Read what KVM holds; false if it can't be read */
static bool hold(KVMStateKnown *k, StateId id, void *to)
{
    const StateKind *kind = &kinds[id];
    unsigned long type = id == XSAVE && k->xsave_size > sizeof(struct kvm_xsave)
        ? kind->get_too : kind->get;

    if (id == NESTED) {
        /* The header alone, all that there is if idle */
        ((struct kvm_nested_state *)to)->size = kind->size;
    }
    return pass(k, type, to) >= 0;
}

static void verify_state(KVMStateKnown *k, StateId id)
{
    const char *field;

    /* Reading MP_STATE may change it: see read_mp_state(). */
    if (!k->verify || id == MP_STATE || !hold(k, id, k->scratch)) {
        return;
    }
    field = state_mismatch(k, id, k->states[id].held, k->scratch);
    if (field) {
        k->ops->mismatch(k->opaque, kinds[id].name, field);
    }
}

static void remember(KVMStateKnown *k, StateId id, const void *arg, bool read)
{
    KnownState *state = &k->states[id];

    memcpy(state->data, arg, state_size(k, id));
    state->known = true;
    state->readable = read;
    if (!k->verify || id == MP_STATE) {
        return;
    }
    if (read) {
        memcpy(state->held, arg, state_size(k, id));
    } else if (!hold(k, id, state->held)) {
        state->known = false;
    }
}

/* ---- MSRs ------------------------------------------------------------ */

static MsrClass msr_class(uint32_t index)
{
    unsigned int from = 0, to = ARRAY_SIZE(msr_classes);

    while (from < to) {
        unsigned int i = (from + to) / 2;

        if (index < msr_classes[i].first) {
            to = i;
        } else if (index > msr_classes[i].last) {
            from = i + 1;
        } else {
            return msr_classes[i].class;
        }
    }
    return MSR_UNKNOWN;
}

static bool may_know_msr(uint32_t index)
{
    switch (msr_class(index)) {
    case MSR_UNKNOWN:
    case MSR_MOVES:
    case MSR_TSC_VALUE:
    case MSR_APIC_BASE:
        return false;
    default:
        return true;
    }
}

static KnownMsr *find_msr(KVMStateKnown *k, uint32_t index)
{
    KnownMsr new = { .index = index };

    for (unsigned int i = 0; i < k->msrs->len; i++) {
        unsigned int at = (k->next_msr + i) % k->msrs->len;

        if (g_array_index(k->msrs, KnownMsr, at).index == index) {
            k->next_msr = at + 1;
            return &g_array_index(k->msrs, KnownMsr, at);
        }
    }
    g_array_append_val(k->msrs, new);
    k->next_msr = k->msrs->len;
    return &g_array_index(k->msrs, KnownMsr, k->msrs->len - 1);
}

static void know_msr(KVMStateKnown *k, uint32_t index, bool known)
{
    KnownMsr *msr = find_msr(k, index);

    *msr = (KnownMsr) { .index = index, .known = known };
}

static bool apic_base_is(const KVMStateKnown *k, uint64_t value)
{
    const struct kvm_sregs *s = (void *)k->states[SREGS].data;
    const struct kvm_sregs2 *s2 = (void *)k->states[SREGS2].data;

    return (k->states[SREGS].known && s->apic_base == value) ||
           (k->states[SREGS2].known && s2->apic_base == value);
}

static bool msr_write_does_nothing(KVMStateKnown *k,
                                   const struct kvm_msr_entry *e)
{
    const KnownState *nested = &k->states[NESTED];
    MsrClass class = msr_class(e->index);
    KnownMsr *msr;

    switch (class) {
    case MSR_UNKNOWN:
    case MSR_MOVES:
    case MSR_TSC_VALUE:
        return false;
    case MSR_APIC_BASE:
        return apic_base_is(k, e->data);
    default:
        break;
    }

    msr = find_msr(k, e->index);
    if (!msr->known || msr->value != e->data) {
        return false;
    }
    switch (class) {
    case MSR_PAGE:
        return e->data == 0;
    case MSR_FEATURES:
        return e->data || (nested->known && idle((void *)nested->data));
    default:
        return true;
    }
}

static bool msr_read_is_known(KVMStateKnown *k, uint32_t index)
{
    switch (msr_class(index)) {
    case MSR_PLAIN:
    case MSR_PAGE:
    case MSR_FEATURES:
    case MSR_XFD_MASK:
        return find_msr(k, index)->readable;
    default:
        return false;
    }
}

/* After a write that was sent */
static void touch_msr(KVMStateKnown *k, const struct kvm_msr_entry *e)
{
    const KnownState *nested = &k->states[NESTED];

    switch (msr_class(e->index)) {
    case MSR_UNKNOWN:
        forget(k);
        break;
    case MSR_APIC_BASE:
        /* Switching the local APIC off resets it, its CR8 among the rest. */
        forget_states(k, BIT(SREGS) | BIT(SREGS2) | BIT(LAPIC));
        know_msr(k, TSC_DEADLINE, false);
        break;
    case MSR_FEATURES:
        if (!e->data && !(nested->known && idle((void *)nested->data))) {
            forget(k);
        }
        break;
    case MSR_XFD_MASK:
        forget_states(k, BIT(XSAVE));
        break;
    case MSR_TSC_VALUE:
        if (find_msr(k, TSC_DEADLINE)->value) {
            know_msr(k, TSC_DEADLINE, false);
        }
        break;
    default:
        break;
    }
}

static void remember_msr(KVMStateKnown *k, const struct kvm_msr_entry *e,
                         bool read)
{
    KnownMsr *msr;

    if (!may_know_msr(e->index)) {
        return;
    }
    msr = find_msr(k, e->index);
    *msr = (KnownMsr) {
        .index = e->index, .known = true, .readable = read,
        .value = e->data, .held = e->data,
    };
    if (k->verify && !read) {
        struct {
            struct kvm_msrs info;
            struct kvm_msr_entry entry;
        } buf = { .info.nmsrs = 1, .entry.index = e->index };

        msr->known = pass(k, KVM_GET_MSRS, &buf) == 1;
        msr->held = buf.entry.data;
    }
}

static void verify_msr(KVMStateKnown *k, uint32_t index)
{
    struct {
        struct kvm_msrs info;
        struct kvm_msr_entry entry;
    } buf = { .info.nmsrs = 1, .entry.index = index };
    MsrClass class = msr_class(index);
    uint64_t held;

    if (!k->verify || class == MSR_DEADLINE ||
        pass(k, KVM_GET_MSRS, &buf) != 1) {
        return;
    }
    held = class != MSR_APIC_BASE ? find_msr(k, index)->held :
        k->states[SREGS2].known ?
        ((struct kvm_sregs2 *)k->states[SREGS2].held)->apic_base :
        ((struct kvm_sregs *)k->states[SREGS].held)->apic_base;
    if (buf.entry.data != held) {
        g_autofree char *name = g_strdup_printf("MSR 0x%" PRIx32, index);

        k->ops->mismatch(k->opaque, "KVM_SET_MSRS", name);
    }
}

static void reserve_part(KVMStateKnown *k, unsigned int nmsrs)
{
    if (nmsrs > k->part_size) {
        k->part = g_realloc(k->part, sizeof(struct kvm_msrs) +
                            nmsrs * sizeof(struct kvm_msr_entry));
        k->position = g_renew(unsigned int, k->position, nmsrs);
        k->part_size = nmsrs;
    }
    k->part->nmsrs = 0;
    k->part->pad = 0;
}

static void add_to_part(KVMStateKnown *k, const struct kvm_msrs *list,
                        unsigned int i)
{
    k->position[k->part->nmsrs] = i;
    k->part->entries[k->part->nmsrs++] = list->entries[i];
}

static int send_part(KVMStateKnown *k, unsigned long type,
                     const struct kvm_msrs *list, KVMStateOutcome *outcome)
{
    int ret;

    outcome->msrs_saved = list->nmsrs - k->part->nmsrs;
    outcome->saved = !k->part->nmsrs;
    if (outcome->saved) {
        return list->nmsrs;
    }
    ret = pass(k, type, k->part);
    if (ret >= 0) {
        /* How many of the list were done before one could not be */
        return ret < k->part->nmsrs ? k->position[ret] : list->nmsrs;
    }
    return ret;
}

static int write_msrs(KVMStateKnown *k, struct kvm_msrs *list,
                      KVMStateOutcome *outcome)
{
    int ret, sent;

    if (!list->nmsrs) {
        return pass(k, KVM_SET_MSRS, list);
    }
    reserve_part(k, list->nmsrs);
    for (unsigned int i = 0; i < list->nmsrs; i++) {
        const struct kvm_msr_entry *e = &list->entries[i];

        if (msr_write_does_nothing(k, e)) {
            verify_msr(k, e->index);
            continue;
        }
        add_to_part(k, list, i);
        /* A list may write one twice, or one that changes another. */
        touch_msr(k, e);
        if (may_know_msr(e->index)) {
            KnownMsr *msr = find_msr(k, e->index);

            *msr = (KnownMsr) {
                .index = e->index, .known = true, .value = e->data,
            };
        }
    }
    ret = send_part(k, KVM_SET_MSRS, list, outcome);
    sent = k->part->nmsrs;
    if (ret != list->nmsrs) {
        forget(k);
        return ret;
    }
    for (int i = 0; k->verify && i < sent; i++) {
        if (find_msr(k, k->part->entries[i].index)->known) {
            remember_msr(k, &k->part->entries[i], false);
        }
    }
    return ret;
}

static int read_msrs(KVMStateKnown *k, struct kvm_msrs *list,
                     KVMStateOutcome *outcome)
{
    int ret;

    if (!list->nmsrs) {
        return pass(k, KVM_GET_MSRS, list);
    }
    reserve_part(k, list->nmsrs);
    for (unsigned int i = 0; i < list->nmsrs; i++) {
        struct kvm_msr_entry *e = &list->entries[i];

        if (msr_read_is_known(k, e->index)) {
            verify_msr(k, e->index);
            e->data = find_msr(k, e->index)->value;
        } else {
            add_to_part(k, list, i);
        }
    }
    ret = send_part(k, KVM_GET_MSRS, list, outcome);
    for (int i = 0; i < k->part->nmsrs && (int)k->position[i] < ret; i++) {
        struct kvm_msr_entry *e = &list->entries[k->position[i]];

        e->data = k->part->entries[i].data;
        remember_msr(k, e, true);
    }
    return ret;
}

/* ---- ioctls ---------------------------------------------------------- */

/* After a write that was sent */
static void touch(KVMStateKnown *k, StateId id, const void *arg)
{
    const struct kvm_mp_state *mp = (void *)k->states[MP_STATE].data;
    bool runnable = k->states[MP_STATE].known &&
                    mp->mp_state == KVM_MP_STATE_RUNNABLE;
    unsigned int touches = kinds[id].touches;

    if (runnable) {
        /* Made runnable again, it is what it was. */
        touches &= ~BIT(MP_STATE);
    }

    switch (id) {
    case SREGS:
    case SREGS2:
        know_msr(k, TSC_DEADLINE, false);
        break;
    case EVENTS: {
        const struct kvm_vcpu_events *e = arg;
        int smm = e->flags & KVM_VCPUEVENT_VALID_SMM ? e->smi.smm : k->smm;

        /*
         * kvm_smm_changed(), and kvm_leave_nested() before it.  The write
         * itself is never known: only a read says what it came to.
         */
        if (k->smm != smm || smm < 0) {
            forget(k);
        }
        k->smm = smm;
        touches = BIT(EVENTS);
        break;
    }
    case LAPIC: {
        const struct kvm_lapic_state *l = arg;
        const struct kvm_sregs *s = (void *)k->states[SREGS].data;
        const struct kvm_sregs2 *s2 = (void *)k->states[SREGS2].data;
        unsigned int cr8 = (uint8_t)l->regs[0x80] >> 4;
        unsigned int mode = (uint8_t)l->regs[0x322] >> 1 & 3;

        /* TPR is CR8.  A deadline counts in its own mode of the timer alone. */
        if (s->cr8 != cr8) {
            touches |= BIT(SREGS);
        }
        if (s2->cr8 != cr8) {
            touches |= BIT(SREGS2);
        }
        know_msr(k, TSC_DEADLINE, mode != 2);
        break;
    }
    case NESTED: {
        const KnownState *nested = &k->states[NESTED];

        if (!nested->known || !idle((void *)nested->data) || !idle(arg)) {
            forget(k);
        }
        break;
    }
    default:
        break;
    }
    forget_states(k, touches);
}

static int write_state(KVMStateKnown *k, StateId id, void *arg,
                       KVMStateOutcome *outcome)
{
    KnownState *state = &k->states[id];
    int ret;

    if (state->known && same(k, id, state->data, arg)) {
        outcome->saved = true;
        verify_state(k, id);
        return 0;
    }

    ret = pass(k, kinds[id].set, arg);
    if (ret < 0) {
        forget(k);
        return ret;
    }
    touch(k, id, arg);
    if (id != EVENTS && may_be_known(id, arg)) {
        remember(k, id, arg, false);
    } else {
        forget_states(k, BIT(id));
    }
    return ret;
}

/*
 * A vCPU that waits for its INIT is asked to run, and comes back without
 * having done so.  Nothing but a write by userspace makes a vCPU
 * UNINITIALIZED, kvm_arch_vcpu_ioctl_run() then only blocks, and an INIT makes
 * it another: if it is UNINITIALIZED still, then it has never run, and what
 * was known is, but for XSAVE and LAPIC: its FPU was loaded and saved, and
 * XSTATE_BV may tell otherwise of parts in their initial state; and processors
 * that post interrupts do so for each local APIC.  KVM_GET_VCPU_EVENTS may come
 * before the question.
 */
static int run(KVMStateKnown *k)
{
    const struct kvm_mp_state *mp = (void *)k->states[MP_STATE].data;

    if (k->states[MP_STATE].known &&
        mp->mp_state == KVM_MP_STATE_UNINITIALIZED) {
        k->doubt = true;
        forget_states(k, BIT(XSAVE) | BIT(LAPIC));
    } else if (k->used) {
        forget(k);
        k->used = false;
    }
    return pass(k, KVM_RUN, NULL);
}

static int read_mp_state(KVMStateKnown *k, struct kvm_mp_state *arg,
                         KVMStateOutcome *outcome)
{
    KnownState *state = &k->states[MP_STATE];
    bool doubt = k->doubt;
    int ret;

    /*
     * The read itself lets an INIT or SIPI that waits take effect, and so may
     * change all the rest: not sent, there is none until the next read of the
     * events says so.
     */
    if (state->known && !doubt && k->states[EVENTS].known) {
        outcome->saved = true;
        verify_state(k, MP_STATE);
        memcpy(arg, state->data, sizeof(*arg));
        return 0;
    }

    ret = pass(k, KVM_GET_MP_STATE, arg);
    if (ret < 0) {
        forget(k);
        return ret;
    }
    if (!doubt || arg->mp_state != KVM_MP_STATE_UNINITIALIZED) {
        bool events_known = k->states[EVENTS].known;
        int smm = k->smm;

        forget(k);
        /* They were read before; as without this, they are what is known. */
        k->states[EVENTS].known = events_known;
        k->smm = smm;
    }
    k->doubt = false;
    if (stable(arg)) {
        remember(k, MP_STATE, arg, true);
    }
    return ret;
}

static int read_events(KVMStateKnown *k, struct kvm_vcpu_events *arg)
{
    int ret = pass(k, KVM_GET_VCPU_EVENTS, arg);

    if (ret < 0 || !quiet(arg)) {
        forget(k);
    }
    if (ret >= 0) {
        remember(k, EVENTS, arg, true);
        k->smm = arg->flags & KVM_VCPUEVENT_VALID_SMM ? arg->smi.smm : -1;
    }
    return ret;
}

static int read_state(KVMStateKnown *k, StateId id, unsigned long type,
                      void *arg, KVMStateOutcome *outcome)
{
    KnownState *state = &k->states[id];
    int ret;

    if (state->known && state->readable) {
        outcome->saved = true;
        verify_state(k, id);
        memcpy(arg, state->data, state_size(k, id));
        return 0;
    }

    ret = pass(k, type, arg);
    if (ret >= 0 && may_be_known(id, arg)) {
        remember(k, id, arg, true);
    } else {
        forget_states(k, BIT(id));
    }
    return ret;
}

/*
 * Of KVMVapic: an address of 0, and no reports, are what a VM without Windows
 * XP has all the time.  Another address is looked up in the memory slots.
 */
static int write_vapic(KVMStateKnown *k, unsigned long type, void *arg,
                       bool off, bool *known_off, KVMStateOutcome *outcome)
{
    int ret;

    if (off && *known_off) {
        outcome->saved = true;
        return 0;
    }
    ret = pass(k, type, arg);
    *known_off = off && ret >= 0;
    return ret;
}

static bool find_kind(unsigned long type, StateId *id, bool *write)
{
    for (*id = 0; *id < NR_STATES; (*id)++) {
        const StateKind *kind = &kinds[*id];

        *write = type == kind->set;
        if (*write || type == kind->get ||
            (kind->get_too && type == kind->get_too)) {
            return true;
        }
    }
    return false;
}

void kvm_known_classify(unsigned long type, KVMStateOutcome *outcome)
{
    StateId id;

    *outcome = (KVMStateOutcome) {};
    switch (type) {
    case KVM_RUN:
        break;
    case KVM_GET_MSRS:
        outcome->read = true;
        break;
    case KVM_SET_MSRS:
    case KVM_SET_VAPIC_ADDR:
    case KVM_TPR_ACCESS_REPORTING:
        outcome->write = true;
        break;
    default:
        outcome->read = find_kind(type, &id, &outcome->write) &&
                        !outcome->write;
        break;
    }
}

int kvm_known_ioctl(KVMStateKnown *k, unsigned long type, void *arg,
                    KVMStateOutcome *outcome)
{
    StateId id;
    bool write;

    kvm_known_classify(type, outcome);
    if (type == KVM_RUN) {
        return run(k);
    }
    k->used = true;
    switch (type) {
    case KVM_GET_CPUID2:
    case KVM_GET_STATS_FD:
    case KVM_GET_TSC_KHZ:
    case KVM_KVMCLOCK_CTRL:
    case KVM_SET_SIGNAL_MASK:
    case KVM_TRANSLATE:
        /* They change nothing of what is remembered. */
        return pass(k, type, arg);
    case KVM_SET_VAPIC_ADDR:
        return write_vapic(k, type, arg,
                           !((struct kvm_vapic_addr *)arg)->vapic_addr,
                           &k->vapic_off, outcome);
    case KVM_TPR_ACCESS_REPORTING:
        return write_vapic(k, type, arg,
                           !((struct kvm_tpr_access_ctl *)arg)->enabled,
                           &k->tpr_reports_off, outcome);
    case KVM_GET_VCPU_EVENTS:
        return read_events(k, arg);
    case KVM_GET_MP_STATE:
        return read_mp_state(k, arg, outcome);
    }

    if (k->doubt) {
        forget(k);
    }
    switch (type) {
    case KVM_GET_MSRS:
        return read_msrs(k, arg, outcome);
    case KVM_SET_MSRS:
        return write_msrs(k, arg, outcome);
    }
    if (!find_kind(type, &id, &write)) {
        forget(k);
        return pass(k, type, arg);
    }
    return write ? write_state(k, id, arg, outcome) :
                   read_state(k, id, type, arg, outcome);
}
