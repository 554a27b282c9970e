/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Roots of KVM's TDP MMU: vCPUs that load, cache and switch them, hardware that
 * walks them, a worker that evicts those that no vCPU uses, and whoever else
 * invalidates, zaps and frees.  README.md says what stands for what.  `check`
 * has the configurations, and the mutations that take away a line each.
 *
 * A statement or an atomic block is one step to everybody else.  What is done
 * under mmu_lock without dropping it is one step, and so is what only the vCPU
 * itself can see.  (`true` before a label keeps a jump to it in the same step.)
 */
#include "tdp_root.h"

/* vcpu_run(), and ioctls on the vCPU */
proctype vcpu(byte v)
{
	byte hit;
	bit inj;		/* requests are done, events are being injected */
	bit elide, prefault;	/* what a switch, a load are for */

act:	if
	/* CR0, CR4, EFER, CPUID, INIT; SMI, RSM, KVM_SET_VCPU_EVENTS */
	:: atomic {
		MAY_ACT(v) ->
		ACTED(v, 1);
		if
		:: true
		:: !l2[v] -> smm[v] = 1 - smm[v]
		fi;
		goto reset
	   }
#if NESTED
	/* enter_svm_guest_mode() for VMRUN, RSM to L2, KVM_SET_NESTED_STATE */
	:: atomic {
		!l2[v] && !smm[v] && MAY_ACT(v) ->
		l2[v] = 1;
		IF(AMD, SWITCH_VMCB(v); FLUSH(v));
		if
		:: nested[v] = 1;	/* nested_svm_init_mmu_context(): same L2, another L2 */
			if
			:: groot[v] -> hit = 0; elide = 0; goto switch
			:: groot[v] = 0; forget(v); goto act
			fi
		:: NESTED > 1 -> role[v] = G; busy[v] = 1; goto new_pgd
		:: NESTED > 1 && AMD ->	/* nested_svm_load_cr3() fails, not for VMRUN */
			IF(MUT == ENTRY_FAILS, goto act);
			goto leave_nested
		fi
	   }
	/* nested_svm_vmexit() for exits to L1 and SMIs in L2; nested_vmx_vmexit() */
	:: atomic {
		l2[v] && MAY_ACT(v) ->
		l2[v] = 0;
		nested[v] = 0;
		IF(AMD, SWITCH_VMCB(v); FLUSH(v));
		if
		:: busy[v] = busy[v] || role[v] != N; role[v] = N; goto new_pgd
		:: MUT == EXIT_FAILS -> goto act	/* to load L1's PDPTRs: KVM_EXIT_SHUTDOWN */
		:: MUT != EXIT_FAILS -> goto reset
		fi
	   }
	/* INIT, KVM_SET_NESTED_STATE, EFER.SVME */
	:: atomic { AMD && l2[v] && MAY_ACT(v) -> goto leave_nested }
	/* shutdown_interception() clears the VMCB; INIT, with SMM or CR0.PG a reset */
	:: atomic {
		AMD && MAY_ACT(v) ->
		CUR(v) = NONE;
		r_load[v] = r_load[v] || MUT != SHUTDOWN_NO_LOAD;
		if
		:: l2[v] -> goto leave_nested
		:: !l2[v] && !smm[v] -> goto act
		:: !l2[v] -> smm[v] = 0; goto reset
		fi
	   }
#endif
#if PREFAULT
	/* kvm_vcpu_pre_fault_memory() */
	:: atomic { !nested[v] && !inj && !closing -> prefault = 1; goto reload }
#endif
	/* vcpu_enter_guest(): requests */
	:: atomic {
		!inj && !closing && (!r_free[v] || !writer) ->
		d_step {
			free_obsolete_roots(v);
			CUR(v) = (r_load[v] && MMU_ROOT(v) -> MMU_ROOT(v) : CUR(v));
			tlb[v] = (r_flush[v] -> NONE : tlb[v]);
			r_load[v] = 0;
			r_flush[v] = 0
		}
		inj = 1;
		goto act
	   }
	:: atomic { inj -> goto reload }
	:: atomic { closing && !inj -> closed++; goto out }
	fi;

	atomic {
		true;
leave_nested:	/* svm_leave_nested(): svm_switch_vmcb(), kvm_mmu_reset_context() */
		l2[v] = 0;
		nested[v] = 0;
		SWITCH_VMCB(v);
		if
		:: MUT == LEAVE_NO_RESET || MUT == LEAVE_OLD -> goto act
		:: else -> IF(MUT != LEAVE_NO_FLUSH, FLUSH(v))
		fi;
reset:		/* kvm_mmu_reset_context(): kvm_mmu_elide_reset(), or unload and init */
		if
		:: !l2[v] && role[v] != G && HAS_ROOTS(v) && v < ELIDERS &&
		   (!writer || !HAS_L2_ROOTS(v)) -> elide = 1
		:: !writer ->
			d_step { free_roots(v, true) }
		fi;
		busy[v] = busy[v] || (!nested[v] && role[v] != MODE_ROLE(v));
		if
		:: elide && root[v] && role[v] == MODE_ROLE(v) -> hit = 0
		:: else -> hit = NP + 1
		fi;
		role[v] = (nested[v] -> role[v] : MODE_ROLE(v));
		IF(!elide, hit = 0; goto act);
		d_step { free_guest_mode_roots(v) }
		IF(!hit, goto switch);
new_pgd:	/* kvm_mmu_new_pgd(): fast_pgd_switch() */
		find_cached_root(v, hit)
	}
	atomic {		/* no lock but to drop the least recently used one */
		hit <= NP || !root[v] || !PREV(v, NP) || !writer ->
switch:		true;
		d_step {
			IF(hit, swap_roots(v, hit));
			IF(hit <= NP, r_load[v] = r_load[v] || MUT != SWITCH_NO_LOAD);
			IF(elide && hit && hit <= NP && MUT != SWITCH_NO_FLUSH, FLUSH(v))
		}
		if	/* without a root, or with the same one after an elided reset */
		:: hit > NP || (elide && !hit) -> elide = 0; hit = 0; goto act
		:: else -> elide = 0; hit = 0
		fi
	}
	atomic {		/* kvm_tdp_root_loaded() */
		IF(MUT != SWITCH_NO_CHECK && (MUT != GUEST_MMU_NO_CHECK || !nested[v]), CHECK);
		busy[v] = 0;
		goto act
	}

	atomic {
		true;
reload:		/* kvm_mmu_reload(), kvm_mmu_load() */
		!writer || (!r_free[v] && MMU_ROOT(v)) ->
		d_step { free_obsolete_roots(v) }
		if
		:: MMU_ROOT(v) && prefault -> goto fault
		:: MMU_ROOT(v) && !prefault -> goto enter
		:: !MMU_ROOT(v) && nested[v] -> groot[v] = 1
		:: else ->	/* kvm_tdp_mmu_alloc_root(), mmu_lock is held for read */
			root[v] = role[v] * PER + 1;
			ref[root[v]] = (ref[root[v]] -> ref[root[v]] + 1 : 2)
		fi;
		CUR(v) = MMU_ROOT(v);				/* kvm_mmu_load_pgd() */
		IF(MUT != LOAD_NO_FLUSH, tlb[v] = NONE)		/* flush_tlb_current() */
	}
	atomic {		/* kvm_tdp_root_loaded() */
		IF(MUT != LOAD_NO_CHECK && (MUT != GUEST_MMU_NO_CHECK || !nested[v]), CHECK);
		busy[v] = 0;
		IF(prefault, goto fault);
		goto act
	}

	atomic {
		true;
enter:		/* vcpu_enter_guest(), interrupts off */
		inj = 0;
		in_guest[v] = (MUT != MODE_AFTER_CHECK)
	}
	if			/* kvm_vcpu_exit_request() */
	:: atomic { REQUESTED(v) -> in_guest[v] = 0; kick[v] = 0; goto act }
	:: atomic { !REQUESTED(v) && MUT != MODE_AFTER_CHECK -> goto vmrun }
	:: !REQUESTED(v) && MUT == MODE_AFTER_CHECK -> in_guest[v] = 1
	fi;

	atomic {
		true;
vmrun:		/* CONFIG_KVM_PROVE_MMU */
		assert(CUR(v) && CUR(v) == MMU_ROOT(v));
		assert(nested[v] || (ref[root[v]] && ROLE(root[v]) == MODE_ROLE(v)));
		assert(!nested[v] || (l2[v] && !smm[v]));
		/* AMD's TLB is tagged by ASID, Intel's by EPTP. */
		assert(!AMD || !tlb[v] || tlb[v] == CUR(v));
		assert(slot != GONE || tlb[v] != CUR(v));
		runs[v] = 1;
		busy[v] = 0;
		ACTED(v, 0)
	}
#if LIVE == 1
progress:
#endif
	do
	:: atomic {		/* the guest touches the page; guest_mmu's SPTEs aren't modelled */
		tlb[v] != CUR(v) && (nested[v] -> MAPS && !ZAPS && !NOTIFIER : spte[CUR(v)]) ->
		assert(slot != GONE);
		assert(!AMD || !tlb[v]);
		tlb[v] = CUR(v)
	   }
	:: atomic {
		runs[v] = 0;
		in_guest[v] = 0;
		kick[v] = 0;
		IF(MAPS && !nested[v] && !spte[CUR(v)], goto fault);
		goto act
	   }
	od;

	atomic {
		true;
fault:		/* kvm_tdp_mmu_page_fault(), is_page_fault_stale() */
		!writer && !(MUT == PREFAULT_NO_RELOAD && prefault && INVALID(root[v])) ->
		if
		:: INVALID(root[v]) && MUT != FAULT_NOT_STALE -> goto stale
		:: else -> spte[root[v]] = spte[root[v]] || slot == PRESENT; prefault = 0
		fi;
		goto act
	}
stale:	if
	:: atomic { prefault -> goto reload }	/* kvm_tdp_map_page() */
	:: atomic { !prefault -> goto act }
	fi;
out:	skip
}

