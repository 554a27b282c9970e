# SPDX-License-Identifier: GPL-2.0-or-later
"""What scenario paths measured: costs, their table and the verdict.  Pure.

A run has `batches`: path -> {"ops": N, "ticks": [of each batch]}, where a tick
is an instruction of the host, and a phase of the path's name that counted one
batch (see tests/guest/paths.c).
"""

import statistics

from .errors import LabError

# How much more than the unpatched kernel the patched one may execute on any
# path while no policy is set, in percent.
BOUND = 1.0

# Path of the guest, what it is, and the path that does all the same but that.
PATHS = (
    ("exit-kvm", "exit to KVM (CPUID)", "loop"),
    ("exit-qemu", "exit to QEMU (OUT)", "loop"),
    ("cr0-wp", "CR0.WP changed", "loop"),
    ("cr0-pg", "CR0.PG changed", "loop"),
    ("cr4-pge", "CR4.PGE changed", "loop"),
    ("cr4-pse", "CR4.PSE changed", "loop"),
    ("cr4-smep", "CR4.SMEP changed", "loop"),
    ("efer-nxe", "EFER.NXE changed", "loop"),
    ("smi", "SMI and RSM", "exit-qemu"),
    ("fault", "fault, page table there", "loop"),
    ("fault-table", "fault, page table added", "loop"),
)

# What the host counted, in the order of the second table's cells.
COUNTERS = (("mmu_resets", "resets"), ("mmu_unloads", "unloads"),
            ("root_loads", "loads"), ("tlb_flushes", "flushes"),
            ("tdp_maps", "faults"))


def per_op(run, path):
    """Instructions of one operation: the median of the batches."""
    batches = run["batches"].get(path)
    if not batches or len(batches["ticks"]) < 2 or batches["ops"] < 1:
        raise LabError(f"run {run['name']}: nothing was measured of {path}")
    return statistics.median(batches["ticks"]) / batches["ops"]


def cost(run, path, base):
    more = per_op(run, path) - per_op(run, base)
    if more <= 0:
        raise LabError(f"run {run['name']}: {path} took no more than {base}: "
                       "the guest does not do what it is said to")
    return more


def spread(run, path):
    """How far from their median half of the batches are, in percent of it."""
    ticks = run["batches"][path]["ticks"]
    middle = statistics.median(ticks)
    return 100 * statistics.median(abs(n - middle) for n in ticks) / middle


def count(run, path, counter):
    """How often the host did it for one operation."""
    phase = run["phases"].get(path, {})
    if counter not in phase:
        raise LabError(f"run {run['name']}: {counter} was not counted in "
                       f"phase {path}")
    return phase[counter] / run["batches"][path]["ops"]


def percent(value, reference):
    return 100 * (value - reference) / reference


def signed(value, digits=0):
    # + 0.0: no -0
    return f"{round(value, digits) + 0.0:+,.{digits}f}"


def cost_row(label, reference, values):
    """Each of VALUES with what it differs by from REFERENCE."""
    cells = [f"{reference:,.0f}"]
    for value in values:
        cells += [f"{value:,.0f}", signed(value - reference),
                  signed(percent(value, reference), 2) + " %"]
    return f"| {label} | " + " | ".join(cells) + " |"


def cost_table(unpatched, others):
    """OTHERS: heading -> run."""
    headings = ["unpatched"]
    for heading in others:
        headings += [heading, "", ""]
    lines = ["| instructions per operation | " + " | ".join(headings) + " |",
             "|---" + "|---:" * len(headings) + "|"]
    for path, label, base in PATHS:
        lines.append(cost_row(label, cost(unpatched, path, base),
                              [cost(run, path, base)
                               for run in others.values()]))
    return "\n".join(lines)


def count_table(columns):
    """COLUMNS: heading -> run.  Paths of which nothing was counted are left
    out."""
    what = " / ".join(label for _, label in COUNTERS)
    lines = [f"| {what} | " + " | ".join(columns) + " |",
             "|---" * (len(columns) + 1) + "|"]
    for path, label, _ in PATHS:
        rows = [[count(run, path, counter) for counter, _ in COUNTERS]
                for run in columns.values()]
        if any(any(row) for row in rows):
            cells = [" / ".join(f"{n:.2f}".rstrip("0").rstrip(".")
                                for n in row) for row in rows]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def worst_spread(runs):
    """(percent, label of the path)"""
    return max((spread(run, path), label)
               for run in runs for path, label, _ in PATHS)


def exceeded(unpatched, default, bound=BOUND):
    """[(label, percent)] of the paths that became more expensive than that."""
    found = []
    for path, label, base in PATHS:
        more = percent(cost(default, path, base), cost(unpatched, path, base))
        if more > bound:
            found.append((label, more))
    return found
