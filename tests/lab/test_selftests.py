#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts of upstream's selftests, and the comparison with the unpatched."""

import os
import sys
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import compare, selftests          # noqa: E402
from labcore.errors import LabError             # noqa: E402

BEGIN = "begin scenario=kvm-selftests run=keep vendor=AMD kernel=6.12.117"
PASS = "test name={} result=pass reason=1.250 s: exit status 0: "


def channel(*lines):
    return "".join(f"{i} {line}\n" for i, line in enumerate((BEGIN, *lines)))


def ran(*names):
    return "".join(f"lab-test begin {n}\nlab-test end {n}\n" for n in names)


def judge(lines, console="", stopped="exited", planned=("a", "b", "c")):
    return selftests.judge(channel(*lines), console, stopped, list(planned))


class Judge(unittest.TestCase):
    def test_each_verdict(self):
        outcome = judge([
            PASS.format("a"),
            "test name=b result=skip reason=0.1 s: exit status 4: # SKIP no",
            "test name=c result=fail reason=time-out: 60.1 s: killed",
            "end passed=1 failed=1 skipped=1"], ran("a", "b", "c"))
        self.assertEqual(outcome.problem, "")
        self.assertEqual([t["verdict"] for t in outcome.tests.values()],
                         ["pass", "skip", "time-out"])
        self.assertEqual(outcome.tests["a"]["seconds"], 1.25)
        self.assertEqual(outcome.rest, [])

    def test_a_warning_is_of_the_test_that_ran(self):
        console = ("lab-test begin a\nlab-test end a\nlab-test begin b\n"
                   "[1.0] WARNING: CPU: 0 at mmu.c:1\nlab-test end b\n"
                   "test| WARNING: not the kernel's\n" + ran("c"))
        outcome = judge([*map(PASS.format, "abc"),
                         "end passed=3 failed=0 skipped=0"], console)
        self.assertEqual([t["verdict"] for t in outcome.tests.values()],
                         ["pass", "host-warning", "pass"])
        self.assertIn("the test itself: pass", outcome.tests["b"]["reason"])

    def test_a_warning_before_all_tests_is_no_result(self):
        outcome = judge([*map(PASS.format, "abc"),
                         "end passed=3 failed=0 skipped=0"],
                        "BUG: bad\n" + ran("a", "b", "c"))
        self.assertIn("before any test", outcome.problem)

    def test_tests_may_set_the_tsc_rate(self):
        outcome = judge([*map(PASS.format, "abc"),
                         "end passed=3 failed=0 skipped=0"],
                        "lab-test begin a\nkvm: user requested TSC rate below "
                        "hardware speed\n")
        self.assertEqual(outcome.tests["a"]["verdict"], "pass")

    def test_a_crash_blames_the_running_test_and_leaves_the_rest(self):
        outcome = judge([PASS.format("a")], ran("a") + "lab-test begin b\n"
                        "Kernel panic - not syncing: Fatal exception\n")
        self.assertEqual(outcome.tests["b"]["verdict"], "host-crash")
        self.assertEqual(outcome.rest, ["c"])
        self.assertEqual(outcome.problem, "")

    def test_a_stall(self):
        outcome = judge([PASS.format("a")], ran("a") + "lab-test begin b\n",
                        "stall")
        self.assertEqual(outcome.tests["b"]["verdict"], "stall")

    def test_the_boots_time_limit_is_no_tests_fault(self):
        outcome = judge([PASS.format("a")], ran("a") + "lab-test begin b\n",
                        "time-out")
        self.assertEqual(outcome.rest, ["b", "c"])
        outcome = judge([], "lab-test begin a\n", "time-out")
        self.assertEqual(outcome.tests["a"]["verdict"], "time-out")
        self.assertEqual(outcome.rest, ["b", "c"])

    def test_a_setting_that_did_not_take_is_no_result(self):
        outcome = judge(["test name=expect result=fail reason=infrastructure: "
                         "/sys/x is absent, not 2",
                         "end passed=0 failed=1 skipped=0"])
        self.assertIn("absent", outcome.problem)

    def test_what_a_debug_kernel_tests_besides(self):
        for result, problem in (("pass", ""), ("fail", "lockdep: it is off")):
            outcome = judge([*map(PASS.format, "abc"), "test name=lockdep "
                             f"result={result} reason=it is off",
                             "end passed=4 failed=0 skipped=0"])
            self.assertEqual(outcome.problem, problem)

    def test_a_lost_verdict_is_no_result(self):
        outcome = judge([PASS.format("a"), "end passed=1 failed=0 skipped=0"])
        self.assertIn("no verdict of b, c", outcome.problem)
        self.assertIn("never reached init",
                      selftests.judge("", "", "exited", ["a"]).problem)


