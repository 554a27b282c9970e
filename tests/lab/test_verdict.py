#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge on saved logs: each way to go wrong has its name."""

import os
import sys
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import verdict     # noqa: E402


def log(name):
    with open(os.path.join(LAB, "testdata", name), encoding="utf-8",
              errors="replace") as f:
        return f.read()


def judge(name, console="good.console", stopped="exited", planned=("boot",),
          expected_skips=(), debug=False):
    return verdict.judge(log(name + ".verdict") if name else "",
                         log(console) if console else "", stopped, planned,
                         expected_skips, debug=debug)


class Good(unittest.TestCase):
    def test_everything_is_taken(self):
        result = judge("good")
        self.assertEqual((result.status, result.reason), ("pass", ""))
        self.assertEqual(result.begin["vendor"], "AMD")
        boot = result.phases["boot"]
        self.assertEqual(boot["mmu_resets"], 16)
        self.assertEqual(boot["guest_ns"], 1234567890)
        self.assertEqual(boot["stats"], {"tdp_roots": 2})
        self.assertEqual(boot["roles"], [
            {"role": "0x1004", "loads": 28, "reused": 26, "teardowns": 1,
             "pages_torn_down": 12, "pages_max": 14}])
        self.assertEqual(result.digests, {"boot/cpuid": "0123456789abcdef"})
        self.assertEqual(len(result.tests), 3)

    def test_batches(self):
        line = "1 batches name=smi ops=32 ticks=96,97,96"
        begin = log("good.verdict").splitlines()[0]
        result = verdict.Result()
        verdict.parse(result, "\n".join([begin, line]) + "\n")
        self.assertEqual((result.status, result.reason), ("pass", ""))
        self.assertEqual(result.batches,
                         {"smi": {"ops": 32, "ticks": [96, 97, 96]}})
        for wrong in (line.replace("97", "x"), line.replace("=32", "=")):
            result = verdict.Result()
            verdict.parse(result, "\n".join([begin, wrong]) + "\n")
            self.assertEqual(result.status, "infrastructure")

    def test_carriage_returns_of_a_serial_line(self):
        text = log("good.verdict").replace("\n", "\r\n")
        self.assertEqual(verdict.judge(text, "").status, "pass")


class Judged(unittest.TestCase):
    def check(self, result, status, *words):
        self.assertEqual(result.status, status, result.reason)
        for word in words:
            self.assertIn(word, result.reason)


class Debug(Judged):
    """A host with a debug kernel: each of its reports is a failure."""

    def test_nothing_found(self):
        result = judge("debug", "debug.console", debug=True)
        self.assertEqual((result.status, result.reason), ("pass", ""))

    def test_lockdep(self):
        self.check(judge("debug", "lockdep.console", debug=True),
                   "host-warning", "circular locking")
        self.check(judge("lockdep-off", "debug.console", debug=True),
                   "test-failure", "turned itself off")

    def test_kasan(self):
        self.check(judge("kasan", "kasan.console", debug=True), "host-crash",
                   "KASAN: slab-use-after-free in tdp_mmu_zap_root", "panic")
        # Without panic_on_warn the run would go on.
        console = log("kasan.console").rpartition("[")[0]
        self.check(verdict.judge(log("debug.verdict"), console, debug=True),
                   "host-warning", "KASAN: slab-use-after-free")

    def test_kfence(self):
        self.check(judge("debug", "kfence.console", debug=True),
                   "host-warning", "KFENCE: use-after-free")

    def test_kmemleak(self):
        self.check(judge("kmemleak", "kmemleak.console", debug=True),
                   "test-failure", "kmemleak: unreferenced object")
        self.check(judge("debug", "kmemleak.console", debug=True),
                   "host-warning", "1 new suspected memory leaks")

    def test_other_reports(self):
        for line in ("BUG: MAX_LOCKDEP_CHAINS too low!",
                     "BUG: sleeping function called from invalid context",
                     "WARNING: suspicious RCU usage",
                     "INFO: trying to register non-static key.",
                     "kmemleak: Memory pool empty, consider increasing it",
                     "kmemleak: Kernel memory leak detector disabled",
                     "ODEBUG: free active (active state 0) object: 0xff",
                     "list_del corruption. prev->next should be 0xff"):
            with self.subTest(line):
                console = log("debug.console") + f"[   50.0] {line}\n"
                self.check(verdict.judge(log("debug.verdict"), console,
                                         debug=True),
                           "host-warning", line)

    def test_a_kernel_that_finds_nothing_since_it_can_not(self):
        self.check(judge("debug", "good.console", debug=True),
                   "infrastructure", "no debug kernel")
        for name in ("lockdep", "kmemleak"):
            lines = [line for line in log("debug.verdict").splitlines()
                     if f"name={name} " not in line]
            text = "".join(f"{i} {line.partition(' ')[2]}\n"
                           for i, line in enumerate(lines))
            text = text.replace("passed=5", "passed=4")
            with self.subTest(name):
                self.check(verdict.judge(text, log("debug.console"),
                                         debug=True),
                           "infrastructure", f"not asked for {name}")


