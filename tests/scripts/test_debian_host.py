#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/debian-host with a root that pretends: what it refuses, in one line each."""

import subprocess
import unittest

from checkout import TOP, Checkout

PACKAGES = """Package: perennial-kvm-dkms
Version: 0.2+6.12.118+1

"""


class Refusals(Checkout):
    def setUp(self):
        super().setUp()
        self.tool("id", "echo 0\n")

    def host(self):
        return self.run_in("scripts/debian-host")

    def file(self, name, text=""):
        path = self.top / "build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_not_root(self):
        self.tool("id", "echo 1000\n")
        self.refused(self.host(), "debian-host: error:", "need root")
        self.assertFalse((self.top / "build").exists())

    def test_no_packages(self):
        self.refused(self.host(), "no package perennial-kvm-dkms", "make deb")
        self.file("apt/Packages", "Package: perennial-tools\n")
        self.refused(self.host(), "no package perennial-kvm-dkms", "make deb")

    def test_no_lab(self):
        self.file("apt/Packages", PACKAGES)
        self.refused(self.host(), "the lab is not built", "make lab")

    def test_no_space(self):
        self.tool("df", "echo; echo / 9 9 99 9 /\n")
        self.tool("mmdebstrap", "exit 1\n")
        self.file("apt/Packages", PACKAGES)
        self.file("deb/release", "6.12.118+deb13\n")
        self.file("inputs/qemu", "p 1 f s\n")
        self.file("inputs/libvirt-deb13", "p 1 f s\n")
        self.file("firmware/inputs")
        self.file("lab/initramfs.cpio")
        lists = self.home / ".cache/perennial/apt"
        lists.mkdir(parents=True)
        (lists / "sources.list").write_text("")
        self.refused(self.host(), "not enough disk space", "99 MiB available")


class Scripts(unittest.TestCase):
    def test_they_are_sound(self):
        scripts = [path for path in (TOP / "tests/lab/debian").iterdir()
                   if path.suffix not in (".xml", ".cfg", ".service") and
                   path.name != "counters"]
        self.assertGreater(len(scripts), 8)
        for path in scripts:
            subprocess.run(["sh", "-n", path], check=True)


if __name__ == "__main__":
    unittest.main()
