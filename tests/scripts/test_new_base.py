#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""new-base: what a new point release or line breaks, on a small upstream."""

import contextlib
import importlib.machinery
import importlib.util
import io
import shutil
import sys
import unittest
from pathlib import Path
from unittest import mock

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(Path(__file__).parent)]

from test_series import NAME, UPSTREAM, Base     # noqa: E402

loader = importlib.machinery.SourceFileLoader("new_base",
                                              str(SCRIPTS / "new-base"))
new_base = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("new_base", loader))
loader.exec_module(new_base)

FILE = "accel/kvm/kvm-all.c"


class NewBase(Base):
    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.object(new_base, "BUILD",
                                            self.top / "build"))
        self.enterContext(mock.patch.dict(new_base.TREES, qemu=self.tree,
                                          clear=True))
        (self.tree.state / "version").write_text("10.0.13\n")
        self.put("new/VERSION", "10.0.14\n")
        for path, text in UPSTREAM.items():
            self.put(f"new/{path}", text)

    def run_on(self, *args):
        with contextlib.redirect_stdout(io.StringIO()) as out, \
                contextlib.redirect_stderr(io.StringIO()) as err:
            status = new_base.main(list(args))
        return status, out.getvalue() + err.getvalue()

    def directory(self):
        return self.run_on("qemu", str(self.top / "new"))

    def test_nothing_new(self):
        status, said = self.directory()
        self.assertEqual(status, 0)
        self.assertIn("QEMU 10.0.14 against 10.0.13, patches/qemu: 1 patches, "
                      "none breaks", said)
        self.assertIn("not touched", said)

    def test_what_applies_can_still_be_wrong(self):
        self.put(f"new/{FILE}", "a new line\n" + UPSTREAM[FILE])
        status, said = self.directory()
        self.assertEqual(status, 0)
        self.assertIn(f"{FILE}: 1 lines removed or added", said)

    def test_upstream_has_it(self):
        self.put(f"new/{FILE}", UPSTREAM[FILE].replace("line 20\n", "hook();\n"))
        status, said = self.directory()
        self.assertEqual(status, 0)
        self.assertIn(f"{NAME}: upstream has it already", said)

    def test_other_lines_around_it(self):
        self.put(f"new/{FILE}", UPSTREAM[FILE].replace("line 17\n", "else\n"))
        status, said = self.directory()
        self.assertEqual(status, 1)
        self.assertIn(f"{NAME}: applies to other lines around it", said)
        self.assertIn("1 break", said)

    def test_it_does_not_apply(self):
        self.put(f"new/{FILE}", UPSTREAM[FILE].replace("line 20\n", "gone\n"))
        status, said = self.directory()
        self.assertEqual(status, 1)
        self.assertIn(f"does not apply: {FILE}, hunk 1", said)

    def test_upstream_removed_the_file(self):
        (self.top / "new" / FILE).unlink()
        status, said = self.directory()
        self.assertEqual(status, 1)
        self.assertIn(f"{FILE}: upstream has removed it", said)

    def test_a_file_of_ours(self):
        self.put("accel/kvm/ours.c", "int ours;\n")
        self.put("new/accel/kvm/ours.c", "int theirs;\n")
        status, said = self.directory()
        self.assertEqual(status, 1)
        self.assertIn("accel/kvm/ours.c: upstream has a file of that name", said)

    def test_nothing_is_changed(self):
        before = {p: p.read_bytes() for p in self.top.rglob("*") if p.is_file()}
        self.directory()
        self.assertEqual({p: p.read_bytes() for p in self.top.rglob("*")
                          if p.is_file()}, before)

    def test_requests_that_make_no_sense(self):
        for args, word in ((("qemu",), "TREE and DIR"),
                           (("--help", "x"), "TREE and DIR"),
                           (("bash", "new"), "'bash': one of qemu"),
                           (("qemu", str(self.top)), "no source tree of qemu")):
            status, said = self.run_on(*args)
            self.assertEqual(status, 2, args)
            self.assertIn(word, said)
        shutil.rmtree(self.tree.src)
        self.assertIn("make extract-qemu", self.directory()[1])

    def debian(self, version, wrong=None):
        """scripts/fetch brings this version, or says what is wrong."""
        def fetch(name, inputs):
            (inputs / name).write_text(f"qemu {version} /a.tar 00\n")
            return (None, wrong) if wrong else \
                ((inputs / name).read_text(), None)

        def unpack(tree, source, folder, listed):
            shutil.copytree(self.top / "new", source)
        with mock.patch.object(new_base, "fetch", fetch), \
                mock.patch.object(new_base.trees, "unpack", unpack), \
                mock.patch.object(new_base, "NEWEST", {"qemu-newest": "qemu"}):
            return self.run_on()

    def test_debian_has_something_new(self):
        self.put("build/inputs/qemu", "qemu 1:10.0.13 /a.tar 00\n")
        status, said = self.debian("1:10.0.14")
        self.assertEqual(status, 0)
        self.assertEqual(said.count("qemu 1:10.0.14 against 10.0.13"), 1, said)
        self.put(f"new/{FILE}", "other\n")
        self.assertEqual(self.debian("1:10.0.14")[0], 1)
        self.assertFalse((self.top / "build/new-base").exists())

    def test_debian_has_nothing_new(self):
        self.put("build/inputs/qemu", "qemu 1:10.0.13 /a.tar 00\n")
        status, said = self.debian("1:10.0.13")
        self.assertEqual((status, said.split()),
                         (0, "qemu 1:10.0.13: as before".split()))

    def test_the_mirror_lacks_it(self):
        status, said = self.debian("1:11.1.3", "404 Not Found")
        self.assertEqual(status, 0)
        self.assertIn("qemu-newest: not to be had: 404 Not Found", said)


if __name__ == "__main__":
    unittest.main()
