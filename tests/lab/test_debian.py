#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian host: its report is judged, and a kernel loses its signature."""

import os
import struct
import subprocess
import sys
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import debian              # noqa: E402
from labcore.errors import LabError     # noqa: E402


def report(*lines, ended="exited", console="Linux version 6.12\n", limit=100):
    told = debian.Report()
    for line in lines:
        told.take(line)
    debian.judge(told, console, ended, limit)
    return told


def image(certificates=b"certs", magic=0x20b):
    """A PE image with a body of 600 bytes, whose headers are in it."""
    head = bytearray(600)
    head[0x3c:0x40] = struct.pack("<I", 0x80)
    head[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<H", head, 0x98, magic)
    if certificates:
        struct.pack_into("<II", head, 0x98 + 112 + 32, 600, len(certificates))
    return bytes(head) + certificates


class Reports(unittest.TestCase):
    def test_all_pass(self):
        told = report("# stage 1", "tick 3", "ok 1 define", "    output", "ok 2 start", "1..2")
        self.assertEqual((told.passed, told.failed), (["define", "start"], []))
        self.assertEqual(told.seconds, 3)

    def test_over_a_reboot(self):
        told = report("ok 1 a", "reboot")
        self.assertTrue(told.reboot)
        for line in ("ok 2 b", "1..2"):
            told.take(line)
        self.assertFalse(told.reboot)
        self.assertEqual((told.count(), told.failed), (2, []))

    def test_ticks_and_reboot_are_not_shown(self):
        told = debian.Report()
        self.assertEqual([told.take(line) for line in ("# x", "tick 5", "ok 1 a", "reboot")],
                         [True, False, True, False])

    def test_a_failed_step(self):
        self.assertEqual(report("not ok 1 start", "1..1").failed, ["start"])

    def test_a_lost_step(self):
        self.assertIn("step 1 is missing", report("ok 2 start", "1..2").failed[0])

    def test_a_plan_that_does_not_hold(self):
        self.assertIn("2 steps, says the end", report("ok 1 a", "1..2").failed[0])

    def test_something_after_the_end(self):
        self.assertIn("after the end", report("ok 1 a", "1..1", "ok 2 b").failed[0])

    def test_ticks_after_the_end(self):
        self.assertEqual(report("ok 1 a", "1..1", "tick 9").failed, [])

    def test_it_went_down(self):
        self.assertIn("before its steps were over", report("ok 1 a").failed[0])
        self.assertIn("never reached", report().failed[0])

    def test_a_warning_of_the_host(self):
        told = report("ok 1 a", "1..1", console="WARNING: CPU: 0 PID: 1 at mmu.c:3 x+0x1/0x2\n")
        self.assertIn("WARNING: CPU: 0", told.failed[0])

    def test_a_panic(self):
        told = report("ok 1 a", console="Kernel panic - not syncing: no init\n")
        self.assertEqual(told.failed, ["host: Kernel panic - not syncing: no init"])

    def test_time_out(self):
        told = report("tick 101", ended="time-out")
        self.assertIn("101 s of its own time; --virtual-limit is 100", told.failed[0])
        self.assertIn("--time-limit", report("tick 99", ended="time-out").failed[0])

    def test_the_console_without_a_terminal(self):
        console = "one\r\n\x1b[0;32m  OK  \x1b[0m two\r\n\x1b[!p\r\n   \n\x1b7three"
        self.assertEqual(debian.tail(console, 2), ["  OK   two", "three"])

    def test_stall(self):
        self.assertIn("stood still", report("tick 3", ended="stall").failed[0])


def figures(**changed):
    boot = {"mmu_unloads": 2, "root_loads": 4, "root_invalidations": 0, "tdp_maps": 37675,
            "tlb_flushes": 5503}
    phases = {"boot": boot | changed, "uefi-vars": boot | {"tdp_maps": 1}}
    return debian.counters({"runs": [{"name": "keep", "status": "pass",
                                      "phases": phases}]}, "keep")


class Counters(unittest.TestCase):
    def bad(self, here):
        return [text for text, good in debian.compare(figures(), here) if not good]

    def test_from_the_host(self):
        told = report("counter boot tdp_maps 37675", "1..0")
        self.assertEqual(told.counters, {("boot", "tdp_maps"): 37675})

    def test_the_same(self):
        self.assertEqual(self.bad(figures()), [])

    def test_within_five_per_cent(self):
        self.assertEqual(self.bad(figures(tdp_maps=39550, mmu_unloads=6)), [])

    def test_beyond(self):
        self.assertEqual(self.bad(figures(tdp_maps=39560)),
                         ["boot: TDP faults mapped: lean lab 37,675, Debian host 39,560"])
        self.assertEqual(len(self.bad(figures(mmu_unloads=7))), 1)

    def test_missing(self):
        here = figures()
        del here["uefi-vars", "tdp_maps"]
        self.assertEqual(self.bad(here),
                         ["uefi-vars: TDP faults mapped: lean lab 1, Debian host None"])

    def test_no_such_run(self):
        for runs in ([], [{"name": "keep", "status": "stall", "phases": {}}]):
            with self.assertRaisesRegex(LabError, "no run keep"):
                debian.counters({"runs": runs}, "keep")


class Signatures(unittest.TestCase):
    def test_signed(self):
        self.assertTrue(debian.signed(image()))
        self.assertFalse(debian.signed(image(b"")))

    def test_unsigned(self):
        self.assertEqual(debian.unsigned(image()), image(b""))

    def test_nothing_to_strip(self):
        with self.assertRaisesRegex(LabError, "no signature"):
            debian.unsigned(image(b""))

    def test_not_at_the_end(self):
        with self.assertRaisesRegex(LabError, "not its end"):
            debian.unsigned(image() + b"more")

    def test_no_image(self):
        for data in (b"", b"MZ", bytes(1000), image(magic=0x10b)):
            with self.assertRaisesRegex(LabError, "no PE32"):
                debian.signed(data)


class Requests(unittest.TestCase):
    """What the program says to a request that makes no sense."""

    def said(self, *words):
        done = subprocess.run([os.path.join(LAB, "debian-host"), *words], text=True,
                              capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1))
        return done.stderr

    def test_memory(self):
        self.assertIn("--memory 100: accepted is 2048 or more", self.said("--memory", "100"))

    def test_no_emulator(self):
        self.assertIn("--qemu /nowhere: no such program", self.said("--qemu", "/nowhere"))


if __name__ == "__main__":
    unittest.main()