/* tdp_root_work(), kvm_tdp_mmu_evict_root() */
active proctype worker()
{
	byte r;

end:	do
	:: atomic { queued -> queued = 0; running = 1 }
lock:	   atomic {
		(!slots_lock && !waiting) || MUT == WORKER_NO_LOCK ->
		IF(MUT != WORKER_NO_LOCK, slots_lock = 1)
	   }
evict:	   atomic {
		!writer && !readers ->
		assert(!vcpus_freed);
		if
		:: UNUSED_PAGES > limit || (MUT == EVICT_USED && !limit && ALL_PAGES) ->
			if	/* any of them, where the code takes the least recently loaded */
			ALL(PICK)
			:: else -> goto done
			fi;
			writer = 1
		:: else -> goto done
		fi
	   }
	   d_step {		/* tdp_mmu_invalidate_root(); a vCPU may have switched to it */
		invalidate(r);
		r = t_;
		IF(MUT == WORKER_NO_LOCK, sched[r] = 2);
		writer = (MUT != EVICT_UNLOCKED)
	   }
	   if
	   :: MUT == EVICT_NO_REQUEST
	   :: else -> MAKE_ALL_CPUS_REQUEST(r_free, MUT != EVICT_NO_KICK)
	   fi;
	   writer = 0;
	   /* kvm_tdp_mmu_zap_invalidated_roots() */
	   atomic { !writer -> readers++ }
	   zap_root(r);
	   atomic { sched[r] = 0; put_root(r); readers--; r = 0 }
	   IF(MUT == WORKER_KEEPS_LOCK, goto evict);
	   IF(MUT != WORKER_NO_LOCK, slots_lock = 0);
	   goto lock;
done:	   atomic { IF(MUT != WORKER_NO_LOCK, slots_lock = 0); running = 0 }
	od
}

