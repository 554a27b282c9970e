#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""lint.py: what every file of the repository must hold to.

A license line (SPDX), a final newline, no white space at the ends of lines;
Python and shell that parse.
Patches carry their projects' form and saved logs are evidence: not these.
"""

import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
# Evidence, formats without comments, and lists of names.
NO_SPDX = re.compile(r"(^|/)(LICENSES?|COPYING|MAINTAINERS)|\.rc$|\.(json|patch|md|png|svg|log|"
                     r"verdict|console|txt)$|/testdata/")
NO_FORM = re.compile(r"\.(patch|png|svg)$|/testdata/")


def files():
    out = subprocess.run(["git", "-C", str(TOP), "ls-files", "-z"],
                         capture_output=True, check=True).stdout
    return [f for f in out.decode().split("\0") if f]


def problems(name, raw):
    if NO_FORM.search(name):
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        yield "is not UTF-8"
        return
    if not NO_SPDX.search(name) and \
            "SPDX-License-Identifier: " not in "".join(
                text.splitlines(True)[:25]):
        yield "has no SPDX-License-Identifier line"
    if text and not text.endswith("\n"):
        yield "does not end with a newline"
    for i, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip() and not name.endswith(".md"):
            yield f"line {i}: white space at its end"
            break
    first = text.partition("\n")[0]
    if name.endswith(".py") or ("python3" in first and first[:2] == "#!"):
        try:
            compile(text, name, "exec")
        except SyntaxError as e:
            yield f"line {e.lineno}: {e.msg}"
    elif first in ("#!/bin/sh", "#!/bin/bash"):
        r = subprocess.run([first[2:], "-n"], input=raw, capture_output=True)
        if r.returncode:
            yield r.stderr.decode(errors="replace").strip()


def main():
    bad = 0
    names = files()
    for name in names:
        path = TOP / name
        if not path.is_file() or path.is_symlink():
            continue
        for what in problems(name, path.read_bytes()):
            print(f"lint: error: {name}: {what}", file=sys.stderr)
            bad += 1
    print(f"{len(names)} files, {bad} problems")
    return 1 if bad or not names else 0


if __name__ == "__main__":
    sys.exit(main())
