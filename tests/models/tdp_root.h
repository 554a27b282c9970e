/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tdp_root.pml is about: the state, and what KVM's functions do to it. */

/* Configurations and mutations: `check` sets all of them. */
#ifndef NV
#define NV	1	/* vCPUs */
#define NP	1	/* mmu->prev_roots[], 1 or 2; KVM has 3 */
#define NESTED	0	/* L2 and nested paging: 1 always, 2 if L1 likes */
#define PER	2	/* roots of one role at a time, all but one of them invalid */
#define ELIDERS	1	/* vCPUs from this one on reset without ELIDE */
#define AMD	1	/* 0: Intel */
#define MAPS	1	/* 0: page faults are left out, a root is one page */
#define PREFAULT 0	/* KVM_PRE_FAULT_MEMORY */
#define ZAPS	0	/* memslot updates */
#define NOTIFIER 0	/* one MMU notifier */
#define CAPS	0	/* live changes of the limit */
#define DESTROY	0	/* the VM ends */
#define LIMITS	3	/* 1: DROP alone; 3: a quota and no limit, too */
#define QUOTA	1	/* in pages: a root has one, and one more if it maps something */
#define LIVE	0	/* 1: vCPUs get into the guest; 2: memslot updates return */
#endif

mtype = {
	VMCB_NO_LOAD, LEAVE_NO_RESET, LEAVE_NO_FLUSH, LEAVE_OLD, ENTRY_FAILS, EXIT_FAILS,
	SHUTDOWN_NO_LOAD, SWITCH_NO_LOAD, SWITCH_NO_FLUSH, SWITCH_TO_INVALID, LOAD_NO_FLUSH,
	LOAD_NO_CHECK, SWITCH_NO_CHECK, GUEST_MMU_NO_CHECK, CAP_NO_CHECK, SPLIT_NO_CHECK,
	EVICT_NO_REQUEST, EVICT_NO_KICK, EVICT_UNLOCKED, EVICT_USED, WORKER_NO_LOCK,
	WORKER_KEEPS_LOCK, MODE_AFTER_CHECK, FAULT_NOT_STALE, PREFAULT_NO_RELOAD,
	NOTIFIER_VALID_ONLY, CANCEL_LATE
};
#ifndef MUT			/* from the environment: one program for all of them */
#define MUT	c_expr { mutation }
c_decl {
	\#include <stdlib.h>
	static int mutation;
	__attribute__((constructor)) static void get_mutation(void)
	{
		mutation = getenv("MUT") ? atoi(getenv("MUT")) : 0;
	}
}
#endif

#define NR	((2 + NESTED / 2) * PER)	/* numbers of roots, from 1 */
#define NONE	0		/* INVALID_PAGE; in cr3: nothing that the vCPU holds */
#define H	(NR + 1)	/* guest_mmu's root */
#define DROPPED	(NR + 2)	/* in tlb: a root that the vCPU holds no more */

#define N	0		/* roles: L1, */
#define S	1		/* L1 in SMM, */
#define G	2		/* L2 of an L1 that doesn't use nested paging */

#define INF	99

#define PRESENT	0		/* the memslot */
#define INVAL	1		/* KVM_MEMSLOT_INVALID: being deleted */
#define GONE	2		/* the update has returned */

/*
 * struct kvm_mmu_page of the roots.  Each role has PER numbers, the first for the
 * valid root.  A root that becomes invalid gets another number, and whoever names
 * it does so by that number from then on, which keeps the number of states small.
 */
byte ref[NR + 1];		/* tdp_mmu_root_count; 0: there is none */
byte sched[NR + 1];		/* tdp_mmu_scheduled_root_to_zap */
bit spte[NR + 1];		/* maps a page of the memslot */
bit flight[NR + 1];		/* cleared, handle_changed_spte() is yet to come */

/* struct kvm_vcpu */
byte root[NV], prev[NV * NP];	/* root_mmu.root, .prev_roots */
byte role[NV];			/* root_mmu.root_role */
bit groot[NV], gobs[NV];	/* guest_mmu.root, a shadow root: is there, is obsolete */
bit nested[NV];			/* vcpu->arch.mmu is guest_mmu */
bit smm[NV], l2[NV];		/* is_smm(), is_guest_mode() */
byte cr3[NV * 2];		/* nested_cr3 of vmcb01, vmcb02; EPTP of vmcs01, vmcs02 */
byte tlb[NV];			/* the root through which the TLB got the page */
bit r_free[NV];			/* KVM_REQ_MMU_FREE_OBSOLETE_ROOTS */
bit r_load[NV], r_flush[NV];	/* KVM_REQ_LOAD_MMU_PGD, KVM_REQ_TLB_FLUSH* */
bit in_guest[NV];		/* vcpu->mode == IN_GUEST_MODE */
bit runs[NV];			/* between VMRUN and #VMEXIT */
bit kick[NV];			/* an IPI is on its way, its sender waits */
bit busy[NV];			/* its role has changed, and no root was loaded since */

