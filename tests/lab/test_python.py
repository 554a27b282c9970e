#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that make charts, where PATH has a Python without matplotlib first."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from hosts.amd import ROMS

LAB = Path(__file__).resolve().parent
REPORT = LAB / "testdata/report/two-runs.json"


class OtherPython(unittest.TestCase):
    """The lab's programs in a tree of its own, called as the documents say."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)
        self.lab = self.base / "top/tests/lab"
        self.build = self.base / "top/build"
        self.build.mkdir(parents=True)
        shutil.copytree(LAB, self.lab, ignore=shutil.ignore_patterns(
            "__pycache__", "testdata"))
        # Without site there is no package but the standard library.
        self.program("bin/python3", f'exec {sys.executable} -S "$@"')
        self.booted = self.base / "booted"
        self.emulator = self.program(
            "emulator", f'[ "$1" = --version ] || touch {self.booted}; echo 1')
        self.empty = self.program("firmware/empty", "")
        for name in ROMS:
            self.program(f"firmware/{name}", "")

    def program(self, name, text):
        path = self.base / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def configure(self, python):
        (self.build / "config.mk").write_text(
            f"OFFLINE := no\nPYTHON := {python}\n")

    def configure_good(self):
        """One that can import it all, and leaves a trace."""
        self.configure(self.program(
            "good/python3", f'echo "$@" >>{self.base}/good/calls\n'
            f'exec {sys.executable} "$@"'))

    def calls(self):
        path = self.base / "good/calls"
        return path.read_text().splitlines() if path.exists() else []

    def call(self, *command):
        environ = {k: v for k, v in os.environ.items()
                   if not k.startswith("PYTHON")}
        environ["PATH"] = f"{self.base}/bin:/usr/bin:/bin"
        return subprocess.run(command, cwd=self.base / "top", env=environ,
                              text=True, capture_output=True, timeout=120,
                              stdin=subprocess.DEVNULL, check=False)

    def boot(self, *options):
        return self.call("tests/lab/run", "boot", "--scenario", "pc-seabios",
                         "--runs", "keep", "--qemu", str(self.emulator),
                         "--kernel", str(self.empty), "--initramfs",
                         str(self.empty), "--firmware",
                         str(self.empty.parent), *options)

    def refused(self, result, status, *words):
        self.assertEqual((result.returncode, result.stdout), (status, ""))
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertFalse(self.booted.exists())
        self.assertFalse((self.build / "lab").exists())

    def test_the_fake_is_one(self):
        r = self.call("python3", "-c", "import matplotlib")
        self.assertIn("ModuleNotFoundError", r.stderr)

    def test_not_configured(self):
        self.refused(self.boot(), 2, "matplotlib", sys.executable,
                     "./configure")

    def test_configured_one_has_none_either(self):
        self.configure(self.base / "bin/python3")
        self.refused(self.boot(), 2, "matplotlib", "neither",
                     f"{self.base}/bin/python3", "./configure")

    def test_configured_one_is_gone(self):
        self.configure("/nowhere/python3")
        self.refused(self.boot(), 2, "matplotlib", "/nowhere/python3",
                     "No such file", "./configure")

    def test_what_needs_no_chart_runs(self):
        for options in (["list"], ["boot", "--help"]):
            self.assertEqual(self.call("tests/lab/run", *options).returncode, 0)
        self.boot("--no-report")
        self.assertTrue(self.booted.exists())
        r = self.call("tests/lab/report.py", str(REPORT))
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"),
                         "needs matplotlib")
    def test_the_configured_one_goes_on(self):
        self.configure_good()
        self.boot("--time-limit", "77")
        self.assertTrue(self.booted.exists())
        [call] = self.calls()
        self.assertTrue(call.startswith("tests/lab/run boot "), call)
        self.assertTrue(call.endswith(" --time-limit 77"), call)

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"),
                         "needs matplotlib")
    def test_report_by_itself(self):
        page = str(self.base / "page.html")
        r = self.call("tests/lab/report.py", str(REPORT), "--html", page)
        self.refused(r, 1, "matplotlib", "./configure")
        self.configure_good()
        r = self.call("tests/lab/report.py", str(REPORT), "--html", page)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertTrue(os.path.exists(page))
        self.assertEqual(len(self.calls()), 1)


if __name__ == "__main__":
    unittest.main()
