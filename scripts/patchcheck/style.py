# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/checkpatch.pl --strict on each patch, but for what the file
checkpatch-allow lists with its reason."""

import fnmatch
import re
from pathlib import Path

from series import TOP, Error

from .report import patch_number

ALLOW = Path(__file__).resolve().parent / "checkpatch-allow"
# QEMU's checkpatch.pl has no types.
REPORT = re.compile(r"^(?P<level>ERROR|WARNING|CHECK):(?:(?P<type>[A-Z_]+):)? "
                    r"(?P<text>.*)\n(?:#(?P<at>\d+): ?(?:FILE: (?P<file>\S+?):"
                    r"(?P<line>\d+):)?\n(?P<source>.*))?", re.M)
# Whether a commit exists can't be said in a tree without its history.
# No git, either: with it, spdxcheck.py wants Python modules of its own.
IGNORE = "UNKNOWN_COMMIT_ID"


class Allowed:
    """One line of the list: LINES TYPE FILE TEXT."""

    def __init__(self, number, line):
        words = line.split(None, 3)
        if len(words) != 4:
            raise Error(f"{ALLOW.relative_to(TOP)}:{number}: '{line}': LINES "
                        "TYPE FILE TEXT is accepted")
        self.number, self.used = number, False
        self.lines, self.type, self.file, self.text = words
        self.lines = self.lines.split(",")

    def takes(self, where, found):
        return (found["type"] or "-") == self.type and \
            fnmatch.fnmatchcase(where, self.file) and \
            re.search(self.text, f"{found['text']}\n{found['source']}") \
            is not None


def line_of(tree):
    """What the list calls a tree: 7.3, qemu-10.2"""
    return tree.patches.name.removeprefix("linux-")


def allowed(tree):
    """The entries for this tree; each must have a reason above it."""
    entries, reason = [], False
    for number, text in enumerate(ALLOW.read_text().splitlines(), 1):
        if text.startswith("#"):
            reason = True
        elif not text.strip():
            reason = False
        else:
            entry = Allowed(number, text)
            if not reason:
                raise Error(f"{ALLOW.relative_to(TOP)}:{number}: no reason "
                            "stands above it")
            if line_of(tree) in entry.lines:
                entries.append(entry)
    return entries


def complaints(run, tree, patch, rel, entries):
    """What checkpatch.pl says of a patch, and no entry allows.  RUN runs a
    command in the tree; REL is what stands for the patch's message."""
    options = () if tree.patches.name.startswith("qemu-") else (
        "--show-types", "--color=never", f"--ignore={IGNORE}")
    status, text = run("perl", "scripts/checkpatch.pl", "--strict",
                       "--no-summary", *options, patch)
    problems, seen = [], 0
    for found in REPORT.finditer(text):
        seen += 1
        # Of the message itself there is but a line of the patch.
        where = found["file"] or rel
        takers = [e for e in entries if e.takes(where, found)]
        for entry in takers:
            entry.used = True
        if not takers:
            kind = ":".join(w for w in (found["level"], found["type"]) if w)
            problems.append(f"{where}:{found['line'] or found['at']}: {kind}: "
                            f"{found['text']}: "
                            f"{(found['source'] or '').strip()}")
    if status and not seen:
        problems.append(f"checkpatch.pl ended with status {status}: "
                        + text.strip()[-200:])
    return problems


def checkpatch(work, report):
    entries = allowed(work.tree)

    def run(*command):
        return work.run("checkpatch", *command, env={"GIT_DIR": "none"})
    for patch in work.patches:
        report.verdict(f"{patch_number(patch)} checkpatch", complaints(
            run, work.tree, work.tree.patches / patch, work.tree.rel(patch),
            entries))
    report.verdict(*needless(entries, work.tree))


def needless(entries, tree):
    """The verdict on entries that nothing was allowed by."""
    return (f"checkpatch-allow, each entry for {line_of(tree)} is needed",
            [f"{ALLOW.relative_to(TOP)}:{e.number}: not needed"
             for e in entries if not e.used])