#if ZAPS
/* kvm_set_memslot(): the memslot is deleted, and created again. */
active proctype memslots()
{
	byte n, r;

	do
	:: n < ZAPS && !closing ->
		waiting = 1;
		atomic { !slots_lock -> slots_lock = 1; waiting = 0 }
		slot = INVAL;
		atomic { !writer && !readers -> writer = 1 }
		if
		:: d_step {	/* SLOT: kvm_mmu_zap_memslot(), kvm_unmap_gfn_range() */
			true -> for (i_ : 1 .. NR) { spte[i_] = 0 }
		   }
		   MAKE_ALL_CPUS_REQUEST(r_flush, true);
		   writer = 0
		:: d_step {	/* kvm_mmu_zap_all_fast(): kvm_tdp_mmu_invalidate_all_roots() */
			true -> for (r : 1 .. NR) { IF(VALID(r), invalidate(r)) }
			for (i_ : 0 .. NV - 1) { gobs[i_] = groot[i_] }
		   }
		   MAKE_ALL_CPUS_REQUEST(r_free, true);
		   atomic { writer = 0; readers++ }
		   for (r : 1 .. NR) {	/* kvm_tdp_mmu_zap_invalidated_roots() */
			if
			:: atomic { sched[r] == 1 -> sched[r] = 0 }
			   zap_root(r);
			   atomic { put_root(r) }
			:: atomic { sched[r] == 2 }	/* beside the worker, which puts it */
			   zap_root(r)
			:: atomic { !sched[r] }
			fi
		   }
		   atomic { readers--; r = 0 }
		fi;
		atomic {
			/* Nobody maps, uses or handles a page of the memslot any more. */
			assert(!MAPPED && !ANY(TRANSLATES));
			slot = GONE;
			slots_lock = 0;
			n = (LIVE -> 0 : n + 1)
		}
#if LIVE == 2
progress:
#endif
		slot = PRESENT
	:: n == ZAPS || closing -> break
	od;
	closed++
}
#endif

