# SPDX-License-Identifier: GPL-2.0-or-later
"""Where instructions went: the counts of plugin/insns.c, by a kernel's functions."""

import bisect
import re

from .errors import LabError

KERNEL = 0xffffffff80000000
GUEST = 1 << 32         # no program of the host is loaded below

# What handles a store that traps, in the order of what happens.
PARTS = (
    ("leave and enter the guest",
     r"_*svm_(vcpu|handle|invoke|complete|prepare|get_int|seg|get_cs|get_seg|get_cpl|"
     r"get_rf|set_rf|check)|kvm_arch_vcpu_ioctl_run|.*spec_ctrl|.*xsave|.*rcu|"
     r".*pending_timer|kvm_(get|set)_rflags|__kvm_set_rflags|.*wait_lapic|.*srcu.*|"
     r"recalc_interc|__kvm_mmu_refresh|fpu_|get_guest_cr3"),
    ("take over the TPR",
     r".*cr8.*|.*update_ppr|kvm_lapic_set_tpr|kvm_lapic_find_highest_irr"),
    ("see that it is MMIO",
     r"npf_|kvm_mmu_page_fault|.*mmio_info.*|handle_mmio|vcpu_is_mmio"),
    ("walk the guest's page tables", r"paging64|__get_user|gfn_to_|kvm_vcpu_gfn_to"),
    ("fetch the instruction",
     r"kvm_fetch|.*insn_fetch|linearize|.*read_guest_page|rep_movs|memcpy"),
    ("decode it", r"x86_decode|decode_|init_(emul|decode)|fetch_register"),
    ("execute it", r"x86_emulate|.*writeback|em_|emulator_(get|read_gpr|write_gpr)|"
                   r"kvm_pmu_trigger|segmented_write"),
    ("find the device", r".*io_bus|bsearch|kvm_io_|apic_mmio_write|write_mmio|"
                        r"emulator_(read_write|can|write)"),
    ("put it in the ring", r"coalesced|_raw_spin"),
)


def symbols(path):
    """[(address, name)] of the functions in a System.map."""
    found = []
    with open(path, encoding="ascii") as f:
        for line in f:
            address, kind, name = line.split()
            if kind in "tT":
                found.append((int(address, 16), name))
    return sorted(found)


def by_function(path, functions):
    """{function, or what else runs there: instructions}"""
    counts = {}
    starts = [address for address, _ in functions]
    try:
        with open(path, encoding="ascii") as f:
            for line in f:
                address, count = line.split()
                address = int(address, 16)
                if address < GUEST:
                    name = "(guest)"
                elif address < KERNEL:
                    name = "(programs)"
                else:
                    name = functions[bisect.bisect(starts, address) - 1][1]
                counts[name] = counts.get(name, 0) + int(count)
    except OSError as error:
        raise LabError(f"no instructions were counted: {error}") from None
    return counts


def difference(less, more, units):
    """{function: instructions for each of the UNITS that MORE did besides}"""
    return {name: (more.get(name, 0) - less.get(name, 0)) / units
            for name in less | more}


def by_part(counts):
    """[(part, instructions)]; "other kernel" is what no part names."""
    parts = dict.fromkeys([name for name, _ in PARTS] +
                          ["other kernel", "(programs)", "(guest)"], 0)
    for function, count in counts.items():
        if function in parts:
            part = function
        else:
            part = next((name for name, pattern in PARTS
                         if re.match(pattern, function)), "other kernel")
        parts[part] += count
    return list(parts.items())
