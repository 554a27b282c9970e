/*
 * KVM state coalescing on x86: what KVM is known to hold of a vCPU
 *
 * All ioctls of a vCPU pass through here.  A write of what KVM holds already
 * is not sent, nor is a read of what KVM is known to answer; all the rest is,
 * unchanged.  What is known is what was read or written since the vCPU last
 * ran, and what no other ioctl can have changed since.
 *
 * Nothing here touches KVM, so that a unit test can hold all of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_KVM_STATE_KNOWN_H
#define TARGET_I386_KVM_STATE_KNOWN_H

typedef struct KVMStateKnown KVMStateKnown;

typedef struct KVMStateKnownOps {
    /* Do it. Returns what ioctl(2) does, but negative errno on failure. */
    int (*ioctl)(void *opaque, unsigned long type, void *arg);
    /*
     * KVM holds something else than what is known: @name is an ioctl, @field
     * a part of it.  Called only if verifying.
     */
    void (*mismatch)(void *opaque, const char *name, const char *field);
} KVMStateKnownOps;

/* What became of an ioctl; of an ioctl that is not about state, nothing */
typedef struct KVMStateOutcome {
    bool write, read;           /* which of the two it is, if any */
    bool saved;                 /* not sent at all */
    unsigned int msrs_saved;    /* of KVM_{GET,SET}_MSRS, how many were not */
} KVMStateOutcome;

/**
 * kvm_known_new: remember the state of one vCPU
 * @ops: must live as long as the result
 * @xsave_size: of the buffers of KVM_{GET,SET}_XSAVE, in bytes
 * @verify: after each ioctl that was saved read back what KVM holds, and tell
 *          ops->mismatch
 *
 * The functions that take it must not be called for one vCPU by two threads at
 * once, no more than those ioctls may.
 */
KVMStateKnown *kvm_known_new(const KVMStateKnownOps *ops, void *opaque,
                             size_t xsave_size, bool verify);
void kvm_known_free(KVMStateKnown *k);

/* What @type is: sets @outcome->write and ->read, and clears the rest */
void kvm_known_classify(unsigned long type, KVMStateOutcome *outcome);

/* Send the next write and the next read of each kind of state */
void kvm_known_forget(KVMStateKnown *k);

/**
 * kvm_known_ioctl: do an ioctl of the vCPU, unless it would do nothing
 *
 * Returns: what ops->ioctl returned, or would have returned
 */
int kvm_known_ioctl(KVMStateKnown *k, unsigned long type, void *arg,
                    KVMStateOutcome *outcome);

#endif