/* struct kvm */
byte limit;			/* arch.tdp_root_policy and .tdp_root_quota */
byte slot;			/* the memslot */
bit writer;			/* mmu_lock, held for write over several steps, */
byte readers;			/* for read */
bit slots_lock, waiting;	/* waiting: a memslot update gets it next */
bit queued, running;		/* arch.tdp_root_work */
bit capping;			/* an ioctl is about to queue it */
bit closing, vcpus_freed;
byte closed;
#if LIVE
bit acted[NV];			/* one change of the mode for each VM-Enter */
#define MAY_ACT(v)	(!closing && !inj && !acted[v])
#define ACTED(v, x)	acted[v] = x
#else
#define MAY_ACT(v)	(!closing)
#define ACTED(v, x)	skip
#endif

hidden byte i_, t_;		/* within one step */

#define IF(c, s)	if :: c -> s :: else fi
#define PREV(v, i)	prev[(v) * NP + (i) - 1]	/* i from 1 */
#define CUR(v)		cr3[(v) * 2 + l2[v]]		/* of svm->current_vmcb */
#define MMU_ROOT(v)	(nested[v] -> groot[v] * H : root[v])
#define REQUESTED(v)	(r_free[v] || r_load[v] || r_flush[v])
#define MODE_ROLE(v)	(l2[v] -> G : (smm[v] -> S : N))
#define ROLE(r)		(((r) - 1) / PER)
#define INVALID(r)	((r) && ((r) - 1) % PER)	/* role.invalid */
#define VALID(r)	(ref[r] && !INVALID(r))
#define HAS_ROOTS(v)	(root[v] || PREV(v, 1) || PREV(v, NP))
#define OF_L2(r)	((r) && ROLE(r) == G)
#define HAS_L2_ROOTS(v)	(groot[v] || OF_L2(PREV(v, 1)) || OF_L2(PREV(v, NP)))
#define HELD(v, r)	(root[v] == (r) || PREV(v, 1) == (r) || PREV(v, NP) == (r) || \
			 (groot[v] && (r) == H))

#if (2 + NESTED / 2) * PER == 4
#define ALL(f)		f(1) f(2) f(3) f(4)
#elif (2 + NESTED / 2) * PER == 6
#define ALL(f)		f(1) f(2) f(3) f(4) f(5) f(6)
#else
#define ALL(f)		f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9)
#endif
#if NV == 1
#define ANY(f)		f(0)
#define ANY1(f, r)	f(0, r)
#else
#define ANY(f)		(f(0) || f(1))
#define ANY1(f, r)	(f(0, r) || f(1, r))
#endif
#define KICKED(v)	kick[v]
#define BUSY(v)		busy[v]
#define USES(v, r)	(role[v] == ROLE(r))
#define WALKS(v, r)	(runs[v] && CUR(v) == (r))
#define TRANSLATES(v)	(runs[v] && tlb[v] && tlb[v] == CUR(v))
#define KEEPS_INVALID(v) (!r_free[v] && (INVALID(root[v]) || INVALID(PREV(v, 1)) || \
					 INVALID(PREV(v, NP))))

/* tdp_mmu_root_is_used(); pages of valid roots that aren't; stat.tdp_root_pages */
#define UNUSED(r)	(VALID(r) && !ANY1(USES, r))
#define UNUSED_(r)	+ UNUSED(r) * (1 + spte[r])
#define UNUSED_PAGES	(0 ALL(UNUSED_))
#define PAGES_(r)	+ (ref[r] > 0) * (1 + spte[r])
#define ALL_PAGES	(0 ALL(PAGES_))
#define PICK(x)		:: UNUSED(x) || (MUT == EVICT_USED && VALID(x)) -> r = x
#define MAPPED_(r)	|| spte[r] || flight[r]
#define MAPPED		(0 ALL(MAPPED_))

/* kvm_tdp_mmu_put_root() */
inline put_root(r)
{
	assert(ref[r]);
	ref[r]--;
	IF(!ref[r], assert(INVALID(r) && !sched[r] && !spte[r] && !flight[r]))
}

/* What the vCPU has dropped may not be walked or translated through any more. */
inline forget(v)
{
	cr3[v * 2] = (HELD(v, cr3[v * 2]) -> cr3[v * 2] : NONE);
	cr3[v * 2 + 1] = (HELD(v, cr3[v * 2 + 1]) -> cr3[v * 2 + 1] : NONE);
	tlb[v] = (!tlb[v] || HELD(v, tlb[v]) -> tlb[v] : DROPPED)
}

