#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario files, the plans made of them, and the initramfs writer."""

import os
import subprocess
import sys
import tempfile
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import results, scenario       # noqa: E402
from labcore.boot import Boot               # noqa: E402
from labcore.cpio import Archive, member    # noqa: E402
from labcore.errors import LabError         # noqa: E402
from labcore.verdict import Result          # noqa: E402

GOOD = """
[scenario]
description = one
kind = nested
runs = default
size = 64
[args]
command = /lab/bin/qemu -accel {accel} -append "lab.size={size} quiet"
[run.default]
accel = kvm,root-retention=default
[run.keep]
accel = kvm,root-retention=keep
compare-stats = on
[phases]
boot = 120
uefi-vars = 600
"""


def load(text):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "one.ini"), "w", encoding="utf-8") as f:
            f.write(text)
        return scenario.load(folder, "one")


class Ours(unittest.TestCase):
    def test_each_loads_and_plans(self):
        folder = os.path.join(LAB, "scenarios")
        self.assertTrue(scenario.names(folder))
        for name in scenario.names(folder):
            one = scenario.load(folder, name)
            for run in one.run_options:
                self.assertIn(f"\nrun {run}\n", scenario.plan(one, run))

    def test_plan_words_are_those_of_init(self):
        with open(os.path.join(LAB, "init/plan.c"), encoding="utf-8") as f:
            source = f.read()
        for line in scenario.plan(load(GOOD), "keep").splitlines():
            self.assertIn(f'"{line.split()[0]}"', source)


PROGRAMS = """
[scenario]
description = one
kind = programs
runs = keep
[run.keep]
append = kvm.x=2
expect = /sys/x=2 /sys/y=a=b
[phases]
test = 60
"""


class Programs(unittest.TestCase):
    def test_words_of_the_list(self):
        one = load(PROGRAMS)
        one.tests = [(60, ["/lab/bin/a"]), (5, ["/lab/bin/b", "-i", "3"])]
        text = scenario.plan(one, "keep", 6)
        for line in ("kind programs", "test 360 /lab/bin/a",
                     "test 30 /lab/bin/b -i 3", "expect /sys/x 2",
                     "expect /sys/y a=b"):
            self.assertIn(line + "\n", text)
        with open(os.path.join(LAB, "init/plan.c"), encoding="utf-8") as f:
            source = f.read()
        for line in text.splitlines():
            self.assertIn(f'"{line.split()[0]}"', source)


class Plan(unittest.TestCase):
    def test_words_are_replaced_and_quotes_kept_together(self):
        plan = scenario.plan(load(GOOD), "keep")
        self.assertIn("arg kvm,root-retention=keep\n", plan)
        self.assertIn("arg lab.size=64 quiet\n", plan)
        self.assertIn("compare-stats on\n", plan)

    def test_two_runs_differ(self):
        one = load(GOOD)
        self.assertNotEqual(scenario.plan(one, "default"),
                            scenario.plan(one, "keep"))

    def test_no_workload_without_size(self):
        one = load(GOOD)
        one.size = 0
        self.assertEqual(list(scenario.phases(one)), ["boot"])

    def test_a_quiet_phase_has_phases_behind_it(self):
        one = load(GOOD.replace("size = 64", "quiet-phase = on"))
        self.assertIn("quiet-phase on\n", scenario.plan(one, "keep"))
        self.assertEqual(list(scenario.phases(one)), ["boot", "uefi-vars"])

    def test_memory_grows_with_the_workload(self):
        one = load(GOOD.replace("lab.size={size}", "{memory}"))
        for size, memory in ((0, 512), (300, 512), (301, 768), (600, 1024)):
            one.size = size
            self.assertIn(f"arg {memory} quiet\n", scenario.plan(one, "keep"))

    def test_any_number_of_vcpus(self):
        one = load(GOOD.replace("-append", "-smp {vcpus} -append"))
        self.assertIn("arg 1\n", scenario.plan(one, "keep"))
        one.vcpus = 32
        self.assertIn("arg 32\n", scenario.plan(one, "keep"))

    def test_a_store_of_variables(self):
        self.assertEqual(load(GOOD).nvram, ())
        one = load(GOOD + "[nvram]\ndeleted = 3\ndeleted-size = 40\n")
        self.assertEqual(one.nvram, (3, 40, 0))
        one = load(GOOD + "[nvram]\ndeleted = 3\ndeleted-size = 40\nkept = 2\n")
        self.assertEqual(one.nvram, (3, 40, 2))

    def test_no_firmware_to_take_the_store_from(self):
        boot = object.__new__(Boot)
        boot.scenario = load(GOOD + "[nvram]\ndeleted = 3\ndeleted-size = 40\n")
        with tempfile.TemporaryDirectory() as folder:
            boot.base = os.path.join(folder, "initramfs.cpio")
            with open(boot.base, "wb") as f:
                f.write(Archive().bytes())
            with self.assertRaisesRegex(LabError, "no firmware in it"):
                boot.variables()

    def test_an_archive_that_nobody_built(self):
        boot = object.__new__(Boot)
        boot.scenario = load(GOOD.replace("size = 64", "archive = no.cpio"))
        boot.base = "/nowhere/initramfs.cpio"
        with self.assertRaisesRegex(LabError, "/nowhere/no.cpio .*make lab-"):
            boot.more()

    def test_unknown_run(self):
        with self.assertRaisesRegex(LabError, "never.*default, keep"):
            scenario.plan(load(GOOD), "never")