class Conf(unittest.TestCase):
    def test_ours(self):
        with open(os.path.join(LAB, "selftests.conf"), encoding="utf-8") as f:
            special, _ = selftests.read_conf(f.read(), "selftests.conf", "amd")
        self.assertTrue(special)

    def test_lines(self):
        lines = "# x\na 5 -b 1\nb leave-out intel no disk\n"
        for host, left_out in (("amd", {}), ("intel", {"b": "no disk"})):
            self.assertEqual(selftests.read_conf(lines, "f", host),
                             ({"a": (5, ["-b", "1"])}, left_out))
        for bad in ("a\n", "a b\n", "a leave-out\n", "a leave-out amd\n",
                    "a leave-out no disk\n"):
            with self.assertRaisesRegex(ValueError, "f:1"):
                selftests.read_conf(bad, "f", "amd")


class Choose(unittest.TestCase):
    def choose(self, only):
        return selftests.choose({"a", "b", "c"}, {"a": (120, ["-b", "1"])},
                                {"c": "it stalls"}, 20, only)

    def test_a_time_of_its_own_is_kept(self):
        self.assertEqual(self.choose("long"),
                         {"a": (120, ["/lab/bin/a", "-b", "1"])})

    def test_parts(self):
        self.assertEqual(self.choose("quick"), {"b": (20, ["/lab/bin/b"])})
        self.assertEqual(list(self.choose(None)), ["a", "b"])


def result(label, verdicts, run=None):
    return {"label": label, "run": run or label, "host": "amd",
            "kernel": "6.12.117", "emulator": "QEMU", "left_out": {},
            "tests": {n: {"verdict": v, "reason": "why"}
                      for n, v in verdicts.items()}}


class Compare(unittest.TestCase):
    REFERENCES = [
        result("r1", {"a": "pass", "b": "fail", "c": "pass", "d": "skip"},
               "reference"),
        result("r2", {"a": "pass", "b": "fail", "c": "fail", "d": "skip"},
               "reference")]

    def compare(self, *results):
        [host] = compare.hosts(self.REFERENCES + list(results))
        return host

    def test_no_regression(self):
        host = self.compare(result("keep", {"a": "pass", "b": "fail",
                                            "c": "fail", "d": "skip"}))
        self.assertEqual(host.regressions(), [])
        self.assertEqual(host.unstable(), ["c"])

    def test_every_other_verdict_is_a_regression(self):
        for bad in ("fail", "skip", "time-out", "host-warning", "host-crash",
                    "stall"):
            host = self.compare(result("keep", {"a": bad}))
            self.assertEqual(host.regressions(), [("a", "keep", bad)])

    def test_a_test_that_did_not_run_is_a_regression(self):
        self.assertEqual(self.compare(result("keep", {"b": "pass"}))
                         .regressions(), [("a", "keep", "absent")])

    def test_the_table_has_every_test_and_setting(self):
        text = compare.markdown([self.compare(
            result("keep", {"a": "pass"}), result("drop", {"a": "stall"}))])
        self.assertIn("| test | reference | keep | drop |", text)
        self.assertIn("| a | pass | pass | stall |", text)
        self.assertIn("| c | pass, fail (unstable) |", text)
        self.assertIn("- a, drop: stall", text)

    def test_left_out(self):
        first, second = self.REFERENCES
        second = {**second, "left_out": {"b": "it stalls"}}
        [host] = compare.hosts([first, second, result("keep", {"b": "stall"})])
        self.assertEqual(host.names(), ["a", "c", "d"])
        self.assertIn("- b: it stalls", compare.markdown([host]))
        part = {**result("r2", {}, "reference"), "left_out": {"e": "no disk"}}
        [host] = compare.hosts([first, second, part, result("keep", {})])
        text = compare.markdown([host])
        self.assertIn("- b: it stalls", text)
        self.assertIn("- e: no disk", text)

    def test_a_result_in_parts(self):
        host = self.compare(result("keep", {"a": "pass", "b": "fail"}),
                            result("keep", {"c": "pass", "d": "skip"}))
        self.assertEqual(len(host.results), 1)
        self.assertEqual(host.regressions(), [])
        other = result("keep", {"c": "pass"})
        other["kernel"] = "6.12.1"
        for bad in (result("keep", {"b": "fail"}), other,
                    result("keep", {"c": "pass"}, "drop")):
            with self.assertRaisesRegex(LabError, "labelled keep"):
                self.compare(result("keep", {"a": "pass", "b": "fail"}), bad)

    def test_what_says_nothing(self):
        keep = result("keep", {"a": "pass"})
        for results in ([keep], self.REFERENCES[:1] + [keep], self.REFERENCES,
                        self.REFERENCES + [keep, keep]):
            with self.assertRaises(LabError):
                compare.hosts(results)


if __name__ == "__main__":
    unittest.main()
