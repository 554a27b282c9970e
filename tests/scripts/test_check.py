#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/check counts what test programs say, and never takes silence."""

import importlib.machinery
import importlib.util
import unittest
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "scripts" / "check"
LOADER = importlib.machinery.SourceFileLoader("check", str(PATH))
check = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("check", LOADER))
LOADER.exec_module(check)

CASES = (
    # what it says, exit status, Meson's result, (passed, failed, skipped)
    ("3 passed, 0 failed\n", 0, "OK", (3, 0, 0)),
    ("3 passed, 1 failed, 2 skipped\n", 1, "FAIL", (3, 1, 2)),
    ("Ran 4 tests in 0.1s\n\nOK\n", 0, "OK", (4, 0, 0)),
    ("Ran 1 test in 0.1s\n\nOK\n", 0, "OK", (1, 0, 0)),
    ("Ran 5 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=1)\n", 1,
     "FAIL", (1, 3, 1)),
    ("1..3\nok 1 /a\nok 2 /b # SKIP no KVM\nok 3 /c\n", 0, "OK", (2, 0, 1)),
    ("1..2\nok 1 /a\nnot ok 2 /b\n", 1, "FAIL", (1, 1, 0)),
    # Crashed after the first of three; no plan at all.
    ("1..3\nok 1 /a\n", 134, "ERROR", (1, 2, 0)),
    ("ok 1 /a\n", 0, "OK", (1, 1, 0)),
    # Silence, no test, and a good word with a bad status.
    ("", 0, "OK", (0, 1, 0)),
    ("0 passed, 0 failed\n", 0, "OK", (0, 1, 0)),
    ("Ran 0 tests in 0.0s\n\nOK\n", 0, "OK", (0, 1, 0)),
    ("3 passed, 0 failed\n", 1, "FAIL", (3, 1, 0)),
    ("3 passed, 0 failed\n", -9, "TIMEOUT", (3, 1, 0)),
    ("all 3 passed, 0 failed, I think\n", 0, "OK", (0, 1, 0)),
)


class Count(unittest.TestCase):
    def test_table(self):
        for text, status, result, expected in CASES:
            with self.subTest(text=text, status=status):
                self.assertEqual(check.count({
                    "name": "x", "stdout": text, "returncode": status,
                    "result": result}), expected)

    def test_a_check_has_only_its_status(self):
        for status, result, expected in ((0, "OK", (1, 0, 0)),
                                         (1, "FAIL", (0, 1, 0))):
            self.assertEqual(check.count({
                "name": "static - perennial:lint", "returncode": status,
                "stdout": "", "result": result}), expected)


if __name__ == "__main__":
    unittest.main()
