#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the patched source trees: tree.py extract|apply TREE [DIR]

TREE is one that series.py knows, or linux-deb13 (6.12 of Debian 13).
extract unpacks what scripts/fetch brought (or copies DIR) to build/src.
apply lays our files over it and applies the series.  Only files whose
content changes are written, so that a rebuild compiles only what it must;
upstream's own version of each file that we change is kept aside.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from series import (BUILD, PACKAGED, TOP, TREES, Error, apply_patches,
                    check_overlay, copy_unpatched, touched)


def sha(path):
    if not path.is_file():
        return None
    mode = b"x" if path.stat().st_mode & 0o100 else b"-"
    return hashlib.sha256(mode + path.read_bytes()).hexdigest()


def inputs(tree, listed=None):
    """The files that scripts/fetch brought, as (version, path)."""
    listed = listed or BUILD / "inputs" / tree.name
    lines = listed.read_text().splitlines()
    return [(line.split()[1], Path(line.split()[2])) for line in lines]


def run(*cmd, **kw):
    r = subprocess.run(cmd, capture_output=True, text=True, errors="replace",
                       **kw)
    if r.returncode:
        raise Error(f"{cmd[0]} failed: {(r.stderr or r.stdout).strip()}")


def unpack(tree, new, folder, listed=None):
    """Fill the new folder with upstream's tree."""
    if folder:
        new.mkdir()
        run("sh", "-c", 'tar -C "$1" --exclude=./.git --exclude=./build '
            '-cf - . | tar -C "$2" -xf -', "sh", folder, str(new))
    elif tree.name.startswith("qemu"):
        dsc = next(p for _, p in inputs(tree, listed)
                   if p.suffix == ".dsc")
        # apt verified the files; the .dsc's own signature says no more.
        run("dpkg-source", "--no-check", "-x", str(dsc), str(new))
    elif tree.name.startswith("libvirt"):
        [(_, tar)] = inputs(tree, listed)
        new.mkdir()
        run("tar", "-C", str(new), "--strip-components=1", "-xf", str(tar))
    else:
        [(_, deb)] = inputs(tree, listed)
        new.mkdir()
        run("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | '
            'tar -xO --wildcards "./usr/src/linux-source-*.tar.xz" | '
            'tar -C "$2" -xJ --strip-components=1', "sh", str(deb), str(new))


def extract(tree, folder):
    if folder:
        config = (BUILD / "config.mk").stat().st_mtime_ns
        source = f"{folder} configured {config}"
    else:
        source = " ".join(f"{v} {p.name}" for v, p in inputs(tree))
    stamp = tree.state / "source"
    if tree.src.is_dir() and stamp.exists() and stamp.read_text() == source:
        return
    what = folder or f"{inputs(tree)[0][1].name}"
    print(f"  UNPACK   {tree.src.relative_to(TOP)} from {what}", flush=True)
    new = tree.src.with_name(tree.src.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    unpack(tree, new, folder)
    version = subprocess.run(
        [str(TOP / "scripts" / "tree-version"), tree.name, str(new)],
        capture_output=True, text=True)
    if version.returncode:
        raise Error(version.stderr.strip().partition("error: ")[2])
    shutil.rmtree(tree.state, ignore_errors=True)
    shutil.rmtree(tree.src, ignore_errors=True)
    tree.state.mkdir()
    new.rename(tree.src)
    (tree.state / "version").write_text(version.stdout)
    stamp.write_text(source)


def fingerprint(tree, names, overlay):
    """Of everything that decides what the tree looks like."""
    h = hashlib.sha256()
    files = [TOP / "scripts" / "series.py", Path(__file__)]
    files += [tree.patches / n for n in names] + [TOP / p for p in overlay]
    for f in files:
        h.update(f"{f.resolve().relative_to(TOP)} {sha(f)}\n".encode())
    return h.hexdigest()


def keep_pristine(tree, paths):
    """Put upstream's version aside before the first change of a file."""
    absent = tree.state / "absent"
    known = set(absent.read_text().splitlines()) if absent.exists() else set()
    for path in paths:
        aside = tree.state / "pristine" / path
        if path in known or aside.exists():
            continue
        src = tree.src / path
        if src.is_file():
            aside.parent.mkdir(parents=True, exist_ok=True)
            tmp = aside.with_name(aside.name + ".new")
            shutil.copy2(src, tmp)
            tmp.rename(aside)
        else:
            known.add(path)
            with absent.open("a") as f:
                f.write(path + "\n")


def write(tree, paths, work, before):
    """Bring the tree in line with work; returns how many files changed."""
    now, changes = {}, []
    for path in paths:
        want, have = sha(work / path), sha(tree.src / path)
        now[path] = want
        if want == have:
            continue
        pristine = tree.pristine(path)
        if have is not None and have not in (
                before.get(path), sha(pristine) if pristine else None):
            raise Error(f"build/src/{tree.src.name}/{path} was edited by "
                        f"hand, but is a product. Edit our file or use make "
                        f"edit-{tree.name}; delete it to have it made again")
        changes.append(path)
    for path in changes:
        dst = tree.src / path
        if now[path] is None:
            dst.unlink()
            continue
        dst.parent.mkdir(parents=True, exist_ok=True)
        tmp = dst.with_name(dst.name + ".new")
        shutil.copyfile(work / path, tmp)
        shutil.copymode(work / path, tmp)
        tmp.rename(dst)
    return now, changes


def apply(tree):
    names, overlay = tree.read_series(), tree.overlay()
    stamp = tree.state / "stamp"
    manifest = tree.state / "manifest.json"
    mark = fingerprint(tree, names, overlay)
    before = json.loads(manifest.read_text()) if manifest.exists() else {}
    if stamp.exists() and stamp.read_text() == mark and all(
            (tree.src / p).exists() for p, s in before.items() if s):
        return

    patched = sorted({p for n in names for p in touched(
        (tree.patches / n).read_text(errors="replace"))})
    for problem in check_overlay(tree, patched):
        raise Error(problem)
    with tempfile.TemporaryDirectory(prefix="tree-") as tmp:
        work = Path(tmp)
        # Files that an older state of the series changed go back, too.
        paths = sorted(set(patched) | set(overlay) | set(before))
        keep_pristine(tree, paths)
        copy_unpatched(tree, paths, work)
        apply_patches(tree, names, work)
        now, changes = write(tree, paths, work, before)
    (tree.state / "written").write_text("".join(p + "\n" for p in now))
    manifest.write_text(json.dumps(now, indent=0))
    stamp.write_text(mark)
    print(f"  PATCH    {tree.src.relative_to(TOP)}: {len(names)} patches, "
          f"{len(overlay)} files of ours; {len(changes)} files written",
          flush=True)


def main(argv):
    trees = TREES | PACKAGED
    try:
        if len(argv) not in (2, 3) or argv[0] not in ("extract", "apply") \
                or argv[1] not in trees:
            raise Error("extract|apply, then " + "|".join(trees))
        tree = trees[argv[1]]
        if argv[0] == "extract":
            extract(tree, argv[2] if len(argv) == 3 else "")
        else:
            apply(tree)
    except Error as e:
        print(f"tree.py: error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
