#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/check-libvirt counts cases, and takes no crash for a pass."""

import importlib.machinery
import importlib.util
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LOADER = importlib.machinery.SourceFileLoader(
    "check_libvirt", str(SCRIPTS / "check-libvirt"))
check = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("check_libvirt", LOADER))
LOADER.exec_module(check)

CASES = (
    # what the program says, Meson's result, [passed, failed, skipped]
    (" 1) one    ... OK\n 2) two    ... SKIP\n10) ten ... OK\n", "OK",
     [2, 0, 1]),
    (" 1) one    ... OK\n 2) two    ... FAILED\n", "FAIL", [1, 1, 0]),
    # It says why between a case and its verdict.
    (" 1) one    ... libvirt: error\nIn '/x':\nOffset 1\nFAILED\n", "FAIL",
     [0, 1, 0]),
    (" 1) one    ... libvirt: XML error: as expected\nOK\n 2) two ... OK\n",
     "OK", [2, 0, 0]),
    # A domain that is refused, as expected, goes no further.
    (" 1) QEMU XML def parse a    ... OK\n 2) QEMU XML def -> XML a ... SKIP\n"
     " 3) QEMU XML def parse b    ... SKIP\n", "OK", [1, 0, 1]),
    # Crashed after its first case; syntax checks count no cases.
    (" 1) one    ... OK\n", "ERROR", [1, 1, 0]),
    ("make: nothing to do\n", "OK", [1, 0, 0]),
    ("", "SKIP", [0, 0, 1]),
    ("", "TIMEOUT", [0, 1, 0]),
)


class Count(unittest.TestCase):
    def test_table(self):
        for text, result, expected in CASES:
            with self.subTest(text=text, result=result):
                self.assertEqual(check.Result({
                    "name": "libvirt:bin - x", "stdout": "", "stderr": text,
                    "result": result}).count, expected)

    def test_the_list_names_tests(self):
        self.assertIn("qemuxmlconftest", check.affected())


if __name__ == "__main__":
    unittest.main()
