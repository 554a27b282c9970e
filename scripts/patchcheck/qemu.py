# SPDX-License-Identifier: GPL-2.0-or-later
"""A series for QEMU by itself: does each patch build, and do the tests pass
that its letter names?

    tests/qtest/NAME, tests/unit/NAME     a program of ours, or of upstream's
    ...:CASE,CASE                         of it only the cases that end so
    tests/guest:NAME,NAME                 this repository's bare-metal guests

A test of ours that can be built in upstream's tree has to fail there: else
it tests nothing.
"""

import os
import re
import shutil
import subprocess

from series import BUILD, TOP, Error, git

from .report import patch_number

PROGRAM = "qemu-system-x86_64"
WARNING = re.compile(r"^.*(?:warning|error): .*$|^FAILED: .*$", re.M)
TAP = re.compile(r"^\s*(not )?ok \d+(.*)$", re.M)
STARTED = re.compile(r"^(?:1\.\.\d|# random seed: |Bail out!)", re.M)
GUESTS = re.compile(r"^(PASS|FAIL) (.*)$", re.M)
LIST = "qtests_x86_64 = qtests_i386"
# On an emulated machine a migration that fails may wait for good.
SECONDS = 600


class Tests:
    """What a letter's Tests: name."""

    def __init__(self, work):
        self.work, self.out = work, BUILD / work.src.name
        split = [name.partition(":") for name in work.letter.tests]
        self.guests = [n for where, _, n in split if where == "tests/guest"]
        self.programs = [(where, names.split(",") if names else [])
                         for where, _, names in split
                         if where != "tests/guest"]
        self.ours = [where for where, _ in self.programs
                     if where.startswith("tests/qtest/")
                     and (TOP / f"{where}.c").exists()]
        self.files = ["tests/qtest/meson.build"] + [
            f"{test}.c" for test in self.ours] + [
            str(path.relative_to(TOP))
            for path in (TOP / "tests/qtest").glob("*.h")]
        # That an earlier run which was cut off leaves nothing of them.
        work.touched = sorted({*work.touched, *self.files})

    def lay(self):
        """Our qtests over the tree, beside a series that does not bring
        them; returns which."""
        src, added = self.work.src, []
        meson = src / "tests/qtest/meson.build"
        for test in self.ours:
            name = test.rpartition("/")[2]
            if (src / f"{test}.c").exists():
                continue
            text = meson.read_text()
            if LIST not in text:
                raise Error(f"tests/qtest/meson.build has no '{LIST}'")
            meson.write_text(text.replace(LIST, f"{LIST} + ['{name}']", 1)
                             if f"'{name}'" not in text else text)
            shutil.copyfile(TOP / f"{test}.c", src / f"{test}.c")
            added.append(test)
        for path in self.files[1:] if added else ():
            if not (src / path).exists():
                shutil.copyfile(TOP / path, src / path)
        return added

    def unlay(self):
        """What git knows as it has it, and none of what it doesn't."""
        tracked = git(self.work.src, "ls-files").stdout.splitlines()
        git(self.work.src, "checkout", "-q", "--", ".")
        for path in set(self.files) - set(tracked):
            (self.work.src / path).unlink(missing_ok=True)

    def link_firmware(self):
        """Where an uninstalled QEMU looks for it, as upstream-qtests."""
        for rom in (*(BUILD / "firmware/qemu").glob("*.bin"), *(
                BUILD / "firmware-ipxe").glob("usr/lib/ipxe/qemu/*.rom")):
            link = self.out / "qemu-bundle/usr/local/share/qemu" / rom.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(rom)

    def run_program(self, test, cases):
        """([what failed], how many cases passed)"""
        command = [str(self.out / test), "--tap", "-k"]
        if cases:
            r = subprocess.run([command[0], "-l"], capture_output=True,
                               text=True, env=self.env(), cwd=self.out)
            known = [line for line in r.stdout.split() if line[0] == "/"]
            for case in cases:
                found = [k for k in known if k.endswith(f"/{case}")
                         or f"/{case}/" in k]
                if not found:
                    raise Error(f"{test} has no case {case}")
                for path in found:
                    command += ["-p", path]
        # Where only some cases are meant the series is not all that the
        # program is a test of, so none of its own options at a migration.
        more = {"QTEST_QEMU_BINARY_SRC": f"./{PROGRAM}"} if cases else {}
        return self.judge(command, TAP, lambda m: (m[0] == "", m[1]), more)

    def run_guests(self, names):
        return self.judge(
            [str(TOP / "tests/guest/run"), "--qemu", str(self.out / PROGRAM),
             *filter(None, names.split(","))],
            GUESTS, lambda m: (m[0] == "PASS", m[1]))

    def env(self, **more):
        return os.environ | more | {
            "QTEST_QEMU_BINARY": f"./{PROGRAM}",
            "G_TEST_SRCDIR": str(self.work.src / "tests/unit"),
            "G_TEST_BUILDDIR": "tests/unit"}

    def judge(self, command, pattern, verdict, env=None):
        with subprocess.Popen(command, text=True, errors="replace",
                              env=self.env(**(env or {})),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, cwd=self.out,
                              start_new_session=True) as process:
            try:
                text, _ = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                text = process.communicate()[0] + f"\nno end in {SECONDS} s"
        with open(self.work.logs / "tests.log", "a", encoding="utf-8") as f:
            f.write(f"$ {' '.join(command)}\n{text}\n")
        said = [verdict(m) for m in pattern.findall(text)]
        # Not to be taken for a test that fails, as it is hoped to.
        if not said and not STARTED.search(text):
            raise Error(f"{command[0]} did not run a test: "
                        f"{text.strip()[-300:]}")
        bad = [rest.strip() for good, rest in said if not good]
        if process.returncode and not bad:
            bad = re.findall(r"^Bail out! .*", text, re.M) or \
                [f"status {process.returncode}: {text.strip()[-300:]}"]
        return bad, sum(good and "# SKIP" not in rest for good, rest in said)

    def all(self, only=None):
        """(name, what failed, cases that passed) of each program, or of
        these only, and of the guests."""
        for test, cases in self.programs:
            if only is None or test in only:
                yield test, *self.run_program(test, cases)
        for name in ",".join(self.guests).split(",") if self.guests else ():
            yield f"tests/guest:{name}", *self.run_guests(name)


