#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A benchmark's results: what repetitions come to, and machines side by side.

testdata/bench holds what the runner wrote in an emulated host, with tracing
(counted) and without (1, 2), in runs default and keep.
"""

import copy
import importlib.util
import io
import contextlib
import json
import os
import statistics
import sys
import tempfile
import types
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

import report                               # noqa: E402
import report_compare                       # noqa: E402
import report_model as model                # noqa: E402
import report_text                          # noqa: E402
from labcore import bench, scenario, verdict     # noqa: E402

DATA = os.path.join(LAB, "testdata/bench")
PHASES = ("boot", "fill", "uefi-vars")
FACTS = {"cpu": "AMD EPYC 7543 32-Core Processor", "microcode": "0xa0011d1",
         "cpus": 64, "kernel": "6.12.1-amd64", "governor": "performance",
         "huge_pages": "madvise", "patched": True, "nested": False}
QEMU = types.SimpleNamespace(version="QEMU 10.0.13", ours=True)


def saved(name):
    with open(os.path.join(DATA, name + ".verdict"), encoding="utf-8") as f:
        result = verdict.judge(f.read(), "", planned=PHASES, tsc_check=False)
    assert result.status == "pass", result.reason
    return result


def merged(*runs, counted=True, timed=("1", "2"), facts=None):
    one = scenario.load(os.path.join(LAB, "scenarios"), "secure-boot")
    made = []
    for run in runs:
        traced = saved(f"{run}-counted") if counted else None
        made.append(bench.run(run, traced, [saved(f"{run}-{n}") for n in timed]))
    begin = saved(f"{runs[0]}-1").begin
    return bench.result(one, begin, facts or FACTS, QEMU, made,
                        None if counted else "only root may trace")


class Judge(unittest.TestCase):
    def test_traced(self):
        result = saved("keep-counted")
        self.assertEqual(len(result.tests), 9)
        self.assertGreater(result.phases["boot"]["mmu_resets"], 10000)

    def test_untraced(self):
        result = saved("keep-1")
        self.assertEqual(set(result.phases["boot"]), {"guest_ns", "roles", "stats"})
        self.assertGreater(result.phases["boot"]["stats"]["exits"], 1000)

    def test_cut_off(self):
        with open(os.path.join(DATA, "keep-1.verdict"), encoding="utf-8") as f:
            lines = f.readlines()
        result = verdict.judge("".join(lines[:-1]), "", planned=PHASES)
        self.assertEqual(result.status, "infrastructure")


class Repetitions(unittest.TestCase):
    def test_median_and_all(self):
        boot = merged("keep")["runs"][0]["phases"]["boot"]
        times = [saved(f"keep-{n}").phases["boot"]["guest_ns"] for n in "12"]
        self.assertEqual(boot["times"], times)
        self.assertEqual(boot["guest_ns"], statistics.median_low(times))
        self.assertNotIn(saved("keep-counted").phases["boot"]["guest_ns"],
                         boot["times"])

    def test_counters_are_the_traced_boots(self):
        boot = merged("keep")["runs"][0]["phases"]["boot"]
        traced = saved("keep-counted").phases["boot"]
        for key in ("mmu_resets", "tdp_maps", "roles"):
            self.assertEqual(boot[key], traced[key])

    def test_statistics_are_the_timed_boots(self):
        boot = merged("keep")["runs"][0]["phases"]["boot"]
        exits = [saved(f"keep-{n}").phases["boot"]["stats"]["exits"] for n in "12"]
        self.assertEqual(boot["stats"]["exits"], min(exits))

    def test_only_counted(self):
        boot = merged("keep", timed=())["runs"][0]["phases"]["boot"]
        self.assertEqual(boot["guest_ns"],
                         saved("keep-counted").phases["boot"]["guest_ns"])

    def test_a_counter_that_one_run_lacks(self):
        runs = [bench.run(run, saved(f"{run}-counted"), []) for run in
                ("default", "keep")]
        runs = copy.deepcopy(runs)
        del runs[1]["phases"]["boot"]["slot_ioctls"]
        bench.equalize(runs)
        self.assertNotIn("slot_ioctls", runs[0]["phases"]["boot"])
        self.assertIn("slot_ioctls", runs[0]["phases"]["fill"])

    def test_differences(self):
        runs = [{"digests": {"a": "1", "b": "2"}}, {"digests": {"a": "1", "b": "3"}}]
        self.assertEqual(bench.differences(runs), ["b"])


class Report(unittest.TestCase):
    def test_counted(self):
        text = report_text.render(model.parse(merged("default", "keep")))
        self.assertIn("machine  AMD EPYC 7543 32-Core Processor, microcode 0xa0011d1, "
                      "64 CPUs", text)
        self.assertIn("patched KVM", text)
        self.assertIn("\n    shortest                          7.08 s", text)
        self.assertIn("\n    longest                           7.13 s", text)
        self.assertIn("\n  TDP faults mapped  ", text)
        self.assertIn("guest time: real seconds, the median of 2", text)

    def test_not_counted(self):
        text = report_text.render(model.parse(merged("keep", counted=False)))
        self.assertNotIn("TDP faults mapped", text)
        self.assertIn("not counted by tracing: only root may trace", text)
        self.assertIn("\n  guest time  ", text)
        self.assertIn("\n  exits  ", text)

    def test_an_emulated_host_must_count(self):
        value = merged("keep", counted=False)
        del value["host"]["native"]
        with self.assertRaisesRegex(model.ReportError, "mmu_resets: missing"):
            model.parse(value)

    def test_broken(self):
        for says, spoil in (
                ("times: expected a list", lambda p: p.update(times=1)),
                (r"times\[0\]: expected a whole", lambda p: p.update(times=["x"])),
                ("guest_ns: expected a whole", lambda p: p.update(guest_ns=-1))):
            value = merged("keep")
            spoil(value["runs"][0]["phases"]["boot"])
            with self.assertRaisesRegex(model.ReportError, says):
                model.parse(value)
        value = merged("keep")
        value["machine"] = []
        with self.assertRaisesRegex(model.ReportError, "machine: expected an object"):
            model.parse(value)

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "no matplotlib")
    def test_page(self):
        import report_html
        for counted in (True, False):
            page = report_html.render(model.parse(
                merged("default", "keep", counted=counted)))
            self.assertIn("real time, the median", page)
            self.assertEqual("TDP faults mapped" in page, counted)
            self.assertEqual(page.count("<figure>"), len(PHASES))
            self.assertIn("microcode 0xa0011d1", page)


class Compare(unittest.TestCase):
    def reports(self):
        stock = model.parse(merged("default", counted=False,
                                   facts=FACTS | {"patched": False}))
        return [("stock", stock), ("ours", model.parse(merged("keep")))]

    def test_side_by_side(self):
        both = report_compare.side_by_side(self.reports())
        self.assertEqual([run.name for run in both.runs],
                         ["stock:default", "ours:keep"])
        for run in both.runs:
            self.assertEqual(run.phases["boot"].counters, {})
        text = report_text.render(both)
        self.assertIn("machine  stock: AMD EPYC 7543", text)
        self.assertIn("stock KVM", text)
        self.assertIn("not counted by tracing: stock: only root may trace", text)
        self.assertNotIn("host  ", text)
        self.assertNotIn("TDP faults mapped", text)

    def test_with_the_lab(self):
        lab = merged("default")
        del lab["host"]["native"], lab["machine"]
        lab["host"]["emulator"] = "TCG"
        both = report_compare.side_by_side([("lab", model.parse(lab)),
                                            *self.reports()[1:]])
        text = report_text.render(both)
        self.assertIn("machine  lab: AMD, Linux 6.12.117, TCG, virtual time", text)
        self.assertIn("TDP faults mapped", text)

    def test_refusals(self):
        two = self.reports()
        other = merged("keep")
        other["scenario"] = "nvram-large"
        smaller = merged("keep")
        smaller["size"] = 7
        wider = merged("keep") | {"vcpus": 4}
        huger = merged("keep") | {"huge_pages": True}
        short = merged("keep")
        del short["runs"][0]["phases"]["fill"]
        for says, labelled in (
                ("ours: two files have this name; rename one of them",
                 [two[1], two[1]]),
                ("x: scenario nvram-large, but stock has secure-boot",
                 [two[0], ("x", model.parse(other))]),
                ("x: size 7, but stock has 300",
                 [two[0], ("x", model.parse(smaller))]),
                ("x: vcpus 4, but stock has 2", [two[0], ("x", model.parse(wider))]),
                ("x: huge_pages True, but stock has False",
                 [two[0], ("x", model.parse(huger))]),
                ("x: phases boot, uefi-vars, but",
                 [two[0], ("x", model.parse(short))]),
                ("9 runs; at most 8",
                 [(str(n), two[0][1]) for n in range(9)])):
            with self.subTest(says):
                with self.assertRaises(model.ReportError) as caught:
                    report_compare.side_by_side(labelled)
                self.assertIn(says, str(caught.exception))

    def test_broken_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.json")
            for content in ("", "[]", '{"scenario": "x"}', "\0"):
                with open(path, "w", encoding="utf-8") as f:
                    f.write(content)
                with self.assertRaises(model.ReportError) as caught:
                    report.load(path)
                self.assertTrue(str(caught.exception).startswith(path + ": "))

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "no matplotlib")
    def test_page(self):
        import report_html
        page = report_html.render(report_compare.side_by_side(self.reports()))
        self.assertIn("ours:keep", page)
        self.assertNotIn(" host, Linux ", page)

    def test_saved_and_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.json")
            with open(path, "w", encoding="utf-8") as f:
                json.dump(merged("keep"), f)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                self.assertEqual(report.main([path]), 0)
            self.assertIn("longest", out.getvalue())


if __name__ == "__main__":
    unittest.main()