/* kvm_mmu_free_roots(): all of root_mmu's and guest_mmu's, or those that are obsolete */
inline free_roots(v, all)
{
	IF(root[v] && (all || INVALID(root[v])), put_root(root[v]); root[v] = NONE);
	for (i_ : 1 .. NP) {
		IF(PREV(v, i_) && (all || INVALID(PREV(v, i_))),
		   put_root(PREV(v, i_)); PREV(v, i_) = NONE)
	}
	groot[v] = groot[v] && !(all || gobs[v]);
	gobs[v] = 0;
	forget(v)
}

/* kvm_mmu_free_guest_mode_roots(), and those of guest_mmu */
inline free_guest_mode_roots(v)
{
	for (i_ : 1 .. NP) {
		IF(PREV(v, i_) && ROLE(PREV(v, i_)) == G, put_root(PREV(v, i_)); PREV(v, i_) = NONE)
	}
	groot[v] = 0;
	forget(v)
}

/* kvm_check_request(KVM_REQ_MMU_FREE_OBSOLETE_ROOTS), kvm_mmu_free_obsolete_roots() */
inline free_obsolete_roots(v)
{
	IF(r_free[v], r_free[v] = 0; free_roots(v, false))
}

/* fast_pgd_switch() with is_root_usable(): hit is 0 for the current root, NP + 1 for none */
#define USABLE(v, r)	(r && ROLE(r) == role[v] && (!INVALID(r) || MUT == SWITCH_TO_INVALID))
inline find_cached_root(v, hit)
{
	hit = (USABLE(v, root[v]) -> 0 : 1);
	do
	:: hit && hit <= NP && !USABLE(v, PREV(v, hit)) -> hit++
	:: else -> break
	od
}

/* cached_root_find_and_keep_current(), cached_root_find_without_current() */
inline swap_roots(v, hit)
{
	if
	:: root[v] ->
		t_ = root[v];
		i_ = (hit > NP -> NP : hit);
		root[v] = PREV(v, i_);
		do
		:: i_ > 1 -> PREV(v, i_) = PREV(v, i_ - 1); i_--
		:: else -> PREV(v, 1) = t_; break
		od;
		IF(hit > NP && root[v], put_root(root[v]); root[v] = NONE)
	:: !root[v] && hit <= NP ->
		root[v] = PREV(v, hit);
		for (i_ : hit .. NP - 1) { PREV(v, i_) = PREV(v, i_ + 1) }
		PREV(v, NP) = NONE
	:: else
	fi;
	forget(v)
}

/* Mark a root as invalid and to be zapped, mmu_lock is held for write. */
#define RENAME(x)	x = (x == r -> t_ : x)
inline invalidate(r)
{
	t_ = r + 1;
	do
	:: t_ <= NR && ref[t_] -> t_++
	:: else -> break
	od;
	assert(ROLE(t_) == ROLE(r));	/* or PER is too small */
	ref[t_] = ref[r]; ref[r] = 0;
	spte[t_] = spte[r]; spte[r] = 0;
	sched[t_] = 1;
	for (i_ : 0 .. NV - 1) {
		RENAME(root[i_]); RENAME(tlb[i_]);
		RENAME(cr3[i_ * 2]); RENAME(cr3[i_ * 2 + 1])
	}
	for (i_ : 0 .. NV * NP - 1) { RENAME(prev[i_]) }
}

/* kvm_make_all_cpus_request(): each vCPU has left the guest, or will see it first. */
#define MAKE_ALL_CPUS_REQUEST(req, wait)					\
	d_step {								\
		assert(!vcpus_freed);						\
		for (i_ : 0 .. NV - 1) {					\
			req[i_] = 1;						\
			kick[i_] = kick[i_] || (in_guest[i_] && wait)		\
		}								\
	}									\
	!ANY(KICKED)

/* tdp_mmu_zap_root(): mmu_lock is held for read, and dropped now and then. */
inline zap_root(r)
{
	assert(!ANY1(WALKS, r));	/* frees page tables */
	do
	:: atomic { spte[r] -> spte[r] = 0; flight[r] = 1 }
	   flight[r] = 0		/* handle_changed_spte() */
	:: atomic { !spte[r] -> break }
#if (ZAPS || NOTIFIER) && !LIVE
	:: readers--;			/* tdp_mmu_iter_cond_resched() */
	   atomic { !writer -> readers++ }
#endif
	od
}

/* kvm_tdp_root_check(): queue_work() */
#define CHECK			queued = queued || (limit < INF && ALL_PAGES > limit)
/* svm_switch_vmcb() */
#define SWITCH_VMCB(v)		r_load[v] = r_load[v] || (MUT != VMCB_NO_LOAD && MUT != LEAVE_OLD)
#define FLUSH(v)		r_flush[v] = MAPS	/* there is nothing in the TLB otherwise */
