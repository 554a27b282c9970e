# SPDX-License-Identifier: GPL-2.0-or-later
"""A series for QEMU by itself: does each patch build, and do the tests pass
that its letter names?

A test is a target of QEMU's ninja (tests/qtest/NAME, tests/unit/NAME) or
tests/guest, this repository's bare-metal guests.  One that is new with the
series is built of its own source in upstream's tree as well, and has to fail
there: else it tests nothing.
"""

import os
import re
import subprocess

from series import BUILD, TOP, Error

PROGRAM = "qemu-system-x86_64"
WARNING = re.compile(r"^.*(?:warning|error): .*$", re.M)
TAP = re.compile(r"^\s*(not )?ok \d+(.*)$", re.M)


def build(work, *targets):
    """What the compiler complains of; [] if nothing."""
    r = subprocess.run(
        [str(TOP / "scripts/build-qemu"), *targets], text=True,
        errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"QEMU_TREE": work.src.name})
    # Its output goes to a log of one run.
    log = BUILD / "logs" / f"{work.src.name}.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    said = WARNING.findall(text)
    if r.returncode and not said:
        said = [f"build-qemu ended with status {r.returncode}: "
                + r.stdout.strip()[-300:]]
    return said


def run(work, test):
    """([what failed], how many cases passed) of one test."""
    env = os.environ | {"QEMU_TREE": work.src.name}
    if test.startswith("tests/guest"):
        names = test.partition(":")[2].split(",")
        command = [str(TOP / "tests/guest/run"), "--qemu",
                   str(BUILD / work.src.name / PROGRAM), *filter(None, names)]
    else:
        command = [str(TOP / "scripts/qemu-test"), test]
    r = subprocess.run(command, text=True, errors="replace", env=env,
                       stdin=subprocess.DEVNULL, capture_output=True)
    text = r.stdout + r.stderr
    lines = TAP.findall(r.stdout)
    passed = sum(not bad and "# SKIP" not in rest for bad, rest in lines)
    bad = ["not ok" + rest for bad, rest in lines if bad]
    if r.returncode and not bad:
        bad = [f"status {r.returncode}: {text.strip()[-300:]}"]
    return bad, passed


def check(work, report):
    work.prepare()
    tests = work.letter.tests
    programs = [t for t in tests if not t.startswith("tests/guest")]
    if said := build(work, PROGRAM):
        raise Error(f"upstream's tree does not build: {'; '.join(said)[:300]}")
    for patch in work.patches:
        work.apply(patch)
        report.verdict(f"{work.memo(os.path.basename(patch)[:4])} builds",
                       build(work, PROGRAM))
    if programs:
        report.verdict(work.memo("tests build"), build(work, *programs))
    for test in tests:
        bad, passed = run(work, test)
        if not bad and not passed:
            bad = ["no case of it passed: "
                   "does it need what this machine does not have?"]
        report.verdict(work.memo(f"{test}, {passed} cases pass"), bad)
