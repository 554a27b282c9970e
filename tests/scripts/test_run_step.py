#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/run-step: how far a long command is, and what failed."""

import subprocess
import tempfile
import unittest
from pathlib import Path

from checkout import TOP


class RunStep(unittest.TestCase):
    def run_step(self, script):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "logs/log"
            result = subprocess.run(
                [TOP / "scripts/run-step", "STEP", log, "sh", "-c", script],
                text=True, capture_output=True)
            return result, log.read_text()

    def test_tenths_of_ninja(self):
        result, log = self.run_step(
            "for i in $(seq 200); do echo \"[$i/200] cc\"; done")
        self.assertEqual(result.stdout.splitlines()[::5],
                         ["  STEP       0 %  1/200", "  STEP      50 %  100/200",
                          "  STEP     100 %  200/200"])
        self.assertEqual(log.count("\n"), 200)

    def test_packages(self):
        result, _ = self.run_step(
            "for i in $(seq 600); do echo \"Unpacking p$i (1) ...\"; done;"
            "for i in $(seq 600); do echo \"Setting up p$i (1) ...\"; done")
        self.assertEqual(result.stdout.splitlines(),
                         ["  STEP     packages: 500 unpacked, 0 set up",
                          "  STEP     packages: 600 unpacked, 400 set up"])

    def test_failure_shows_why(self):
        result, _ = self.run_step(
            "seq 100; echo 'a.c:1: error: no'; seq 30; exit 3")
        self.assertEqual(result.returncode, 1)
        lines = result.stderr.splitlines()
        self.assertEqual(lines[0], "a.c:1: error: no")
        self.assertIn("STEP: error: the command failed with status 3", lines[-1])


if __name__ == "__main__":
    unittest.main()
