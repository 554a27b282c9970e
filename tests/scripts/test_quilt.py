#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/quilt.py and packaging/qemu/prepare: what they make of a source package."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from checkout import TOP

sys.path.insert(0, str(TOP / "scripts"))
import quilt                                # noqa: E402
from series import TREES, Error             # noqa: E402

CONTROL = """\
Source: qemu
Build-Depends-Arch:
# --enable-attr

Package: qemu-system-x86
Architecture: any

Package: qemu-system-arm
Architecture: any

Package: qemu-system-modules-spice
Architecture: any

Package: qemu-system-data
Architecture: all
"""
RULES = "enable-system = $(if $(filter qemu-system,x),y)\n" \
    "common_configure_opts = \\\n\t--prefix=/usr\n" \
    "binary:\n\tdh_shlibdeps -a -Nqemu-user\n"


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name)
        (self.dir / "debian/patches").mkdir(parents=True)


class Quilt(Folder):
    def quilt(self, *words):
        return subprocess.run([TOP / "scripts/quilt.py", *words], text=True,
                              capture_output=True)

    def test_series_stands_behind_debians(self):
        (self.dir / "debian/patches/series").write_text("theirs.patch\n")
        quilt.write(TREES["libvirt"], self.dir)
        lines = (self.dir / "debian/patches/series").read_text().splitlines()
        self.assertEqual(lines[0], "theirs.patch")
        self.assertEqual(lines[1:], [f"perennial/{name}" for name in
                                     TREES["libvirt"].read_series()])
        for line in lines[1:]:
            self.assertEqual((self.dir / "debian/patches" / line).read_bytes(),
                             (TREES["libvirt"].patches /
                              Path(line).name).read_bytes())

    def test_files_of_ours_arrive(self):
        (self.dir / "debian/patches/series").write_text("")
        quilt.write(TREES["qemu"], self.dir)
        patch = self.dir / "debian/patches/perennial" / quilt.FILES
        # As dpkg-source applies it
        subprocess.run(["patch", "-s", "-p1", "-F0", "-i", patch], cwd=self.dir,
                       check=True)
        for path in TREES["qemu"].overlay():
            self.assertEqual((self.dir / path).read_bytes(),
                             (TOP / path).read_bytes())

    def test_refusals(self):
        for words, text in (((), "files or write"),
                            (("write", "linux", "/tmp"), "qemu or libvirt"),
                            (("write", "qemu"), "write TREE DIR"),
                            (("write", "qemu", str(self.dir)),
                             "Debian source package with patches")):
            result = self.quilt(*words)
            self.assertEqual(result.returncode, 1)
            self.assertIn(text, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)

    def test_a_file_without_a_newline(self):
        with self.assertRaises(Error):
            quilt.new_file("a", "text")


class Prepare(Folder):
    def prepare(self, rules=RULES):
        (self.dir / "debian/rules").write_text(rules)
        (self.dir / "debian/control.mk").write_text(
            "system-packages := arm mips x86\n")
        for name in ("control", "control-in"):
            (self.dir / "debian" / name).write_text(CONTROL)
        return subprocess.run([TOP / "packaging/qemu/prepare"], cwd=self.dir,
                              text=True, capture_output=True)

    def test_x86_alone(self):
        self.assertEqual(self.prepare().returncode, 0)
        for name in ("control", "control-in"):
            text = (self.dir / "debian" / name).read_text()
            self.assertEqual([line for line in text.splitlines()
                              if line.startswith("Package:")],
                             ["Package: qemu-system-x86",
                              "Package: qemu-system-modules-spice"])
            # debian/rules reads its options of configure there.
            self.assertIn("# --enable-attr\n", text)
        self.assertEqual((self.dir / "debian/control.mk").read_text(),
                         "system-packages := x86\n")
        rules = (self.dir / "debian/rules").read_text()
        self.assertIn("enable-system = y\n", rules)
        self.assertIn("--target-list=i386-softmmu,x86_64-softmmu\n"
                      "common_configure_opts = \\\n", rules)
        self.assertNotIn("qemu-user", rules)
        # make would make it anew.
        self.assertGreaterEqual((self.dir / "debian/control").stat().st_mtime_ns,
                                (self.dir / "debian/control-in").stat().st_mtime_ns)

    def test_packaging_that_has_changed(self):
        result = self.prepare(RULES.replace("enable-system", "with-system"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("debian/rules has no line 'enable-system = .*'",
                      result.stderr)


if __name__ == "__main__":
    unittest.main()
