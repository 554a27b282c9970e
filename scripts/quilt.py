#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Put a series into a Debian source package, as quilt patches.

    quilt.py files TREE         what they are made of
    quilt.py write TREE DIR     into DIR/debian/patches, behind Debian's own

TREE is qemu or libvirt.  What is laid over the tree as whole files (OVERLAY of
series.py) is one patch, the first.
"""

import sys
from pathlib import Path

from series import TOP, TREES, Error

FOLDER = "perennial"
FILES = "0000-files.patch"


def new_file(path, text):
    """The patch that creates a file."""
    lines = text.splitlines(keepends=True)
    if not lines or not lines[-1].endswith("\n"):
        raise Error(f"{path}: a file that ends in a newline is accepted")
    return (f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n" +
            "".join("+" + line for line in lines))


def sources(tree):
    return [tree.patches / name for name in tree.read_series()] + \
        [TOP / path for path in tree.overlay()]


def write(tree, folder):
    patches = folder / "debian" / "patches"
    series = patches / "series"
    if not series.is_file():
        raise Error(f"{folder}: a Debian source package with patches is accepted")
    (patches / FOLDER).mkdir()
    names = []
    if overlay := tree.overlay():
        (patches / FOLDER / FILES).write_text(
            "Description: Files of Perennial\n\n" +
            "".join(new_file(p, (TOP / p).read_text()) for p in overlay))
        names.append(FILES)
    for path in (tree.patches / name for name in tree.read_series()):
        (patches / FOLDER / path.name).write_bytes(path.read_bytes())
        names.append(path.name)
    with series.open("a") as f:
        f.writelines(f"{FOLDER}/{name}\n" for name in names)


def main(argv):
    try:
        if len(argv) < 2 or argv[1] not in ("qemu", "libvirt"):
            raise Error("files or write, and qemu or libvirt, are accepted")
        tree = TREES[argv[1]]
        if argv[0] == "files" and len(argv) == 2:
            print(*sources(tree), sep="\n")
        elif argv[0] == "write" and len(argv) == 3:
            write(tree, Path(argv[2]))
        else:
            raise Error("files TREE or write TREE DIR is accepted")
    except (Error, OSError) as e:
        print(f"quilt.py: error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
