#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of QEMU and Linux in the list of tests, and the newest ones' boot."""

import unittest

from checkout import TOP, Checkout


class ScenarioTests(Checkout):
    def scenarios(self, text, host="amd", **env):
        (self.top / "tests/scenarios").write_text(text)
        return self.run_in("scripts/scenario-tests", host, **env)

    def printed(self, *args, **env):
        r = self.scenarios(*args, **env)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return [line.split() for line in r.stdout.splitlines()]

    def test_a_line_of_several_kernels_is_several_tests(self):
        text = "slow flash amd 7.2,7.3\nslow flash intel 6.12\n"
        self.assertEqual(self.printed(text), [["slow", "flash", "7.2"],
                                              ["slow", "flash", "7.3"]])
        self.assertEqual(self.printed(text, "intel"),
                         [["slow", "flash", "6.12"]])

    def test_suite_boot_is_for_the_kernel_that_was_asked_for(self):
        text = ("boot flash amd 6.12\nslow flash amd 7.2,7.3\n"
                "slow flash amd 7.2-debug word=1\n")
        self.assertEqual(self.printed(text)[0], ["boot", "flash", "6.12"])
        self.assertEqual(self.printed(text, KERNEL="7.2"),
                         [["boot", "flash", "7.2"], ["slow", "flash", "7.3"],
                          ["slow", "flash", "7.2-debug", "word=1"]])

    def test_lines_that_make_no_sense(self):
        for line in ("slow flash amd 7.9", "slow flash amd 7.2,7.9",
                     "boot flash arm 6.12", "slow flash amd 6.12 word=1",
                     "slow flash intel 6.12-debug", "later flash amd 6.12",
                     "slow flash amd"):
            with self.subTest(line):
                r = self.scenarios(line + "\n")
                self.assertIn("is accepted", r.stderr)
                self.assertEqual((r.returncode, r.stdout), (1, ""))
        self.assertIn("no scenario 'none'",
                      self.scenarios("slow none amd 6.12\n").stderr)

    def test_the_list_itself(self):
        r = self.scenarios((TOP / "tests/scenarios").read_text())
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn("boot secure-boot 6.12", r.stdout)


class Newest(Checkout):
    def newest(self, make):
        (self.top / "build/logs").mkdir(parents=True)
        self.tool("make", f'echo "$@" >>{self.home}/made\n' + make)
        run = self.top / "tests/lab/run"
        run.write_text('#!/bin/sh\necho "$QEMU_TREE $*"\n'
                       'echo "2 passed, 0 failed"\n')
        run.chmod(0o755)
        return self.run_in("scripts/check-newest")

    def test_it_boots_what_has_patches_last(self):
        r = self.newest("")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn("qemu-10.2 boot", r.stdout)
        self.assertIn("--kernel 7.3", r.stdout)
        self.assertTrue(r.stdout.endswith("2 passed, 0 failed\n"))
        self.assertEqual(
            [line.split()[2:] for line in
             (self.home / "made").read_text().splitlines()],
            [["QEMU=10.2", "KERNEL=7.3", "extract-qemu-10.2",
              "extract-linux-7.3"], ["QEMU=10.2", "KERNEL=7.3", "lab-7.3"]])

    def test_a_source_that_is_not_to_be_had_is_skipped(self):
        r = self.newest("echo 'fetch: error: sid no longer has it' >&2; exit 2\n")
        self.assertEqual(r.returncode, 0)
        self.assertIn("1..1\nok 1 boot of QEMU 10.2 on Linux 7.3 # SKIP sid no "
                      "longer has it\n", r.stdout)

    def test_what_else_goes_wrong_is_a_failure(self):
        r = self.newest("echo 'tree.py: error: does not apply' >&2; exit 2\n")
        self.assertEqual(r.returncode, 1)
        self.assertIn("does not apply", r.stdout)
        self.assertNotIn("SKIP", r.stdout)

    def test_a_build_that_fails(self):
        r = self.newest('case "$*" in *lab*) exit 2 ;; esac\n')
        self.assertNotEqual(r.returncode, 0)
        self.assertNotIn("passed", r.stdout)


if __name__ == "__main__":
    unittest.main()