#if NOTIFIER
/* kvm_mmu_notifier_invalidate_range_start(): the page goes from all roots. */
active proctype notifier()
{
	if
	:: atomic { !writer && !readers && !closing -> writer = 1 }
	   d_step {
		for (i_ : 1 .. NR) {
			spte[i_] = spte[i_] && MUT == NOTIFIER_VALID_ONLY && INVALID(i_)
		}
	   }
	   MAKE_ALL_CPUS_REQUEST(r_flush, true);
	   atomic { assert(!MAPPED && !ANY(TRANSLATES)); writer = 0 }
	:: closing
	fi;
	closed++
}
#endif

#if CAPS
/* Ioctls on the VM after which more may be retained than the limit allows */
active proctype vm_ioctls()
{
	byte n;

	do
	/* KVM_ENABLE_CAP */
	:: atomic { n < CAPS && !closing && !slots_lock && !waiting -> slots_lock = 1; capping = 1 }
		if
		:: limit = 0
		:: limit = QUOTA
		:: limit = INF
		fi;
		slots_lock = 0;
		atomic { IF(MUT != CAP_NO_CHECK, CHECK); capping = 0; n++ }
#if MAPS
	/* Eager splitting of huge pages: page tables for roots, in use or not */
	:: d_step {
		n < CAPS && !closing && !slots_lock && !writer && !readers && slot == PRESENT ->
		for (i_ : 1 .. NR) { spte[i_] = spte[i_] || VALID(i_) }
		capping = 1
	   }
		atomic { IF(MUT != SPLIT_NO_CHECK, CHECK); capping = 0; n++ }
#endif
	:: n == CAPS || closing -> break
	od;
	closed++
}
#endif

/* What holds whenever nobody is about to see to it */
active proctype always()
{
end:	do
	/* Unused roots are within the limit. */
	:: atomic {
		!closing && !queued && !running && !capping && !ANY(BUSY) &&
		UNUSED_PAGES > limit -> assert(false)
	   }
	/* No vCPU keeps a root that is invalid: it would fault for ever. */
	:: atomic { !running && !slots_lock && ANY(KEEPS_INVALID) -> assert(false) }
	od
}

/* The VM's beginning; and its end, when nobody has a file of it any more. */
init
{
	byte i;

	atomic {
		if
		:: limit = 0			/* DROP */
		:: LIMITS > 1 -> limit = QUOTA
		:: LIMITS > 1 -> limit = INF	/* DEFAULT, KEEP */
		fi;
		for (i : 0 .. NV - 1) { run vcpu(i) }
		i = 0
	}
#if DESTROY
	closing = 1;
	closed == NV + (ZAPS > 0) + NOTIFIER + (CAPS > 0);
	/* kvm_mmu_pre_destroy_vm(): cancel_work_sync() */
	IF(MUT != CANCEL_LATE, atomic { !running -> queued = 0 });
	/* kvm_arch_destroy_vm(): kvm_unload_vcpu_mmus(), kvm_destroy_vcpus() */
	for (i : 0 .. NV - 1) { d_step { free_roots(i, true) } }
	vcpus_freed = 1;
	IF(MUT == CANCEL_LATE, !queued && !running);
	/* kvm_mmu_uninit_vm() */
	d_step {
		for (i : 1 .. NR) {
			assert(!ref[i] || (ref[i] == 1 && !INVALID(i)));
			ref[i] = 0
		}
	}
#endif
}
