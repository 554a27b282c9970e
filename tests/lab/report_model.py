# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lab report is made from: boot.json, checked, and what follows from it.

Everything here is pure: no file is read or written, nothing is printed.
"""

import dataclasses
import re

# (key, label, what of the host kernel is counted). The order is the order of the rows.
# vendor-dependent functions are named for both vendors.
COUNTERS = (
    ("mmu_resets", "MMU context resets", "kvm_mmu_reset_context"),
    ("mmu_unloads", "MMU unloads", "kvm_mmu_unload"),
    ("root_loads", "root loads", "kvm_mmu_load"),
    ("root_invalidations", "whole-VM root invalidations", "kvm_tdp_mmu_invalidate_all_roots"),
    ("tdp_maps", "TDP faults mapped", "kvm_tdp_mmu_map"),
    ("tlb_flushes", "TLB flushes",
     "svm_flush_tlb_asid (AMD); vmx_flush_tlb_current, vmx_flush_tlb_all (Intel)"),
    ("slot_ioctls", "memslot changes", "kvm_set_memslot"),
    ("slot_deletes", "memslot deletions", "kvm_set_memslot with KVM_MR_DELETE"),
    ("smm_transitions", "SMM transitions", "kvm_smm_changed"),
)
# Virtual time is only there where the emulator's clock is deterministic; real time,
# of a benchmark on hardware, has that of each repetition in TIMES.
GUEST_NS = "guest_ns"
TIMES = "times"
RESERVED = {GUEST_NS, TIMES, "roles", "stats"}
# What is known of a root's role: (key, heading).
ROLE_COUNTS = (
    ("loads", "loads"),
    ("reused", "reused"),
    ("teardowns", "teardowns"),
    ("pages_torn_down", "torn down"),
    ("pages_max", "at most"),
)
# What a user may change, and has to be the same side by side.
OPTIONS = ("size", "rounds", "vcpus", "huge_pages")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+,=-]{0,63}")
ROLE = re.compile(r"0x[0-9a-f]{1,8}")
# Far above any count, and still exact in every reader of JSON.
MAX_COUNT = 1 << 53


class ReportError(Exception):
    """The input can't be reported on; the text names the key and what is accepted."""


@dataclasses.dataclass(frozen=True)
class Role:
    role: int
    counts: tuple           # in the order of ROLE_COUNTS


@dataclasses.dataclass(frozen=True)
class Phase:
    counters: dict          # key -> int, every key of COUNTERS and any further ones;
                            # on hardware those that the user's rights reach
    guest_ns: int | None    # the median, if there are repetitions
    times: tuple            # of the repetitions, sorted; else empty
    roles: tuple            # of Role; empty where the host kernel has no such tracepoints
    stats: dict             # the feature's own statistics, may be empty


@dataclasses.dataclass(frozen=True)
class Run:
    name: str
    phases: dict            # name -> Phase, in the order of the input


@dataclasses.dataclass(frozen=True)
class Report:
    scenario: str
    vendor: str
    kernel: str
    emulator: str
    runs: tuple
    native: bool = False    # on hardware: real time
    uncounted: str = ""     # why tracing counted nothing there
    machines: tuple = ()    # lines that say on what
    options: dict = dataclasses.field(default_factory=dict)     # those of OPTIONS that it says

    @property
    def phase_names(self):
        return tuple(self.runs[0].phases)


# --- input ---------------------------------------------------------------------------------

def _want(value, kind, where, words):
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ReportError(f"{where}: expected {words}, found {_found(value)}")
    return value


def _found(value):
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _get(obj, key, where):
    if key not in obj:
        path = f"{where}.{key}" if where else key
        raise ReportError(f"{path}: missing")
    return obj[key]


def _count(value, where):
    _want(value, int, where, "a whole number, 0 or more")
    if not 0 <= value < MAX_COUNT:
        raise ReportError(f"{where}: expected a whole number from 0 to 2^53-1, "
                          f"found {_found(value)}")
    return value


def _name(value, where):
    _want(value, str, where, "a name")
    if not NAME.fullmatch(value):
        raise ReportError(f"{where}: expected a name of at most 64 letters, digits "
                          f"and . _ + , = -, found {_found(value)}")
    return value


def _line(value, where):
    _want(value, str, where, "a line of text")
    if not value or len(value) > 200 or not value.isprintable():
        raise ReportError(f"{where}: expected one line of 1 to 200 printable characters, "
                          f"found {_found(value)}")
    return value


