# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian host: what it reports, and a kernel without its signature.  Pure.

The host's ttyS1 is written by tests/lab/debian/proof alone, in one or more boots:

    tick 12             seconds since the boot, every few of them
    ok 1 NAME           a step, numbered from 1 on over all boots
    not ok 2 NAME       one that failed; the reason stands in the lines before
    counter PHASE NAME VALUE    of perennial-bench there
    reboot              the next boot goes on from here
    1..2                the end: so many steps
    anything else       the transcript
"""

import dataclasses
import re
import struct

from . import verdict
from .errors import LabError

STEP = re.compile(r"(ok|not ok) (\d+) (.+)")
TICK = re.compile(r"tick (\d+)")
PLAN = re.compile(r"1\.\.(\d+)")
CONTROL = re.compile(r"\x1b(?:\[[0-9;?!]*[A-Za-z]|[^\[])")
COUNTER = re.compile(r"counter (\S+) (\S+) (\d+)")

# What has to be as in the lean lab, whose host runs nothing else: its names in
# boot.json, and in the report.
COMPARED = (("mmu_unloads", "MMU unloads"), ("root_loads", "root loads"),
            ("root_invalidations", "whole-VM root invalidations"),
            ("tdp_maps", "TDP faults mapped"), ("tlb_flushes", "TLB flushes"))
PHASES = ("boot", "uefi-vars")
SHARE = 0.05
# One fault or unload more where there are two is no 50 %.
FEW = 4


@dataclasses.dataclass
class Report:
    """What the boots said so far."""

    passed: list = dataclasses.field(default_factory=list)
    failed: list = dataclasses.field(default_factory=list)
    counters: dict = dataclasses.field(default_factory=dict)
    seconds: int = 0            # of this boot, virtual
    reboot: bool = False        # this boot's last word
    ended: bool = False

    def take(self, line):
        """One line of the channel; False if it is no part of a transcript."""
        self.reboot = line == "reboot"
        if self.ended and not TICK.fullmatch(line):
            self.fail(f"something after the end: {line[:80]!r}")
            return True
        if match := TICK.fullmatch(line):
            self.seconds = int(match[1])
            return False
        if match := COUNTER.fullmatch(line):
            self.counters[match[1], match[2]] = int(match[3])
            return False
        if match := STEP.fullmatch(line):
            self._step(*match.groups())
        elif match := PLAN.fullmatch(line):
            self.ended = True
            if int(match[1]) != self.count():
                self.fail(f"{match[1]} steps, says the end, but {self.count()} were seen")
        return not self.reboot

    def _step(self, result, number, name):
        if int(number) != self.count() + 1:
            self.fail(f"step {self.count() + 1} is missing, {number} came instead")
        (self.passed if result == "ok" else self.failed).append(name)

    def fail(self, why):
        self.failed.append(why)

    def count(self):
        return len(self.passed) + len(self.failed)


def judge(report, console, stopped, limit):
    """Add to REPORT what is wrong with a boot that is over.

    STOPPED is exited, stall or time-out (labcore/boot.py); LIMIT: virtual seconds.
    """
    panic = verdict.PANIC.search(console)
    if panic:
        report.fail(f"host: {panic[0]}")
    for line in console.splitlines():
        trouble = verdict.TROUBLE.search(line)
        if trouble:
            report.fail(f"host: {trouble[0]}")
            break
    if stopped == "stall":
        report.fail("the host's virtual time stood still, or nothing was heard of it")
    elif stopped == "time-out" and report.seconds > limit:
        report.fail(f"the host was still running after {report.seconds} s of its own time; "
                    f"--virtual-limit is {limit}")
    elif stopped == "time-out":
        report.fail("the emulator was still running when its real time was up (--time-limit)")
    elif not (report.reboot or report.ended or panic):
        report.fail("the host went down before its steps were over" if report.count()
                    else "the host never reached its first step")


def tail(console, count=15):
    """Its last lines, as a terminal would leave them."""
    lines = [CONTROL.sub("", line).strip("\r") for line in console.splitlines()]
    return [line for line in lines if line.strip()][-count:]


def counters(boot, run):
    """{(phase, name): value} of a RUN in a BOOT.json; LabError if there is none."""
    for one in boot.get("runs", ()):
        if one["name"] == run and one["status"] == "pass":
            return {(phase, name): values[name] for phase, values in one["phases"].items()
                    for name, _ in COMPARED if name in values}
    raise LabError(f"no run {run} in it that passed")


def compare(lean, here):
    """(text, is it good) for each counter of the phases."""
    for phase in PHASES:
        for name, title in COMPARED:
            wanted, got = lean.get((phase, name)), here.get((phase, name))
            if None in (wanted, got):
                yield f"{phase}: {title}: lean lab {wanted}, Debian host {got}", False
                continue
            good = abs(got - wanted) <= max(SHARE * wanted, FEW)
            yield f"{phase}: {title}: lean lab {wanted:,}, Debian host {got:,}", good


# ---- PE images (Microsoft's PE format, "Optional Header Data Directories") ----

DIRECTORIES = 112       # in a PE32+ optional header
SECURITY = 4            # the certificate table's number among them


def _certificates(image):
    """(where the directory entry stands, offset and size of the table)"""
    try:
        pe, = struct.unpack_from("<I", image, 0x3c)
        magic, = struct.unpack_from("<H", image, pe + 24)
        at = pe + 24 + DIRECTORIES + 8 * SECURITY
        offset, size = struct.unpack_from("<II", image, at)
    except struct.error:
        magic = 0
    if magic != 0x20b or image[pe:pe + 4] != b"PE\0\0":
        raise LabError("this is no PE32+ image")
    return at, offset, size


def signed(image):
    return _certificates(image)[2] != 0


def unsigned(image):
    """The image without its certificates, which stand behind all else."""
    at, offset, size = _certificates(image)
    if not size:
        raise LabError("this image has no signature")
    if offset + size != len(image):
        raise LabError("this image's signature is not its end")
    out = bytearray(image[:offset])
    out[at:at + 8] = bytes(8)
    return bytes(out)
