#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kconfig-check: a symbol that Kconfig dropped is named.  kconfig-merge."""

import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kconfig-check"
CONFIG = """\
# Linux/x86 6.12.117 Kernel Configuration
CONFIG_KVM=y
CONFIG_NR_CPUS=16
CONFIG_CMDLINE="quiet a=b"
# CONFIG_MODULES is not set
"""


class KconfigCheck(unittest.TestCase):
    def check(self, fragment):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("fragment", fragment), ("config", CONFIG)):
                (Path(folder) / name).write_text(text)
            return subprocess.run([SCRIPT, "fragment", "config"], cwd=folder,
                                  capture_output=True, text=True)

    def test_taken(self):
        r = self.check("# why\nCONFIG_KVM=y\nCONFIG_NR_CPUS=16\n"
                       "CONFIG_CMDLINE=\"quiet a=b\"\nCONFIG_MODULES=n\n"
                       "# CONFIG_NET is not set\n")
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_not_taken(self):
        for line, said in (("CONFIG_KVM_AMD=y", "CONFIG_KVM_AMD=y"),
                           ("CONFIG_NR_CPUS=64", "made it 16"),
                           ("CONFIG_KVM=n", "made it y"),
                           ("# CONFIG_KVM is not set", "CONFIG_KVM=n")):
            with self.subTest(line):
                r = self.check(f"CONFIG_KVM=y\n{line}\n")
                self.assertEqual(r.returncode, 1)
                self.assertIn(said, r.stderr)
                self.assertEqual(len(r.stderr.splitlines()), 1)

    def test_no_fragment_at_all(self):
        for text, said in (("", "names no symbol"),
                           ("KVM=y\n", "fragment:1"),
                           ("CONFIG_KVM y\n", "fragment:1")):
            with self.subTest(text):
                r = self.check(text)
                self.assertEqual(r.returncode, 1)
                self.assertIn(said, r.stderr)


class KconfigMerge(unittest.TestCase):
    def test_the_last_line_of_a_symbol_wins(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (
                    ("a", "# why\nCONFIG_KVM=y\nCONFIG_HZ=100\nCONFIG_X=n\n"),
                    ("b", "# CONFIG_HZ is not set\nCONFIG_X=y\n")):
                (Path(folder) / name).write_text(text)
            r = subprocess.run([SCRIPT.with_name("kconfig-merge"), "a", "b"],
                               cwd=folder, capture_output=True, text=True)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(r.stdout, "# why\nCONFIG_KVM=y\n"
                         "# CONFIG_HZ is not set\nCONFIG_X=y\n")


if __name__ == "__main__":
    unittest.main()
