#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""series.py and tree.py on a small upstream: what they do, what they refuse."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import series                   # noqa: E402
import tree as trees            # noqa: E402

UPSTREAM = {
    "README": "upstream\n",
    "accel/kvm/kvm-all.c": "".join(f"line {i}\n" for i in range(1, 41)),
    "hw/core.c": "int core;\n",
}
GOOD = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A Developer <a@example.org>
Date: Sun, 1 Nov 2026 12:00:00 +0000
Subject: [PATCH] accel/kvm: call our hook

Line 20 is where a slot is deleted.

Signed-off-by: A Developer <a@example.org>
Upstream: no, a hook to a file of ours
---
 accel/kvm/kvm-all.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/accel/kvm/kvm-all.c b/accel/kvm/kvm-all.c
index {old}..{new} 100644
--- a/accel/kvm/kvm-all.c
+++ b/accel/kvm/kvm-all.c
@@ -17,7 +17,7 @@ line 16
 line 17
 line 18
 line 19
-line 20
+hook();
 line 21
 line 22
 line 23
"""
NAME = "0201-accel-kvm-call-our-hook.patch"


def blob(text):
    return subprocess.run(["git", "hash-object", "--stdin"], input=text,
                          text=True, capture_output=True,
                          check=True).stdout[:12]


def good():
    text = UPSTREAM["accel/kvm/kvm-all.c"]
    return GOOD.format(old=blob(text),
                       new=blob(text.replace("line 20\n", "hook();\n")))


class Base(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        for module in (series, trees):
            for name, value in (("TOP", self.top),
                                ("BUILD", self.top / "build")):
                self.addCleanup(setattr, module, name, getattr(module, name))
                setattr(module, name, value)
        # Fingerprinted as a file of the repository.
        self.put("scripts/series.py", "")
        self.addCleanup(setattr, trees, "__file__", trees.__file__)
        trees.__file__ = str(self.top / "scripts/tree.py")
        self.put("scripts/tree.py", "")
        self.tree = series.Tree("qemu", "qemu",
                                ("accel", "hw", "scripts/a-tool"))
        for path, text in UPSTREAM.items():
            self.put(f"build/src/qemu/{path}", text)
        self.tree.state.mkdir()
        self.patch(NAME, good())
        self.series(NAME)

    def put(self, path, text):
        path = self.top / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def patch(self, name, text):
        return self.put(f"patches/qemu/{name}", text)

    def series(self, *names):
        return self.put("patches/qemu/series", "# Ours\n" + "".join(
            n + "\n" for n in names))

    def built(self, path="accel/kvm/kvm-all.c"):
        return self.top / "build/src/qemu" / path

    def quiet(self, function, *args):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            function(*args)
        return out.getvalue()

    def refused(self, function, *args):
        with self.assertRaises(series.Error) as caught, \
                contextlib.redirect_stdout(io.StringIO()):
            function(*args)
        return str(caught.exception)


class Check(Base):
    def one(self, *words):
        """Exactly one problem, which says all of words."""
        problems = series.check(self.tree)
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])

    def test_a_good_series_has_no_problem(self):
        self.assertEqual(series.check(self.tree), [])

    def test_it_does_not_depend_on_the_users_git(self):
        home = self.put("home/.gitconfig", "[diff]\n\tnoprefix = true\n"
                        "[format]\n\tsignOff = true\n\tattach\n").parent
        old = os.environ.get("HOME")
        os.environ["HOME"] = str(home)
        self.addCleanup(os.environ.__setitem__, "HOME", old or "/")
        self.assertEqual(series.check(self.tree), [])

    def test_a_named_file_that_does_not_exist(self):
        self.series(NAME, "0202-gone.patch")
        self.one("series", "0202-gone.patch does not exist")

    def test_a_file_that_is_not_named(self):
        self.patch("0202-extra.patch", good())
        self.one("0202-extra.patch is not in the series file")

    def test_a_name_out_of_form(self):
        self.series("hook.patch")
        self.one("'hook.patch'", "is accepted")

    def test_twice(self):
        self.series(NAME, NAME)
        self.one(NAME, "twice")

    def test_out_of_order(self):
        self.patch("0101-b.patch", good())
        self.series(NAME, "0101-b.patch")
        self.one("order")

    def test_what_a_patch_must_say(self):
        for gone, said in (("Signed-off-by: A Developer <a@example.org>\n",
                            "no Signed-off-by"),
                           ("Upstream: no, a hook to a file of ours\n",
                            "no Upstream"),
                           ("Line 20 is where a slot is deleted.\n",
                            "gives no reason")):
            with self.subTest(said):
                self.patch(NAME, good().replace(gone, ""))
                self.one(NAME, said)

    def test_a_hunk_that_needs_fuzz(self):
        # The outermost line of context differs: fuzz 1 would swallow it.
        self.patch(NAME, good().replace(" line 17\n", " line seventeen\n"))
        self.one(NAME, "accel/kvm/kvm-all.c", "hunk 1", "line 17")

    def test_a_patch_of_a_file_that_upstream_has_not(self):
        self.patch(NAME, good().replace("kvm-all.c", "kvm-none.c"))
        self.one(NAME, "kvm-none.c")

    def test_a_line_number_that_drifted(self):
        self.patch(NAME, good().replace("@@ -17,7 +17,7 @@",
                                        "@@ -18,7 +18,7 @@"))
        self.one(NAME, "export it otherwise", "refresh-qemu")

    def test_a_signature_of_git(self):
        self.patch(NAME, good() + "-- \n2.39.5\n\n")
        self.one(NAME, "export it otherwise")

    def test_a_name_that_is_not_the_subjects(self):
        (self.tree.patches / NAME).unlink()
        self.patch("0201-hook.patch", good())
        self.series("0201-hook.patch")
        self.one("0201-hook.patch", NAME)

    def test_without_its_tree_the_form_alone(self):
        # Would not apply, but who could know?
        text = good().replace(" line 17\n", " line seventeen\n")
        self.patch(NAME, text)
        shutil.rmtree(self.tree.src)
        self.assertEqual(series.check(self.tree), [])
        self.patch(NAME, text.replace("Upstream:", "Downstream:"))
        self.one(NAME, "no Upstream")

    def test_only_an_optional_tree_may_be_missing(self):
        self.assertIn("their form alone", self.missing(True, False))
        for optional, named in ((True, True), (False, False)):
            with self.subTest(optional=optional, named=named), \
                    self.assertRaisesRegex(series.Error, "does not exist"):
                self.missing(optional, named)

    def missing(self, optional, named):
        shutil.rmtree(self.tree.src, ignore_errors=True)
        self.tree.optional = optional
        return self.quiet(series.cmd_check, [self.tree], named)

    def test_no_patch_yet(self):
        (self.tree.patches / NAME).unlink()
        self.series()
        self.assertEqual(series.check(self.tree), [])

    def test_a_file_of_ours_on_top_of_upstreams(self):
        self.put("hw/core.c", "int ours;\n")
        self.one("hw/core.c", "edit it with a patch")


class Apply(Base):
    def apply(self):
        return self.quiet(trees.apply, self.tree)

    def test_patch_and_overlay_reach_the_tree(self):
        self.put("accel/kvm/ours.c", "int ours;\n")
        self.apply()
        self.assertIn("hook();\n", self.built().read_text())
        self.assertEqual(self.built("accel/kvm/ours.c").read_text(),
                         "int ours;\n")

    def test_of_a_folder_with_more_a_single_file_reaches_the_tree(self):
        self.put("scripts/a-tool", "#!/bin/sh\n").chmod(0o755)
        self.apply()
        self.assertEqual(self.built("scripts/a-tool").stat().st_mode & 0o777,
                         0o755)
        self.assertFalse(self.built("scripts/series.py").exists())

    def test_only_what_changes_is_written(self):
        ours = self.put("accel/kvm/ours.c", "int ours;\n")
        self.apply()
        for path in (self.built(), self.built("accel/kvm/ours.c")):
            os.utime(path, (1, 1))
        ours.write_text("int theirs;\n")
        self.apply()
        self.assertEqual(self.built().stat().st_mtime, 1)
        self.assertNotEqual(self.built("accel/kvm/ours.c").stat().st_mtime, 1)
        self.assertEqual(self.apply(), "", "nothing to do the second time")

    def test_taking_back_gives_upstreams_tree(self):
        ours = self.put("accel/kvm/ours.c", "int ours;\n")
        self.apply()
        ours.unlink()
        (self.tree.patches / NAME).unlink()
        self.series()
        self.apply()
        self.assertFalse(self.built("accel/kvm/ours.c").exists())
        for path, text in UPSTREAM.items():
            self.assertEqual(self.built(path).read_text(), text)

    def test_a_wrong_patch_names_itself_and_writes_nothing(self):
        self.put("accel/kvm/ours.c", "int ours;\n")
        self.patch(NAME, good().replace(" line 21", " line 99"))
        said = self.refused(trees.apply, self.tree)
        for word in (f"patches/qemu/{NAME}", "accel/kvm/kvm-all.c", "hunk 1"):
            self.assertIn(word, said)
        self.assertEqual(self.built().read_text(),
                         UPSTREAM["accel/kvm/kvm-all.c"])
        self.assertFalse(self.built("accel/kvm/ours.c").exists())

    def test_a_patch_that_is_in_already_is_no_reason_to_reverse_it(self):
        self.put("build/src/qemu/accel/kvm/kvm-all.c",
                 UPSTREAM["accel/kvm/kvm-all.c"].replace("line 20\n",
                                                         "hook();\n"))
        self.assertIn(NAME, self.refused(trees.apply, self.tree))

    def test_an_upstream_file_is_never_overwritten(self):
        self.put("hw/core.c", "int ours;\n")
        self.assertIn("hw/core.c", self.refused(trees.apply, self.tree))
        self.assertEqual(self.built("hw/core.c").read_text(), "int core;\n")

    def test_an_edit_by_hand_is_not_lost(self):
        ours = self.put("accel/kvm/ours.c", "int ours;\n")
        self.apply()
        self.built("accel/kvm/ours.c").write_text("int by_hand;\n")
        ours.write_text("int other;\n")
        self.assertIn("edited by hand", self.refused(trees.apply, self.tree))
        self.assertEqual(self.built("accel/kvm/ours.c").read_text(),
                         "int by_hand;\n")


class EditRefresh(Base):
    def setUp(self):
        super().setUp()
        self.put("accel/kvm/ours.c", "int ours;\n")
        self.quiet(trees.apply, self.tree)
        self.quiet(series.cmd_edit, self.tree)

    def git(self, *args):
        subprocess.run(["git", "-C", str(self.tree.edit),
                        "-c", "user.name=A Developer",
                        "-c", "user.email=a@example.org", *args],
                       check=True, capture_output=True)

    def commit(self, path, text, subject):
        (self.tree.edit / path).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-m", subject)

    def test_nothing_done_is_nothing_changed(self):
        out = self.quiet(series.cmd_refresh, self.tree)
        self.assertNotIn("WRITE", out)
        self.assertEqual((self.tree.patches / NAME).read_text(), good())
        self.assertEqual((self.tree.patches / "series").read_text(),
                         f"# Ours\n{NAME}\n")

    def test_a_commit_becomes_a_patch(self):
        self.commit("README", "ours\n", "README: say whose\n\nReason.\n\n"
                    "Signed-off-by: A <a@b.c>\nUpstream: no")
        self.quiet(series.cmd_refresh, self.tree)
        self.assertEqual(self.tree.read_series(),
                         [NAME, "0202-README-say-whose.patch"])
        self.assertEqual(series.check(self.tree), [])

    def test_a_dropped_commit_is_a_removed_patch(self):
        self.git("reset", "-q", "--hard", series.BASE)
        self.quiet(series.cmd_refresh, self.tree)
        self.assertEqual(self.tree.read_series(), [])
        self.assertFalse((self.tree.patches / NAME).exists())

    def test_uncommitted_work_is_refused(self):
        (self.tree.edit / "README").write_text("half\n")
        self.assertIn("not committed",
                      self.refused(series.cmd_refresh, self.tree))

    def test_a_file_of_ours_is_edited_at_its_own_place(self):
        self.commit("accel/kvm/ours.c", "int x;\n", "ours: change")
        said = self.refused(series.cmd_refresh, self.tree)
        self.assertIn("accel/kvm/ours.c", said)

    def test_a_second_edit_does_not_overwrite_the_first(self):
        self.assertIn("exists", self.refused(series.cmd_edit, self.tree))


class FirstPatch(Base):
    def test_a_series_begins_empty(self):
        (self.tree.patches / NAME).unlink()
        self.series()
        self.quiet(trees.apply, self.tree)
        self.quiet(series.cmd_edit, self.tree)
        self.quiet(series.cmd_refresh, self.tree)
        self.assertEqual((self.tree.patches / "series").read_text(),
                         "# Ours\n")
        (self.tree.edit / "README").write_text("ours\n")
        series.git(self.tree.edit, "commit", "-q", "-a", "-m",
                   "README: say whose\n\nReason.")
        self.quiet(series.cmd_refresh, self.tree)
        self.assertEqual(self.tree.read_series(),
                         ["0101-README-say-whose.patch"])


class Shared(Base):
    """An older base beside the newest one, whose file has lines above."""

    def setUp(self):
        super().setUp()
        self.older = series.Tree("older", "older-1.0", ("accel", "hw"),
                                 newest="qemu")
        for path, text in UPSTREAM.items():
            self.put(f"build/src/older/{path}", "an older line\n" + text)
        self.older.state.mkdir()
        self.line = f"../qemu/{NAME}"
        self.older_series(self.line)

    def older_series(self, *names):
        return self.put("patches/older-1.0/series", "# Ours\n" + "".join(
            n + "\n" for n in names))

    def one(self, *words):
        problems = series.check(self.older)
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])

    def twin(self):
        """The patch as git would export it for the older base."""
        text = "an older line\n" + UPSTREAM["accel/kvm/kvm-all.c"]
        return GOOD.format(old=blob(text), new=blob(text.replace(
            "line 20\n", "hook();\n"))).replace("@@ -17,", "@@ -18,").replace(
                " +17,", " +18,")

    def test_it_applies_to_both(self):
        self.assertEqual(series.check(self.older), [])
        self.assertEqual(series.check(self.tree), [])
        self.quiet(trees.apply, self.older)
        text = (self.top / "build/src/older/accel/kvm/kvm-all.c").read_text()
        self.assertTrue(text.startswith("an older line\n"))
        self.assertIn("hook();\n", text)

    def test_a_change_of_it_is_applied_to_the_older_one(self):
        self.quiet(trees.apply, self.older)
        self.patch(NAME, good().replace("hook();", "hook2();"))
        self.quiet(trees.apply, self.older)
        self.assertIn("hook2();", (
            self.top / "build/src/older/accel/kvm/kvm-all.c").read_text())

    def test_a_patch_stands_in_one_place(self):
        self.put(f"patches/older-1.0/{NAME}", self.twin())
        self.older_series(NAME)
        self.one(NAME, "patches/qemu's", "refresh-older")

    def test_another_folder_than_the_newest(self):
        for line in (f"../other-1/{NAME}", f"../../qemu/{NAME}", f"qemu/{NAME}"):
            self.older_series(line)
            self.one(line, "../qemu/0101-subject.patch")
        # The newest base takes nothing from another one.
        self.series(f"../older-1.0/{NAME}")
        self.assertIn("0101-subject.patch is accepted",
                      series.check(self.tree)[0])

    def test_one_that_the_newest_does_not_have(self):
        self.older_series("../qemu/0203-none.patch")
        self.one("../qemu/0203-none.patch does not exist")

    def test_one_that_does_not_apply(self):
        self.put("build/src/older/accel/kvm/kvm-all.c", "another file\n")
        self.one(NAME, "does not apply", "accel/kvm/kvm-all.c")

    def test_twice(self):
        self.put(f"patches/older-1.0/{NAME}", good().replace("hook();", "x();"))
        self.older_series(NAME, self.line)
        self.assertIn("stands there twice", series.check(self.older)[0])

    def test_refresh_keeps_what_is_shared_and_writes_what_is_not(self):
        self.quiet(trees.apply, self.older)
        self.quiet(series.cmd_edit, self.older)
        self.quiet(series.cmd_refresh, self.older)
        self.assertEqual(self.older.read_series(), [self.line])
        self.assertEqual(list(self.older.patches.glob("*.patch")), [])
        path = self.older.edit / "accel/kvm/kvm-all.c"
        path.write_text(path.read_text().replace("hook();", "other();"))
        series.git(self.older.edit, "commit", "-q", "-a", "--amend", "--no-edit")
        self.quiet(series.cmd_refresh, self.older)
        self.assertEqual(self.older.read_series(), [NAME])
        self.assertEqual(series.check(self.older), [])
        path.write_text(path.read_text().replace("other();", "hook();"))
        series.git(self.older.edit, "commit", "-q", "-a", "--amend", "--no-edit")
        self.quiet(series.cmd_refresh, self.older)
        self.assertEqual(self.older.read_series(), [self.line])
        self.assertEqual(list(self.older.patches.glob("*.patch")), [])

    def test_a_file_of_ours_is_changed_for_an_older_base_alone(self):
        self.put("accel/kvm/ours.c", "int newest;\n")
        self.quiet(trees.apply, self.older)
        self.quiet(series.cmd_edit, self.older)
        path = self.older.edit / "accel/kvm/ours.c"
        path.write_text("int older;\n")
        series.git(self.older.edit, "commit", "-q", "-a", "-m",
                   "ours: as older QEMU has it\n\nReason.\n\nUpstream: no\n\n"
                   "Signed-off-by: A B <a@b.org>")
        self.quiet(series.cmd_refresh, self.older)
        self.assertEqual(series.check(self.older), [])
        self.quiet(trees.apply, self.older)
        self.assertEqual((self.top / "build/src/older/accel/kvm/ours.c"
                          ).read_text(), "int older;\n")
        # The newest base may not.
        name = self.older.read_series()[1]
        self.patch(name, (self.older.patches / name).read_text())
        self.series(NAME, name)
        self.assertIn("only that of an older base may",
                      series.check(self.tree)[0])
        self.assertIn("only that of an older base may",
                      self.refused(trees.apply, self.tree))

    def test_list(self):
        said = self.quiet(series.cmd_list, self.older)
        self.assertEqual(said, f"{(self.tree.patches / NAME).resolve()}\n")

    def test_git_and_patch_must_agree(self):
        work = self.put("work/accel/kvm/kvm-all.c", "elsewhere\n").parents[2]
        problems = list(series.check_round_trip(
            self.older, [self.line], self.top, work))
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("a different accel/kvm/kvm-all.c", problems[0])


class Numbers(unittest.TestCase):
    def numbers(self, old, new):
        return [n[:4] for n in
                series.number(old, [Path(f"0001-{s}.patch") for s in new])]

    def test_bands_stay(self):
        old = ["0001-a.patch", "0101-b.patch", "0201-c.patch"]
        for new, expected in (
                ("abc", ["0001", "0101", "0201"]),
                ("axbc", ["0001", "0002", "0101", "0201"]),
                ("abcx", ["0001", "0101", "0201", "0202"]),
                ("ac", ["0001", "0201"]),
                ("xy", ["0101", "0102"])):
            with self.subTest(new):
                self.assertEqual(self.numbers(old, new), expected)


if __name__ == "__main__":
    unittest.main()