class BadOption(unittest.TestCase):
    def test_numbers(self):
        for name, option, value, says in (
                ("secure-boot", "--vcpus", "0", "accepted is 1 to 32"),
                ("secure-boot", "--vcpus", "33", "accepted is 1 to 32"),
                ("secure-boot", "--size", "1025", "accepted is 0 to 1024"),
                ("secure-boot", "--jobs", "0", "accepted is 1 or more"),
                ("vectors", "--vcpus", "2", "scenario vectors has no such"),
                ("nvram-large", "--size", "2", "scenario nvram-large has no such"),
                ("pc-seabios", "--rounds", "2", "scenario pc-seabios has no such"),
                ("nvram-reclaim", "--size", "2",
                 "scenario nvram-reclaim has no such")):
            with self.subTest(name, option=option):
                done = subprocess.run(
                    [sys.executable, os.path.join(LAB, "run"), "boot",
                     "--no-report", "--scenario", name, option, value],
                    text=True, capture_output=True)
                self.assertEqual(done.returncode, 2)
                self.assertIn(f"{option} {value}: {says}", done.stderr)


class BadFile(unittest.TestCase):
    CASES = (
        ("kind = nested", "kind = nest", "kind = nest: .*nested, program"),
        ("kind = nested", "kind = nested\ncolour = red", "colour: accepted"),
        ("size = 64", "size = lots", "size = lots: accepted is a whole"),
        ("runs = default", "runs = fast", "runs = fast: .*default, keep"),
        ("runs = default", "", "runs is missing"),
        ("boot = 120", "boot = soon", "boot = soon: accepted is a whole"),
        ("[phases]", "[faces]", r"\[faces\]: accepted are"),
        ("[scenario]", "rubbish", "one.ini: "),
        ("compare-stats = on", "compare-stats = maybe",
         "compare-stats = maybe: accepted are on, off"),
        ("[phases]", "[nvram]\ndeleted = 1\n[phases]", "deleted-size is missing"),
        ("[phases]", "[nvram]\ndeleted = -1\n[phases]", "deleted = -1: accepted is"),
        ("[phases]", "[nvram]\nsize = 1\n[phases]",
         "size: accepted are deleted, deleted-size"),
        ("-accel {accel}", "-accel '{accel}", "command: No closing quotation"),
    )

    def test_each_names_what_is_wrong(self):
        for old, new, message in self.CASES:
            with self.subTest(new), self.assertRaisesRegex(LabError, message):
                load(GOOD.replace(old, new))

    def test_not_text(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "one.ini"), "wb") as f:
                f.write(b"\xff\xfe\x00")
            with self.assertRaisesRegex(LabError, "one.ini"):
                scenario.load(folder, "one")

    def test_no_such_scenario(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(LabError, "--scenario x: accepted"):
                scenario.load(folder, "x")


class Differences(unittest.TestCase):
    def test_same(self):
        one = Result(digests={"boot/cpuid": "1"})
        self.assertEqual(results.differences([one, one]), [])

    def test_other_value_and_absent(self):
        one = Result(digests={"boot/cpuid": "1", "boot/pci": "2"})
        two = Result(digests={"boot/cpuid": "3"})
        self.assertEqual(results.differences([one, two]),
                         [("boot/cpuid", ["1", "3"]),
                          ("boot/pci", ["2", "absent"])])


class Cpio(unittest.TestCase):
    def test_same_bytes_whatever_the_order(self):
        one, two = Archive(), Archive()
        one.file("a/b", b"1")
        one.file("c", b"2", 0o755)
        two.file("c", b"2", 0o755)
        two.file("a/b", b"1")
        self.assertEqual(one.bytes(), two.bytes())

    def test_members(self):
        archive = Archive()
        archive.file("a/one", b"1" * 5)
        archive.file("b", b"")
        later = Archive()
        later.file("a/one", b"22")
        blob = archive.bytes() + later.bytes()
        self.assertEqual(member(archive.bytes(), "a/one"), b"11111")
        self.assertEqual(member(blob, "a/one"), b"22")
        self.assertEqual(member(blob, "b"), b"")
        self.assertIsNone(member(blob, "c"))

    def test_layout(self):
        archive = Archive()
        archive.file("a", b"hello")
        blob = archive.bytes()
        self.assertEqual(len(blob) % 512, 0)
        self.assertTrue(blob.startswith(b"070701"))
        self.assertEqual(blob[112:120], b"hello\0\0\0")
        self.assertIn(b"TRAILER!!!", blob)


if __name__ == "__main__":
    unittest.main()