def build(work, *targets):
    """What the compiler complains of; [] if nothing."""
    r = subprocess.run(
        [str(TOP / "scripts/build-qemu"), *targets], text=True,
        errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"QEMU_TREE": work.src.name})
    log = BUILD / "logs" / f"{work.src.name}.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    said = WARNING.findall(text)
    if r.returncode and not said:
        said = [f"build-qemu ended with status {r.returncode}: "
                + r.stdout.strip()[-300:]]
    return said


def upstream_fails(work, tests, report):
    """The tests of ours, without the series."""
    laid = tests.lay()
    if said := build(work, PROGRAM, *laid):
        tests.unlay()
        raise Error(f"{work.tree.name} does not build without the series: "
                    f"{'; '.join(said)[:300]}")
    for name, bad, _ in tests.all(laid):
        report.verdict(work.memo(f"{name} fails without it"),
                       [] if bad else ["it passes"])
    tests.unlay()


def check(work, report):
    tests = Tests(work)
    work.prepare()
    upstream_fails(work, tests, report)
    for patch in work.patches:
        work.apply(patch)
        report.verdict(work.memo(f"{patch_number(patch)} builds"),
                       build(work, PROGRAM))
    tests.lay()
    tests.link_firmware()
    programs = [test for test, _ in tests.programs]
    if programs and (said := build(work, PROGRAM, *programs)):
        report.verdict(work.memo("its tests build"), said)
    else:
        for name, bad, passed in tests.all():
            report.verdict(
                work.memo(f"{name}, {passed} cases passed"),
                bad or ([] if passed else ["no case of it was run"]))
    tests.unlay()