def _role(value, where):
    _want(value, dict, where, "an object")
    word = _get(value, "role", where)
    if not isinstance(word, str) or not ROLE.fullmatch(word):
        raise ReportError(f"{where}.role: expected 0x and up to 8 lower-case hex digits, "
                          f"found {_found(word)}")
    return Role(role=int(word, 16),
                counts=tuple(_count(_get(value, key, where), f"{where}.{key}")
                             for key, _ in ROLE_COUNTS))


def _roles(value, where):
    _want(value, list, where, "a list")
    roles = tuple(_role(item, f"{where}[{i}]") for i, item in enumerate(value))
    words = [role.role for role in roles]
    for i, word in enumerate(words):
        if word in words[:i]:
            raise ReportError(f"{where}[{i}].role: 0x{word:08x} is listed twice")
    return roles


def _times(value, where):
    _want(value, list, where, "a list")
    return tuple(sorted(_count(time, f"{where}[{i}]") for i, time in enumerate(value)))


def _phase(value, where, native):
    _want(value, dict, where, "an object")
    counters = {key: _count(_get(value, key, where), f"{where}.{key}")
                for key, _, _ in COUNTERS if key in value or not native}
    # A counter that this version does not know is shown under its own name.
    for key in value:
        if key not in RESERVED and key not in counters:
            counters[_name(key, where)] = _count(value[key], f"{where}.{key}")
    if counters.get("slot_deletes", 0) > counters.get("slot_ioctls", MAX_COUNT):
        raise ReportError(f"{where}.slot_deletes: {counters['slot_deletes']} is more than "
                          f"slot_ioctls, {counters['slot_ioctls']}, that they are part of")
    guest_ns = value.get(GUEST_NS)
    if guest_ns is not None:
        guest_ns = _count(guest_ns, f"{where}.{GUEST_NS}")
    roles = _roles(value.get("roles", []), f"{where}.roles")
    stats = _want(value.get("stats", {}), dict, f"{where}.stats", "an object")
    stats = {_name(key, f"{where}.stats"): _count(item, f"{where}.stats.{key}")
             for key, item in stats.items()}
    return Phase(counters=counters, guest_ns=guest_ns, roles=roles, stats=stats,
                 times=_times(value.get(TIMES, []), f"{where}.{TIMES}"))


def _run(value, where, native):
    _want(value, dict, where, "an object")
    name = _name(_get(value, "name", where), f"{where}.name")
    phases = _want(_get(value, "phases", where), dict, f"{where}.phases", "an object")
    if not phases:
        raise ReportError(f"{where}.phases: expected at least one phase, found none")
    return Run(name=name, phases={_name(key, f"{where}.phases"):
                                  _phase(item, f"{where}.phases.{key}", native)
                                  for key, item in phases.items()})


def parse(value):
    """Turn decoded JSON into a Report, or raise a ReportError that names the key."""
    _want(value, dict, "top level", "an object")
    scenario = _name(_get(value, "scenario", ""), "scenario")
    host = _want(_get(value, "host", ""), dict, "host", "an object")
    lines = {key: _line(_get(host, key, "host"), f"host.{key}")
             for key in ("vendor", "kernel", "emulator")}
    runs = _want(_get(value, "runs", ""), list, "runs", "a list")
    if not runs:
        raise ReportError("runs: expected at least one run, found none")
    native = _want(host, dict, "host", "an object").get("native", False) is True
    runs = tuple(_run(item, f"runs[{i}]", native) for i, item in enumerate(runs))
    for i, run in enumerate(runs):
        if run.name in [earlier.name for earlier in runs[:i]]:
            raise ReportError(f"runs[{i}].name: {run.name!r} is listed twice")
        # Side by side needs the same phases and counters on either side.
        if run.phases.keys() != runs[0].phases.keys():
            raise ReportError(f"runs[{i}].phases: {', '.join(run.phases)} differ from "
                              f"those of run {runs[0].name!r}, {', '.join(runs[0].phases)}")
        for name, phase in run.phases.items():
            odd = phase.counters.keys() ^ runs[0].phases[name].counters.keys()
            if odd:
                raise ReportError(f"runs[{i}].phases.{name}.{min(odd)}: is not in both this "
                                  f"run and run {runs[0].name!r}")
    uncounted = host.get("uncounted", "")
    return Report(scenario=scenario, runs=runs, native=native,
                  uncounted=uncounted and _line(uncounted, "host.uncounted"),
                  machines=_machine(value.get("machine", {})),
                  options={key: value[key] for key in OPTIONS if key in value},
                  **lines)


