#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made of scenario paths: costs, tables, and when the bound is broken."""

import copy
import os
import re
import sys
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import paths, scenario         # noqa: E402
from labcore.errors import LabError         # noqa: E402


def run(name="default"):
    """Each path costs 1,000 instructions beside its base."""
    batches = {"loop": {"ops": 10, "ticks": [20, 20, 20, 20, 20]}}
    for path, _, base in paths.PATHS:
        # The base of smi is a path that has one itself.
        ticks = 10020 if base == "loop" else 20020
        batches[path] = {"ops": 10, "ticks": [ticks] * 4 + [99999]}
    phases = {path: {key: 0 for key, _ in paths.COUNTERS}
              for path, *_ in paths.PATHS}
    phases["cr4-smep"].update(mmu_resets=10, mmu_unloads=10, tlb_flushes=15)
    return {"name": name, "batches": batches, "phases": phases}


def dearer(path, ticks):
    one = run()
    one["batches"][path]["ticks"] = [ticks] * 5
    return one


class Costs(unittest.TestCase):
    def test_less_the_base_and_without_outliers(self):
        for path, _, base in paths.PATHS:
            with self.subTest(path):
                self.assertEqual(paths.cost(run(), path, base), 1000)

    def test_missing(self):
        for spoil in (lambda b: b.pop("smi"),
                      lambda b: b["smi"].update(ticks=[1]),
                      lambda b: b["smi"].update(ops=0)):
            one = run()
            spoil(one["batches"])
            with self.subTest(one["batches"].get("smi")), \
                    self.assertRaisesRegex(LabError, "default.*of smi"):
                paths.cost(one, "smi", "exit-qemu")

    def test_nothing_done(self):
        with self.assertRaisesRegex(LabError, "cr0-wp took no more than loop"):
            paths.cost(dearer("cr0-wp", 20), "cr0-wp", "loop")

    def test_spread_is_without_outliers(self):
        one = run()
        self.assertEqual(paths.spread(one, "smi"), 0)
        one["batches"]["smi"]["ticks"] = [1, 99, 100, 102, 500]
        self.assertEqual(paths.spread(one, "smi"), 2)
        self.assertEqual(paths.worst_spread([run(), one]),
                         (2, "SMI and RSM"))


class Bound(unittest.TestCase):
    def test_same(self):
        self.assertEqual(paths.exceeded(run(), run()), [])

    def test_at_the_bound_and_above(self):
        # 1,010 and 1,011 instead of 1,000 instructions.
        self.assertEqual(paths.exceeded(run(), dearer("cr0-pg", 10120)), [])
        [(label, more)] = paths.exceeded(run(), dearer("cr0-pg", 10130))
        self.assertEqual((label, round(more, 6)), ("CR0.PG changed", 1.1))

    def test_less_is_no_failure(self):
        self.assertEqual(paths.exceeded(run(), dearer("cr0-pg", 5000)), [])

    def test_the_exit_does_not_hide_the_smi(self):
        # 11 of 1,000, though only 11 of the 2,000 that the guest sees.
        found = paths.exceeded(run(), dearer("smi", 20130))
        self.assertEqual([label for label, _ in found], ["SMI and RSM"])


class Tables(unittest.TestCase):
    def test_costs(self):
        lines = paths.cost_table(run(), {
            "default": run(), "keep": dearer("cr4-smep", 7520)}).splitlines()
        self.assertEqual(len(lines), 2 + len(paths.PATHS))
        self.assertEqual({line.count("|") for line in lines}, {9})
        self.assertIn("| CR4.SMEP changed | 1,000 | 1,000 | +0 | +0.00 % "
                      "| 750 | -250 | -25.00 % |", lines)

    def test_a_hair_less_is_no_minus_nothing(self):
        table = paths.cost_table(dearer("cr0-wp", 10021), {"default": run()})
        self.assertIn("| CR0.WP changed | 1,000 | 1,000 | +0 | -0.01 % |", table)

    def test_counts_of_one_operation(self):
        lines = paths.count_table({"a": run(), "b": run()}).splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines[2], "| CR4.SMEP changed | 1 / 1 / 0 / 1.5 / 0 "
                         "| 1 / 1 / 0 / 1.5 / 0 |")

    def test_not_counted(self):
        one = copy.deepcopy(run())
        del one["phases"]["fault"]["tdp_maps"]
        with self.assertRaisesRegex(LabError, "tdp_maps .* phase fault"):
            paths.count_table({"a": one})


class Agreement(unittest.TestCase):
    """The guest's paths are the scenario's phases, in the same order."""

    def test_names(self):
        with open(os.path.join(LAB, "../guest/paths.c"),
                  encoding="utf-8") as f:
            guest = re.findall(r'^    \{ "([a-z0-9-]+)", ', f.read(), re.M)
        one = scenario.load(os.path.join(LAB, "scenarios"), "paths")
        self.assertEqual(["boot", *guest], list(scenario.phases(one)))
        self.assertEqual({"loop", *(path for path, *_ in paths.PATHS)},
                         set(guest))

    def test_init_has_room_for_them(self):
        with open(os.path.join(LAB, "init/lab.h"), encoding="utf-8") as f:
            room = int(re.search(r"MAX_PHASES +(\d+)", f.read())[1])
        one = scenario.load(os.path.join(LAB, "scenarios"), "paths")
        self.assertLessEqual(len(scenario.phases(one)), room)


if __name__ == "__main__":
    unittest.main()
