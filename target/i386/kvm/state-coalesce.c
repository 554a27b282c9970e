/*
 * KVM state coalescing on x86: the ioctls of vCPUs
 *
 * What is left out is decided in state-known.c.  KVM_CAP_SYNC_REGS, which
 * passes REGS, SREGS and EVENTS in kvm_run, is not used: it knows no SREGS2, so
 * that a PAE guest's PDPTRs are lost; it takes all three at once, and before
 * the MSRs and the nested state that have to come in between; and it would read
 * them on each exit, of which few need them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "qemu/error-report.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/kvm-own-stats.h"
#include "state-coalesce.h"
#include "state-known.h"
#include "trace.h"

static int send_ioctl(void *opaque, unsigned long type, void *arg)
{
    return kvm_vcpu_ioctl_now(opaque, type, arg);
}

/* What is known is wrong, and so may be the guest: better no guest. */
static void mismatch(void *opaque, const char *name, const char *field)
{
    CPUState *cpu = opaque;

    error_report("x-state-verify: vCPU %d: %s was not sent, but %s in KVM is "
                 "not what is known", cpu->cpu_index, name, field);
    abort();
}

static const KVMStateKnownOps known_ops = {
    .ioctl = send_ioctl,
    .mismatch = mismatch,
};

/*
 * For one vCPU in one thread at a time: in its own, or under the BQL while it
 * is stopped.
 */
static int state_vcpu_ioctl(CPUState *cpu, unsigned long type, void *arg)
{
    KVMStateCoalescing *counted = &kvm_state->state_coalescing;
    KVMStateKnown *known = X86_CPU(cpu)->kvm_state_known;
    KVMStateOutcome outcome;
    int ret;

    if (known) {
        ret = kvm_known_ioctl(known, type, arg, &outcome);
    } else {
        kvm_known_classify(type, &outcome);
        ret = kvm_vcpu_ioctl_now(cpu, type, arg);
    }

    if (outcome.write) {
        stat64_add(outcome.saved ? &counted->writes_saved :
                                   &counted->writes_sent, 1);
    } else if (outcome.read) {
        stat64_add(outcome.saved ? &counted->reads_saved :
                                   &counted->reads_sent, 1);
    } else {
        return ret;
    }
    if (outcome.msrs_saved) {
        stat64_add(&counted->msrs_saved, outcome.msrs_saved);
    }
    if (known) {
        trace_kvm_state_ioctl(cpu->cpu_index, type,
                              outcome.saved ? "saved" : "sent",
                              outcome.msrs_saved);
    }
    return ret;
}

static uint64_t get_state_writes(CPUState *cpu)
{
    return stat64_get(&kvm_state->state_coalescing.writes_sent);
}

static uint64_t get_state_writes_saved(CPUState *cpu)
{
    return stat64_get(&kvm_state->state_coalescing.writes_saved);
}

static uint64_t get_state_reads(CPUState *cpu)
{
    return stat64_get(&kvm_state->state_coalescing.reads_sent);
}

static uint64_t get_state_reads_saved(CPUState *cpu)
{
    return stat64_get(&kvm_state->state_coalescing.reads_saved);
}

static const KVMOwnStat state_stats[] = {
    { "qemu_state_writes", STATS_TARGET_VM, STATS_TYPE_CUMULATIVE,
      get_state_writes },
    { "qemu_state_writes_saved", STATS_TARGET_VM, STATS_TYPE_CUMULATIVE,
      get_state_writes_saved },
    { "qemu_state_reads", STATS_TARGET_VM, STATS_TYPE_CUMULATIVE,
      get_state_reads },
    { "qemu_state_reads_saved", STATS_TARGET_VM, STATS_TYPE_CUMULATIVE,
      get_state_reads_saved },
};

void kvm_state_coalescing_init(KVMState *s, bool enabled)
{
    kvm_own_stats_register(state_stats, ARRAY_SIZE(state_stats));
    s->state_coalescing.enabled = enabled;
    s->state_coalescing.vcpu_ioctl = state_vcpu_ioctl;
}

void kvm_state_coalescing_init_vcpu(X86CPU *cpu)
{
    const KVMStateCoalescing *state = &kvm_state->state_coalescing;

    if (state->enabled) {
        cpu->kvm_state_known = kvm_known_new(&known_ops, cpu,
                                             cpu->env.xsave_buf_len,
                                             state->verify);
    }
}

void kvm_state_coalescing_destroy_vcpu(X86CPU *cpu)
{
    kvm_known_free(cpu->kvm_state_known);
    cpu->kvm_state_known = NULL;
}

void kvm_state_coalescing_forget(X86CPU *cpu)
{
    if (cpu->kvm_state_known) {
        kvm_known_forget(cpu->kvm_state_known);
    }
}