def _machine(value):
    """What of a machine one wants to read beside its figures, one line or none."""
    facts = _want(value, dict, "machine", "an object")
    if not facts:
        return ()
    words = [facts.get("cpu", "unknown processor")]
    for key, text in (("microcode", "microcode {}"), ("cpus", "{} CPUs"),
                      ("distribution", "{}"), ("kernel", "Linux {}"),
                      ("governor", "governor {}"), ("huge_pages", "huge pages {}"),
                      ("qemu", "{}"), ("guest_kernel", "guest Linux {}")):
        if facts.get(key):
            words.append(text.format(facts[key]))
    words.append("patched KVM" if facts.get("patched") else "stock KVM")
    if facts.get("nested"):
        words.append("itself a virtual machine")
    line = ", ".join(map(str, words))
    return (_line(line if len(line) <= 200 else line[:197] + "...", "machine"),)


# --- what follows from it ------------------------------------------------------------------

def counter_rows(report, phase):
    """[(key, label, source, [value of each run])], known counters first."""
    known = {key for key, _, _ in COUNTERS}
    counted = report.runs[0].phases[phase].counters
    rows = tuple(row for row in COUNTERS if row[0] in counted)
    rows += tuple((key, key, "") for key in counted if key not in known)
    return [(key, label, source, [run.phases[phase].counters[key] for run in report.runs])
            for key, label, source in rows]


def guest_times(report, phase):
    """Nanoseconds of each run, or None unless every run has them: no lopsided comparison."""
    times = [run.phases[phase].guest_ns for run in report.runs]
    return None if None in times else times


def spread_rows(report, phase):
    """[(label, [nanoseconds of each run])], none unless a run was repeated."""
    times = [run.phases[phase].times for run in report.runs]
    if not all(times) or max(map(len, times)) < 2:
        return []
    return [("shortest", [one[0] for one in times]), ("longest", [one[-1] for one in times])]


def role_rows(report, phase):
    """[(role, [counts or None of each run])]; None: the run had no such root."""
    by_run = [{role.role: role.counts for role in run.phases[phase].roles}
              for run in report.runs]
    words = sorted({word for roles in by_run for word in roles})
    return [(word, [roles.get(word) for roles in by_run]) for word in words]


def stat_rows(report, phase):
    """[(name, [value or None of each run])] of the feature's own statistics."""
    stats = [run.phases[phase].stats for run in report.runs]
    names = sorted({name for stat in stats for name in stat})
    return [(name, [stat.get(name) for stat in stats]) for name in names]


def ratio(first, other):
    """How many times as much the first run did as the other: first / other.

    There is no such number when the other is 0. None says that both are 0,
    infinity that the other run no longer did at all what the first one did.
    """
    if other:
        return first / other
    return float("inf") if first else None


def ratio_text(first, other):
    """The ratio in at most 8 ASCII characters; three digits are all that anyone reads."""
    value = ratio(first, other)
    if value is None:
        return "-"
    if value == float("inf"):
        return "all gone"
    if value == 0:
        return "0x"
    if first == other:
        return "1x"
    if value >= 99.95:
        return f"{value:,.0f}x" if value < 1e6 else f"{value:.1e}x"
    if value >= 9.995:
        return f"{value:.1f}x"
    if value >= 0.01:
        return f"{value:.2f}x"
    return f"{value:.0e}x"


def seconds(nanoseconds):
    return f"{nanoseconds / 1e9:,.2f} s"


# 6.12, arch/x86/include/asm/kvm_host.h, union kvm_mmu_page_role.
def role_words(role):
    """The root's role in words, what tells TDP roots apart (SMM, nesting, depth) first."""
    def bits(shift, width=1):
        return role >> shift & ((1 << width) - 1)

    words = []
    if bits(24, 8):
        words.append("SMM" if bits(24, 8) == 1 else f"SMM (as_id {bits(24, 8)})")
    else:
        words.append("normal mode")
    if bits(17):
        words.append("nested guest")
    words.append(f"{bits(0, 4)} levels")
    words.append("direct" if bits(7) else "shadow")
    access = "".join(letter if bits(8, 3) & bit else "-"
                     for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
    words.append(access)
    flags = (
        (4, "4-byte guest PTEs"),
        (11, "invalid"),
        (12, "NX"),
        (13, "WP"),
        (14, "SMEP without WP"),
        (15, "SMAP without WP"),
        (16, "no A/D bits"),
        (18, "passthrough"),
    )
    words += [text for shift, text in flags if bits(shift)]
    if bits(5, 2):
        words.append(f"quadrant {bits(5, 2)}")
    if bits(19, 5):
        words.append(f"unknown bits 0x{bits(19, 5) << 19:x}")
    return ", ".join(words)
