# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/checkpatch.pl --strict on each patch, but for what the file
checkpatch-allow lists with its reason."""

import fnmatch
import re
from pathlib import Path

from series import TOP, Error

ALLOW = Path(__file__).resolve().parent / "checkpatch-allow"
REPORT = re.compile(r"^(?P<level>ERROR|WARNING|CHECK):(?P<type>[A-Z_]+): "
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
        return found["type"] == self.type and \
            fnmatch.fnmatchcase(where, self.file) and \
            re.search(self.text, f"{found['text']}\n{found['source']}") \
            is not None


def allowed(line):
    """The entries for this kernel line; each must have a reason above it."""
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
            if line in entry.lines:
                entries.append(entry)
    return entries


def checkpatch(work, report):
    line = work.tree.patches.name.removeprefix("linux-")
    entries = allowed(line)
    for patch in work.patches:
        status, text = work.run(
            "checkpatch", "perl", "scripts/checkpatch.pl", "--strict",
            "--show-types", "--no-summary", "--color=never",
            f"--ignore={IGNORE}", work.tree.patches / patch,
            env={"GIT_DIR": "none"})
        problems, seen = [], 0
        for found in REPORT.finditer(text):
            seen += 1
            # Of the message itself there is but a line of the patch.
            where = found["file"] or work.tree.rel(patch)
            takers = [e for e in entries if e.takes(where, found)]
            for entry in takers:
                entry.used = True
            if not takers:
                problems.append(
                    f"{where}:{found['line'] or found['at']}: "
                    f"{found['level']}:{found['type']}: {found['text']}: "
                    f"{(found['source'] or '').strip()}")
        if status and not seen:
            problems.append(f"checkpatch.pl ended with status {status}: "
                            + text.strip()[-200:])
        report.verdict(f"{patch[:4]} checkpatch", problems)
    report.verdict("checkpatch-allow, each entry is needed",
                   [f"{ALLOW.relative_to(TOP)}:{e.number}: not needed"
                    for e in entries if not e.used])
