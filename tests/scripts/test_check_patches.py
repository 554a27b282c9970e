#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/check-patches: does it see what it is there to see?"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "scripts"))

from patchcheck import builds, style            # noqa: E402
from patchcheck.memo import Memo, digest        # noqa: E402
from patchcheck.report import Report            # noqa: E402
from series import Error                        # noqa: E402


class Fake:
    """A work tree that says what it is told to."""

    def __init__(self, folder, said="", status=0):
        self.src, self.dir, self.logs = folder / "tree", folder, TOP / "logs"
        self.patches, self.said, self.status, self.jobs = ["0101-a.patch"], \
            said, status, 1
        self.tree = mock.Mock(patches=Path("patches/linux-6.12"))
        self.tree.rel = lambda name: f"patches/linux-6.12/{name}"
        self.letter, self.before = None, []
        self.memo = lambda name: name
        (folder / "source").write_text("6.12.1")

    def text(self, name):
        return name

    def run(self, log, *command, env=None):
        return self.status, self.said


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.report = Report()
        self.report.verdict = mock.Mock(wraps=self.report.verdict)
        quiet = mock.patch("builtins.print")
        quiet.start()
        self.addCleanup(quiet.stop)

    def problems(self):
        return [line for call in self.report.verdict.call_args_list
                for line in call.args[1]]


class Build(Folder):
    def config(self, said="", status=0, fragment="amd.config"):
        config = builds.Config(Fake(self.folder, said, status),
                               builds.HERE / fragment)
        config.out.mkdir()
        (config.out / ".config").write_text("CONFIG_KVM=y\n")
        return config

    def check(self, config):
        config.build_patch("0101-a.patch", builds.Exports(config.work),
                           self.report)

    def test_names_that_a_macro_makes_are_exported(self):
        for name in ("atomic64_add_return_cx8", "param_ops_ulong",
                     "param_ops_ushort"):
            self.assertTrue(builds.PASTED.fullmatch(name))
        for name in ("atomic64_add_return", "param_ops_uchar",
                     "param_ops_ulong_min"):
            self.assertFalse(builds.PASTED.fullmatch(name))

    def test_a_new_warning_fails(self):
        for said in ("../tree/arch/x86/kvm/x86.c:9:2: warning: bad [-Wbad]\n",
                     f"{self.folder}/tree/arch/x86/kvm/x86.c:9:2: error: bad\n"):
            self.check(config := self.config(said))
            self.assertIn("arch/x86/kvm/x86.c:9: ", self.problems()[-1])
            self.assertFalse(config.known("0101-a.patch"))
            config.out.joinpath(".config").unlink()
            config.out.rmdir()

    def test_upstreams_own_warning_does_not(self):
        config = self.config("../tree/arch/x86/kvm/x86.c:9:2: warning: bad\n")
        config.base = {("arch/x86/kvm/x86.c", "warning: bad")}
        self.check(config)
        self.assertEqual(self.problems(), [])
        self.assertTrue(config.known("0101-a.patch"))

    def test_a_silent_failure_fails(self):
        self.check(self.config(status=2))
        self.assertIn("status 2", self.problems()[0])

    def test_a_symbol_that_nobody_exports(self):
        config = self.config()
        (config.out / ".config").write_text("CONFIG_KVM=m\n")
        kvm = config.out / "arch/x86/kvm"
        kvm.mkdir(parents=True)
        for name, text in (("kvm", "void good(void){} void bad(void){}"
                            "char __export_symbol_good;"),
                           ("kvm-amd", "void good(void); void bad(void);"
                            "void core(void); void lost(void);"
                            "void f(void){good(); bad(); core(); lost();}")):
            subprocess.run(["gcc", "-xc", "-c", "-o", kvm / f"{name}.o", "-"],
                           input=text, text=True, check=True)
        (config.work.src / "mm").mkdir(parents=True)
        (config.work.src / "mm/a.c").write_text("EXPORT_SYMBOL_GPL(core);\n")
        self.check(config)
        self.assertEqual(self.problems(), [
            "kvm-amd.ko needs bad, which is not exported",
            "kvm-amd.ko needs lost, which is not exported"])

    def test_each_configuration_has_its_arch(self):
        found = {c.name: c.arch for c in builds.configs(Fake(self.folder))}
        self.assertEqual(found, {"amd": "x86_64", "both": "x86_64",
                                 "i386": "i386", "intel": "x86_64"})


SAID = """WARNING:LONG_LINE: line length of 120
#20: FILE: arch/x86/kvm/x86.c:30:
+	a long line

CHECK:BIT_MACRO: Prefer using the BIT macro
#9:
of the message
"""


class Style(Folder):
    def check(self, allow):
        path = self.folder / "allow"
        path.write_text(allow)
        with mock.patch.object(style, "ALLOW", path), \
                mock.patch.object(style, "TOP", self.folder):
            style.checkpatch(Fake(self.folder, SAID, 1), self.report)
        return self.problems()

    def test_what_is_not_allowed(self):
        self.assertEqual(self.check(""), [
            "arch/x86/kvm/x86.c:30: WARNING:LONG_LINE: line length of 120: "
            "+\ta long line",
            "patches/linux-6.12/0101-a.patch:9: CHECK:BIT_MACRO: Prefer using "
            "the BIT macro: of the message"])

    def test_what_is_allowed(self):
        self.assertEqual(self.check(
            "# why\n6.12 LONG_LINE arch/x86/kvm/* long\n"
            "7.2,6.12 BIT_MACRO patches/*/0101-* .\n"), [])

    def test_an_entry_that_nothing_needs(self):
        self.assertIn("allow:2: not needed", self.check(
            "# why\n6.12 SPACING arch/x86/kvm/x86.c .\n"))

    def test_an_entry_for_another_line(self):
        self.assertNotIn("allow:2: not needed", self.check(
            "# why\n7.2 SPACING arch/x86/kvm/x86.c .\n"))

    def test_a_bad_list(self):
        for bad in ("# why\n6.12 SPACING\n", "6.12 SPACING a .\n"):
            with self.assertRaises(Error):
                self.check(bad)


class Remember(Folder):
    def test_only_the_same_key(self):
        memo = Memo(self.folder / "m")
        memo.put("a", digest("x", "y"), 1)
        memo = Memo(self.folder / "m")
        self.assertEqual(memo.get("a", digest("x", "y")), 1)
        self.assertIsNone(memo.get("a", digest("xy")))
        self.assertIsNone(memo.get("b", digest("x", "y")))


if __name__ == "__main__":
    unittest.main()
