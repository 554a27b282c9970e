#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/upstream on a small upstream tree: what it writes, what it refuses."""

import contextlib
import importlib.machinery
import importlib.util
import io
import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import series                               # noqa: E402
from patchcheck import letters, qemu, style     # noqa: E402
from patchcheck.report import Report        # noqa: E402
from patchcheck.worktree import Worktree    # noqa: E402

LOADER = importlib.machinery.SourceFileLoader("upstream",
                                              str(SCRIPTS / "upstream"))
upstream = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("upstream", LOADER))
LOADER.exec_module(upstream)

NAMES = ("0001-one-fix.patch", "0101-two-feature.patch",
         "0102-three-test.patch")
SIGNED = "Upstream: to be sent\n to somebody\nSigned-off-by: A Dev <a@host.org>"
MAINTAINER = "Ann <ann@host.org> (maintainer:KVM (x86))\n"
LIST = "kvm@host.org (open list:KVM (x86))\n"
REVIEWER = "Bob <bob@host.org> (reviewer:KVM)\n"
LETTER = """\
Subject: x: two things
Tree: linux-9.9
Patch: 0001-one-fix.patch
Patch: 0101-two-feature.patch + ours.c

Why this is
worth it.
"""


class Base(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        for module, name, value in (
                (series, "TOP", self.top), (series, "BUILD", self.top / "build"),
                (letters, "TOP", self.top),
                (letters, "FOLDER", self.top / "docs/upstream"),
                (upstream, "user", lambda: ("A Dev", "a@host.org"))):
            patch = mock.patch.object(module, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.tree = series.Tree("linux-9.9", "linux-9.9")
        for trees in (letters.TREES, upstream.TREES):
            patch = mock.patch.dict(trees, {"linux-9.9": self.tree})
            patch.start()
            self.addCleanup(patch.stop)
        patch = mock.patch.object(style, "ALLOW", self.top / "allow")
        patch.start()
        self.addCleanup(patch.stop)
        self.put("allow", "")
        self.put("ours.c", "int ours;\n")
        self.put("build/src/.linux-9.9/version", "9.9.1\n")
        self.upstream = {
            "a.c": "".join(f"line {i}\n" for i in range(1, 31)),
            "MAINTAINERS": "\n"}
        for name, text in self.upstream.items():
            self.put(f"build/src/linux-9.9/{name}", text)
        self.says(MAINTAINER + LIST + REVIEWER)
        self.checkpatch("")
        self.patches()
        self.letter("x", LETTER)

    def put(self, path, text):
        path = self.top / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def says(self, text):
        """What get_maintainer.pl is to say."""
        self.put("build/src/linux-9.9/scripts/get_maintainer.pl",
                 f"print <<'E';\n{text}E\n")

    def checkpatch(self, text, status=0):
        self.put("build/src/linux-9.9/scripts/checkpatch.pl",
                 f"print <<'E';\n{text}E\nexit {status};\n")

    def letter(self, name, text):
        self.put(f"docs/upstream/{name}.txt", text)

    def patches(self, changes=((3, "three"), (15, "fifteen"), (16, "sixteen")),
                signed=SIGNED, who=("A Dev", "a@host.org")):
        """One patch for each changed line, upon each other."""
        with tempfile.TemporaryDirectory() as tmp:
            repo = Path(tmp) / "repo"
            repo.mkdir()
            (repo / "a.c").write_text(self.upstream["a.c"])
            series.git(repo, "init", "-q")
            series.git(repo, "add", "a.c")
            series.git(repo, "commit", "-q", "-m", "base")
            series.git(repo, "tag", series.BASE)
            lines = self.upstream["a.c"].splitlines(keepends=True)
            for name, (at, text) in zip(NAMES, changes):
                lines[at] = f"{text}\n"
                (repo / "a.c").write_text("".join(lines))
                subject = name[5:-6].replace("-", ": ", 1)
                series.git(repo, "commit", "-q", "-a", "-m",
                           f"{subject}\n\nA reason.\n\n{signed}",
                           who=who)
            for name, path in zip(NAMES, series.export(repo, Path(tmp) / "o")):
                self.put(f"patches/linux-9.9/{name}", path.read_text())
        self.put("patches/linux-9.9/series", "\n".join(NAMES) + "\n")

    def run_tool(self, *argv):
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", ["upstream", *argv]), \
                contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = upstream.main()
        return status, out.getvalue(), err.getvalue()

    def refused(self, word, *argv):
        status, _, err = self.run_tool(*argv)
        self.assertEqual(status, 1)
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertTrue(err.startswith("upstream: error: "), err)
        self.assertIn(word, err)

    def prepared(self, *options):
        folder = self.top / "out"
        status, out, err = self.run_tool("prepare", *options, "x", str(folder))
        self.assertEqual((status, err), (0, ""))
        return {p.name: p.read_text() for p in folder.iterdir()}, out

    def failed(self, word, name="x"):
        status, out, _ = self.run_tool("check", name)
        self.assertEqual(status, 1, out)
        self.assertRegex(out, r"\n[1-9]\d* passed, 1 failed\n$|"
                              r"\n0 passed, 1 failed\n$")
        self.assertIn(word, out[out.index("FAIL"):])


class Prepare(Base):
    def test_what_is_written(self):
        mails, out = self.prepared()
        self.assertEqual(sorted(mails), [
            "0000-cover-letter.patch", "0001-one-fix.patch",
            "0002-two-feature.patch"])
        cover = mails["0000-cover-letter.patch"]
        self.assertIn("Subject: [PATCH 0/2] x: two things\n", cover)
        self.assertIn("\nWhy this is\nworth it.\n", cover)
        self.assertIn("\nbase: v9.9.1\n", cover)
        self.assertNotIn("base-commit", cover)
        self.assertRegex(cover, r"To: Ann <ann@host.org>\n")
        self.assertRegex(cover, r"Cc: kvm@host.org,\n +Bob <bob@host.org>\n")
        for text in mails.values():
            self.assertNotIn("Upstream:", text)
            self.assertNotIn("to somebody", text)
        # The file of ours is a part of the patch that names it.
        self.assertIn("+++ b/ours.c", mails["0002-two-feature.patch"])
        self.assertNotIn("ours.c", mails["0001-one-fix.patch"])
        self.assertIn("git send-email", out)

    def test_a_single_patch_has_its_letter_below_the_line(self):
        self.letter("x", "Tree: linux-9.9\nPatch: 0001-one-fix.patch\n\nWhy.\n")
        mails, _ = self.prepared()
        self.assertEqual(list(mails), ["0001-one-fix.patch"])
        text = mails["0001-one-fix.patch"]
        self.assertIn("Subject: [PATCH] one: fix\n", text)
        self.assertIn("<a@host.org>\n---\n\nWhy.\n\n a.c | 2 +-", text)

    def test_what_is_private_goes_to_no_list(self):
        self.letter("x", "Private: sec@host.org\n" + LETTER)
        mails, out = self.prepared()
        for text in mails.values():
            self.assertIn("To: sec@host.org,\n    Ann <ann@host.org>\n", text)
            self.assertNotIn("kvm@host.org", text)
        self.assertIn("to no list", out)
        for path in (self.top / "out").iterdir():
            path.unlink()
        mails, _ = self.prepared("--public")
        for text in mails.values():
            self.assertNotIn("sec@host.org", text)
            self.assertIn("kvm@host.org", text)

    def test_what_comes_before_is_not_sent_again(self):
        self.letter("y", "Tree: linux-9.9\nAfter: x\n"
                         "Patch: 0102-three-test.patch\n\nWhy.\n")
        folder = self.top / "out"
        status, out, _ = self.run_tool("prepare", "y", str(folder))
        self.assertEqual(status, 0)
        self.assertIn("after x", out)
        [mail] = folder.iterdir()
        text = mail.read_text()
        self.assertEqual(mail.name, "0001-three-test.patch")
        self.assertEqual(text.count("prerequisite-patch-id: "), 2)

    def test_an_author_whom_no_mail_reaches(self):
        self.patches(signed="Signed-off-by: A <a@noreply.forge.example>")
        _, out = self.prepared()
        self.assertIn("no mail reaches", out)

    def test_a_folder_that_is_not_empty(self):
        self.put("out/x", "")
        self.refused("empty", "prepare", "x", str(self.top / "out"))
        self.refused("empty", "prepare", "x", str(self.top / "out/x"))

    def test_a_name_that_there_is_not(self):
        self.letter("y", LETTER)
        (self.top / "docs/upstream/y.txt").unlink()
        self.refused("'y': accepted are x", "prepare", "y", str(self.top / "o"))
        self.refused("'y': accepted are x", "check", "y")

    def test_no_source(self):
        (self.top / "build/src/linux-9.9").rename(self.top / "gone")
        self.refused("build/src/linux-9.9 does not exist", "prepare", "x",
                     str(self.top / "out"))


class Check(Base):
    def test_a_good_one(self):
        status, out, err = self.run_tool("check")
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("2 patches apply alone to v9.9.1", out)
        self.assertIn("1 maintainers, 2 lists", out)
        self.assertIn("git send-email --dry-run, 3 mails", out)
        self.assertIn("5 passed, 0 failed", out)

    def test_a_trailer_that_upstream_does_not_know(self):
        self.patches(signed="Change-Id: I12\n" + SIGNED)
        self.failed("0001-one-fix.patch: 'Change-Id: I12' is none of Signed-")

    def test_text_among_the_trailers(self):
        self.patches(signed="and so on\n" + SIGNED)
        self.failed("'and so on'")

    def test_a_patch_that_does_not_apply_alone(self):
        # Its context is what the one before it wrote.
        self.letter("x", "Tree: linux-9.9\nPatch: 0102-three-test.patch\n"
                         "\nWhy.\n")
        self.failed("0102-three-test.patch does not apply without what is not")

    def test_no_maintainer(self):
        self.says(LIST + REVIEWER)
        self.failed("names no maintainer")

    def test_no_list(self):
        self.says(MAINTAINER + REVIEWER)
        self.failed("names no list")

    def test_checkpatch_complains(self):
        self.checkpatch("ERROR:SPACING: space\n#9: FILE: a.c:4:\n+x\n\n", 1)
        self.failed("a.c:4: ERROR:SPACING: space: +x")
        self.put("allow", "# why\n9.9 SPACING a.c space\n")
        self.assertEqual(self.run_tool("check", "x")[0], 0)

    def test_an_entry_that_nothing_needs(self):
        entry = mock.Mock(number=3, used=False)
        with mock.patch.object(style, "TOP", self.top):
            name, said = style.needless([entry], self.tree)
            self.assertEqual(said, ["allow:3: not needed"])
            entry.used = True
            self.assertEqual(style.needless([entry], self.tree), (name, []))

    def test_checkpatch_without_types_complains(self):
        self.checkpatch("ERROR: space\n#9: FILE: a.c:4:\n+x\n\n", 1)
        self.failed("a.c:4: ERROR: space: +x")

    def test_send_email_complains(self):
        # Its exit status is 0 even so.
        self.patches(who=("A Dev", "dev@localhost"))
        self.failed("1 of 3 mails would be sent")

    def test_a_line_that_no_mail_can_hold(self):
        self.patches(((3, "3"), (15, "x" * 1100), (16, "16")))
        self.failed("0002-two-feature.patch:27: too long for a mail")

    def test_nothing_is_sent_and_nothing_of_the_user_is_read(self):
        home = self.top / "home"
        self.put("home/.gitconfig", "[sendemail]\n\tsmtpserver = mail.org\n"
                                    "\tbcc = spy@host.org\n")
        seen = []
        real = upstream.subprocess.run

        def run(command, **kw):
            if command[:2] == ["git", "send-email"]:
                seen.append((command, kw["env"]))
            return real(command, **kw)
        with mock.patch.dict("os.environ", {"HOME": str(home),
                                            "GIT_SMTP": "mail.org"}), \
                mock.patch.object(upstream.subprocess, "run", run):
            self.assertEqual(self.run_tool("check", "x")[0], 0)
        [(command, env)] = seen
        self.assertIn("--dry-run", command)
        self.assertIn("--smtp-server=/bin/false", command)
        self.assertNotEqual(env["HOME"], str(home))
        self.assertNotIn("GIT_SMTP", env)
        self.assertEqual(env["GIT_CONFIG_GLOBAL"], "/dev/null")

    def test_a_project_without_get_maintainer(self):
        tools = self.top / "build/src/linux-9.9/scripts"
        for tool in tools.iterdir():
            tool.unlink()
        self.failed("a To: is needed")
        self.letter("x", "To: list@host.org\n" + LETTER)
        status, out, _ = self.run_tool("check", "x")
        self.assertEqual(status, 0, out)
        self.assertIn("goes to list@host.org", out)


class Letters(Base):
    def bad(self, text, word):
        self.letter("x", text)
        self.refused(word, "list")

    def test_list(self):
        status, out, _ = self.run_tool("list")
        self.assertEqual(status, 0)
        self.assertIn("x  linux-9.9   2 patches", out)
        self.assertIn("not sent: patches/linux-9.9/0102-three-test.patch", out)

    def test_what_is_refused(self):
        for old, new, word in (
                ("Tree:", "Tre:", "'Tre:': accepted are Subject, Tree"),
                ("linux-9.9", "linux-1.0", "Tree: linux-1.0: accepted are"),
                ("Subject: x: two things\n", "", "no Subject:"),
                ("Patch: 0101-two-feature.patch + ours.c\n", "",
                 "take out Subject:"),
                ("0101-two", "0101-too", "neither in patches/linux-9.9/series"),
                ("ours.c", "other.c", "other.c does not exist"),
                ("Why this is\nworth it.\n", "", "no text"),
                ("Why this is\nworth", "Why this is " + 70 * "x",
                 "x.txt:6: more than 72 columns"),
                ("Tree:", "After: z\nTree:", "After: z: accepted are x"),
                ("Tree:", "After: x\nTree:", "it needs itself"),
                ("Tree:", "Replace: a\nTree:", "TEXT => TEXT"),
                ("Tree: linux-9.9", "Tree: linux-9.9\nTree: linux-9.9",
                 "Tree: stands there twice")):
            with self.subTest(new=new):
                self.bad(LETTER.replace(old, new, 1), word)

    def test_one_patch_in_two_series(self):
        self.letter("y", LETTER)
        self.refused("0001-one-fix.patch is of x, too", "list")

    def test_a_circle(self):
        self.letter("x", "After: y\n" + LETTER)
        self.letter("y", "Tree: linux-9.9\nAfter: x\n"
                         "Patch: 0102-three-test.patch\n\nWhy.\n")
        self.refused("it needs itself", "list")

    def test_a_file_that_upstream_has(self):
        self.put("build/src/linux-9.9/ours.c", "int theirs;\n")
        self.failed("upstream has a ours.c")

    def test_context_of_another_series(self):
        text = ("Moved: fifteen\nTree: linux-9.9\n"
                "Patch: 0102-three-test.patch\n\nWhy.\n")
        self.letter("y", text)
        # Line 16 is not at hand alone: fifteen is gone, 15 is there instead.
        self.assertIn("fifteen", (self.top / "patches/linux-9.9" /
                                  NAMES[2]).read_text())
        letter = letters.load()["y"]
        diff = letter.patches[0].text()
        self.assertNotIn("fifteen", diff)
        [head] = re.findall(r"^@@ .* @@", diff, re.M)
        self.assertEqual(head, "@@ -14,6 +14,6 @@")

    def test_text_of_another_series(self):
        self.letter("x", LETTER.replace(
            "Tree:", "Replace: three => drei\nReplace: line 4 => no\nTree:"))
        self.run_tool("prepare", "x", str(self.top / "out"))
        text = (self.top / "out/0001-one-fix.patch").read_text()
        self.assertIn("\n+drei\n", text)
        self.assertIn("\n-line 4\n", text)

    def test_what_upstream_has_by_now(self):
        self.letter("x", "Tree: linux-9.9\nHas: 0101-two-feature.patch\n"
                         "Patch: 0102-three-test.patch\n\nWhy.\n")
        status, out, _ = self.run_tool("check", "x")
        self.assertEqual(status, 0, out)
        out = self.run_tool("list")[1]
        self.assertIn("not sent: patches/linux-9.9/0001-one-fix.patch", out)
        self.assertNotIn("0101", out)


class Alone(Base):
    """What check-patches makes of a letter."""

    def test_a_work_tree_of_one_series(self):
        self.letter("y", "Tree: linux-9.9\nAfter: x\n"
                         "Patch: 0102-three-test.patch\n\nWhy.\n")
        known = letters.load()
        with mock.patch("patchcheck.worktree.BUILD", self.top / "build"):
            work = Worktree(self.tree, 1, known["y"], known)
        self.assertEqual([Path(p).name for p in work.before],
                         ["0001-one-fix.patch", "0002-two-feature.patch"])
        self.assertEqual([Path(p).name for p in work.patches],
                         ["0001-three-test.patch"])
        self.assertEqual(work.touched, ["a.c", "ours.c"])
        self.assertNotIn("Upstream:", work.text(work.patches[0]))
        self.assertEqual(work.memo("0001"), "y 0001")

    def test_verdicts_of_qemus_tests(self):
        tests = qemu.Tests.__new__(qemu.Tests)
        tests.out = self.top
        tests.work = mock.Mock(logs=self.top, src=self.top)
        for text, status, bad, passed in (
                ("1..2\nok 1 /a\nok 2 /b # SKIP no KVM\n", 0, [], 1),
                ("1..2\nok 1 /a\nnot ok 2 /b - x\n", 1, ["/b - x"], 1),
                ("1..2\nok 1 /a\n", 134, ["status 134"], 1),
                ("1..1\nok 1 /a # SKIP\n", 0, [], 0)):
            command = ["sh", "-c", f"printf '{text}'; exit {status}"]
            found, count = tests.judge(command, qemu.TAP,
                                       lambda m: (m[0] == "", m[1]))
            self.assertEqual(count, passed, text)
            self.assertEqual([f[:len(b)] for f, b in zip(found, bad)], bad)
            self.assertEqual(len(found), len(bad))

    def test_a_test_that_can_not_be_run_does_not_fail(self):
        tests = qemu.Tests.__new__(qemu.Tests)
        tests.out = self.top
        tests.work = mock.Mock(logs=self.top, src=self.top)
        with self.assertRaises(series.Error):
            tests.judge(["sh", "-c", "echo usage; exit 2"], qemu.GUESTS,
                        lambda m: (m[0] == "PASS", m[1]))

    def test_a_test_that_upstream_passes_tests_nothing(self):
        report = Report()
        tests = mock.Mock()
        tests.lay.return_value = ["tests/qtest/a"]
        work = mock.Mock(memo=lambda text: text)
        for bad, failed in (([], 1), (["it fails"], 0)):
            tests.all.return_value = [("tests/qtest/a", bad, 1)]
            with mock.patch.object(qemu, "build", return_value=[]), \
                    contextlib.redirect_stdout(io.StringIO()):
                qemu.upstream_fails(work, tests, report := Report())
            self.assertEqual(report.failed, failed)


class Real(unittest.TestCase):
    def test_the_letters_are_in_order(self):
        known = letters.load()
        self.assertIn("qemu-tcg-svm", known)
        readme = (letters.FOLDER / "README.md").read_text()
        for name in known:
            self.assertIn(f"`{name}`", readme)
        for name in re.findall(r"^\| `([a-z0-9-]+)` ", readme, re.M):
            self.assertIn(name, known)


if __name__ == "__main__":
    unittest.main()