class Bad(Judged):
    def test_silence(self):
        self.check(judge(None, None), "boot-failure", "wrote nothing")

    def test_console_but_no_verdict(self):
        self.check(judge(None), "boot-failure", "never reached init")

    def test_panic_before_init(self):
        self.check(judge(None, "panic.console"), "boot-failure",
                   "Unable to mount root fs")

    def test_panic_after_init(self):
        self.check(judge("panic-late", "panic.console"), "host-crash",
                   "Kernel panic")

    def test_stall(self):
        self.check(judge("cut-off", stopped="stall"), "stall")

    def test_emulator_runs_on(self):
        self.check(judge("good", stopped="time-out"), "time-out")

    def test_cut_off(self):
        self.check(judge("cut-off"), "infrastructure", "cut off")

    def test_cut_off_between_lines(self):
        text = log("cut-off.verdict").rpartition("\n")[0] + "\n"
        self.check(verdict.judge(text, ""), "infrastructure", "no `end`")

    def test_gap(self):
        self.check(judge("gap"), "infrastructure", "line 4 is missing")

    def test_garbage(self):
        self.check(judge("garbage"), "infrastructure", "garbage")

    def test_garbage_in_a_value(self):
        self.check(judge("garbage-value"), "infrastructure", "many")

    def test_something_after_the_end(self):
        text = log("good.verdict") + "12 tick ns=5\n"
        self.check(verdict.judge(text, ""), "infrastructure", "after the end")

    def test_no_plan(self):
        self.check(judge("no-plan"), "infrastructure", "no plan")

    def test_planned_phase_is_missing(self):
        self.check(judge("good", planned=("boot", "uefi-vars")),
                   "infrastructure", "uefi-vars")

    def test_end_counts_otherwise(self):
        self.check(judge("miscount"), "infrastructure", "4 tests passed")

    def test_guest_crash(self):
        self.check(judge("guest-crash"), "guest-crash", "triple fault")

    def test_qemu_exit(self):
        self.check(judge("qemu-exit"), "qemu-exit", "status 1")

    def test_time_out_in_virtual_time(self):
        self.check(judge("time-out"), "time-out", "virtual time")

    def test_counters_disagree(self):
        self.check(judge("disagree"), "test-failure", "says 15")

    def test_skip(self):
        self.check(judge("skip", planned=()), "unexpected-skip", "status 4")

    def test_expected_skip(self):
        result = judge("skip", planned=(),
                       expected_skips=["tdp_root_retention_test"])
        self.assertEqual(result.status, "pass")

    def test_expected_skip_pattern(self):
        result = judge("skip", planned=(), expected_skips=["tdp_*_test"])
        self.assertEqual(result.status, "pass")
        self.check(judge("skip", planned=(), expected_skips=["tdp_?_test"]),
                   "unexpected-skip", "status 4")

    def test_no_tests(self):
        self.check(judge("no-tests", planned=()), "no-tests")

    def test_tsc_message(self):
        self.check(judge("good", "tsc.console"), "host-warning", "TSC rate")

    def test_where_to_read_on_is_no_warning(self):
        self.assertEqual(judge("good", "srso.console").status, "pass")

    def test_kernel_warning(self):
        self.check(judge("good", "warn.console"), "host-warning",
                   "kvm_tdp_mmu_map")


if __name__ == "__main__":
    unittest.main()
