# SPDX-License-Identifier: GPL-2.0-or-later
"""For the tests: a copy of the build scripts, with tools that pretend."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


class Checkout(unittest.TestCase):
    """self.top is a checkout of its own, self.home a home directory."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        base = Path(folder.name)
        self.top, self.home, self.bin = (base / n for n in
                                         ("top", "home", "bin"))
        for path in (self.home, self.bin, self.top / "tests/lab"):
            path.mkdir(parents=True)
        for name in ("configure", "Makefile", "meson.build"):
            shutil.copy2(TOP / name, self.top / name)
        shutil.copytree(TOP / "scripts", self.top / "scripts",
                        ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(TOP / "docs/upstream", self.top / "docs/upstream")
        # Their names say which lines there are.
        for folder in (TOP / "patches").iterdir():
            if folder.is_dir():
                (self.top / "patches" / folder.name).mkdir(parents=True)
        shutil.copytree(TOP / "tests/lab/scenarios",
                        self.top / "tests/lab/scenarios")

    def tool(self, name, text):
        """A program that stands before the real one of that name."""
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    def run_in(self, *cmd, **env):
        environ = {k: v for k, v in os.environ.items()
                   if not k.startswith(("XDG_", "APT_", "MAKE", "GIT_"))
                   and k not in ("KERNEL", "QEMU_TREE")}
        environ.update({"HOME": str(self.home), "LC_ALL": "C",
                        "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin"})
        environ.update(env)
        environ = {k: v for k, v in environ.items() if v is not None}
        return subprocess.run(cmd, cwd=self.top, env=environ, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL)

    def refused(self, result, *words):
        """One line of error that says all of words."""
        self.assertNotEqual(result.returncode, 0, result.stdout)
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        for word in words:
            self.assertIn(word, lines[0])

    def tree(self, name, files):
        root = self.top.parent / name
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return root
