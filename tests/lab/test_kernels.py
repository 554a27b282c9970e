#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""--kernel: which file, which initramfs, which folder for the logs."""

import os
import sys
import tempfile
import unittest
from unittest import mock

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import kernels                 # noqa: E402
from labcore.errors import LabError         # noqa: E402


class Kernels(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build = folder.name
        # What make exports.
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop("QEMU_TREE", None)

    def make(self, *path):
        path = os.path.join(self.build, *path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            return path

    def test_a_name_is_the_builds(self):
        for name in kernels.NAMES:
            path = self.make("deb/lab/vmlinuz") if name == kernels.DEBIAN else \
                self.make(f"linux-{name}", "arch/x86/boot/bzImage")
            self.assertEqual(kernels.bzimage(self.build, name), path)

    def test_modules_of_debian_in_their_order(self):
        for name in ("3-kvm-amd.ko.xz", "1-irqbypass.ko.xz", "2-kvm.ko.xz"):
            self.make("deb/lab/modules", name)
        found = kernels.modules(self.build, kernels.DEBIAN)
        self.assertEqual([os.path.basename(path) for path in found],
                         ["1-irqbypass.ko.xz", "2-kvm.ko.xz", "3-kvm-amd.ko.xz"])
        self.assertEqual(kernels.modules(self.build, "6.12"), [])

    def test_a_file_is_itself(self):
        path = self.make("7.2-of-mine")
        self.assertEqual(kernels.bzimage(self.build, path), path)
        self.assertEqual(kernels.label(path), "")

    def test_not_built(self):
        with self.assertRaisesRegex(LabError, "--kernel 7.2: .*make lab-7.2"):
            kernels.bzimage(self.build, "7.2")

    def test_debian_not_built(self):
        with self.assertRaisesRegex(LabError, "--kernel deb13: .*make deb"):
            kernels.bzimage(self.build, kernels.DEBIAN)

    def test_no_such_thing(self):
        with self.assertRaisesRegex(LabError, "--kernel 6.1: .*6.12, 7.2"):
            kernels.bzimage(self.build, "6.1")

    def test_each_line_has_its_initramfs(self):
        for name, file in (("6.12", "initramfs.cpio"),
                           ("7.2", "initramfs-7.2.cpio"),
                           ("6.12-debug", "initramfs.cpio"),
                           ("7.2-debug", "initramfs-7.2.cpio"),
                           ("deb13", "initramfs.cpio"),
                           ("/boot/7.2", "initramfs.cpio")):
            self.assertEqual(os.path.basename(
                kernels.initramfs(self.build, name)), file)

    def test_each_qemu_has_its_initramfs(self):
        for tree, file in (("qemu", "initramfs-7.2.cpio"),
                           ("qemu-10.2", "initramfs-7.2-10.2.cpio")):
            with mock.patch.dict(os.environ, QEMU_TREE=tree):
                self.assertEqual(os.path.basename(
                    kernels.initramfs(self.build, "7.2")), file)

    def test_labels(self):
        self.assertEqual([kernels.label(name) for name in kernels.NAMES],
                         ["", "7.2-", "7.3-", "6.12-debug-", "7.2-debug-",
                          "7.3-debug-", "deb13-"])

    def test_lines_are_those_of_patches(self):
        folders = sorted(name.removeprefix("linux-") for name in os.listdir(
            os.path.join(os.path.dirname(LAB), "../patches"))
                         if name.startswith("linux-"))
        self.assertEqual(sorted(kernels.LINES), folders)

    def test_debug(self):
        for name, debug in (("6.12", False), ("7.2-debug", True),
                            ("/boot/my-debug", False)):
            self.assertEqual(kernels.debug(name), debug)


if __name__ == "__main__":
    unittest.main()
