#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch series: check them, open one as git commits, write it back.

    series.py check [TREE]...
    series.py list TREE             the files, for `git am`
    series.py edit TREE
    series.py refresh TREE

TREE is qemu (10.0), qemu-10.2, linux (6.12), linux-7.2, linux-7.3 or libvirt.

A series is a folder patches/NAME of mail-ready patches and a file `series`
that names them in order.  What an older base has in common with the newest one
it does not have again: a line ../NEWEST/NAME takes that patch as it is.  Whole
files of ours are no patches: for QEMU they are laid over the tree from their
own place in the repository (OURS).  They are for the newest base; what an older
one needs otherwise is a patch of that base to our file.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
BASE = "perennial-base"

# What git would take from the user's configuration must not reach a patch:
# abbreviations, diff algorithms, headers.  The attributes of the tree do,
# since upstream's own tools see them too.
GIT = ["git", "-c", "core.abbrev=12", "-c", "core.autocrlf=false",
       "-c", "gc.auto=0", "-c", "advice.detachedHead=false",
       "-c", "init.defaultBranch=main"]
NAME = re.compile(r"(?:\.\./[a-z][a-z0-9.-]*/)?\d{4}-[A-Za-z0-9._-]+\.patch")
TRAILER = re.compile(r"^[A-Z][A-Za-z-]+: \S")


class Error(Exception):
    """One clear message for the user."""


class Tree:
    """A foreign tree: where it is built, its patches, what is laid over it."""

    def __init__(self, name, patches, overlay=(), newest=None, src=None):
        self.name = name
        # Only the trees of `make boot` and `make check` are always there.
        self.optional = name not in ("qemu", "linux")
        src = src or name
        self.src = BUILD / "src" / src
        self.state = BUILD / "src" / f".{src}"
        self.patches = TOP / "patches" / patches
        # The folder of the newest base's patches, if this is an older base.
        self.newest = newest
        self.edit = BUILD / "edit" / name
        self._overlay = overlay

    def pristine(self, path):
        """Upstream's file, or None if upstream has none of that name."""
        absent = self.state / "absent"
        if absent.exists() and path in absent.read_text().splitlines():
            return None
        for where in (self.state / "pristine" / path, self.src / path):
            if where.is_file():
                return where
        return None

    def overlay(self):
        """Paths of the files to lay over the tree, relative to both roots."""
        # A folder that is ours as well holds single files for the tree.
        found = [f for f in self._overlay if (TOP / f).is_file()]
        for folder in self._overlay:
            for where, dirs, files in os.walk(TOP / folder):
                dirs[:] = sorted(d for d in dirs
                                 if d[0] != "." and d != "__pycache__")
                found += [str((Path(where) / f).relative_to(TOP))
                          for f in sorted(files)
                          if f[0] != "." and not f.endswith(
                              ("~", ".orig", ".rej", ".pyc"))]
        return found

    def read_series(self):
        """The patches in order; raises Error on a line that names none."""
        names = []
        for line in self._series_lines():
            name = line.split("#")[0].strip()
            if not name:
                continue
            if not NAME.fullmatch(name) or \
                    "/" in name and name.split("/")[1] != self.newest:
                raise Error(f"{self._rel('series')}: '{name}': a name like "
                            "0101-subject.patch " +
                            (f"or ../{self.newest}/0101-subject.patch "
                             if self.newest else "") + "is accepted")
            if not (self.patches / name).is_file():
                raise Error(f"{self._rel('series')}: {name} does not exist")
            names.append(name)
        return names

    def _series_lines(self):
        path = self.patches / "series"
        if not path.is_file():
            raise Error(f"{self._rel('series')} does not exist")
        return path.read_text().splitlines()

    def _rel(self, name):
        return f"patches/{self.patches.name}/{name}"

    rel = _rel


OURS = ("accel", "hw", "include", "qapi", "scripts/kvm-roots", "stubs",
        "target", "tests/qtest", "tests/unit")
# The default of each project first, the newest base last.
TREES = {tree.name: tree for tree in (
    Tree("qemu", "qemu-10.0", OURS, newest="qemu-10.2"),
    Tree("qemu-10.2", "qemu-10.2", OURS),
    Tree("linux", "linux-6.12", newest="linux-7.3", src="linux-6.12"),
    Tree("linux-7.2", "linux-7.2", newest="linux-7.3"),
    Tree("linux-7.3", "linux-7.3"),
    Tree("libvirt", "libvirt-11.3"))}

# Patched for packages alone, with the series of another tree.
PACKAGED = {
    "linux-deb13": Tree("linux-deb13", "linux-6.12", newest="linux-7.3"),
}


def touched(patch):
    """The files that a patch (its text) changes, creates or deletes."""
    names = []
    for m in re.finditer(r"^diff --git a/(\S+) b/(\S+)$", patch, re.M):
        names += [n for n in m.groups() if n not in names]
    return names


def message(patch):
    """The commit message of a patch in mail format, without its headers."""
    head = re.split(r"^---$", patch, maxsplit=1, flags=re.M)[0]
    return head.partition("\n\n")[2]


def git_env():
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null",
               LC_ALL="C.UTF-8", TZ="UTC")
    return env


def git(repo, *args, check=True, who=("perennial", "perennial@localhost")):
    r = subprocess.run(
        GIT + ["-c", f"user.name={who[0]}", "-c", f"user.email={who[1]}",
               "-C", str(repo), *args],
        env=git_env(), capture_output=True, text=True, errors="replace")
    if check and r.returncode:
        raise Error(f"git {args[0]}: {(r.stderr or r.stdout).strip()}")
    return r


def user():
    """The identity for commits in an edit tree."""
    def get(key):
        return subprocess.run(["git", "-C", str(TOP), "config", key],
                              capture_output=True, text=True).stdout.strip()
    return (get("user.name") or "perennial",
            get("user.email") or "perennial@localhost")


def attributes(tree, paths):
    """The .gitattributes files that have a say about these paths."""
    folders = {Path(".")}
    for p in paths:
        folders.update(Path(p).parents)
    return [str(f / ".gitattributes") for f in folders
            if tree.pristine(str(f / ".gitattributes"))]


def export(repo, out):
    """Write the commits since BASE as patches; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    r = git(repo, "format-patch", "-N", "--zero-commit", "--no-signature",
            "--no-base", "-o", str(out),
            f"{BASE}..HEAD")
    return [Path(line) for line in r.stdout.splitlines()]


def slug(name):
    return name.rpartition("/")[2][5:]


def same(patch):
    """What two patches have in common that do the same to two bases: not where
    in a file, and not what else is in it."""
    lines = []
    for line in patch.splitlines()[1:]:     # less the line with the commit
        if line.startswith("@@ "):
            line = "@@ " + " ".join(n.partition(",")[2]
                                    for n in line.split()[1:3])
        if not line.startswith(("index ", "Date: ")):
            lines.append(line)
    return lines


def explain(text):
    """`patch`'s complaints as 'file, hunk N (line M)'."""
    out, name = [], "?"
    for line in text.splitlines():
        if m := re.match(r"(?:checking|patching) file '?([^']+?)'?$", line):
            name = m[1]
        elif m := re.match(r"Hunk #(\d+) FAILED at (\d+)", line):
            out.append(f"{name}, hunk {m[1]} (line {m[2]})")
        elif "can't find file to patch" in line:
            # The header that it could not use follows, behind a bar.
            m = re.search(r"^\|\+\+\+ b/(\S+)", text, re.M)
            out.append(f"{m[1] if m else name}: upstream has no such file")
        elif "already exists" in line:
            out.append(f"{name}: {line}")
        elif "malformed patch" in line or "Only garbage" in line:
            out.append(line.replace("patch: **** ", ""))
    return "; ".join(out) or text.strip()


def apply_patches(tree, names, work):
    """Apply patches to the copies in work, with no fuzz at all."""
    for name in names:
        r = subprocess.run(
            ["patch", "-p1", "-F0", "-f", "--no-backup-if-mismatch",
             "-r", "-", "-d", str(work), "-i", str(tree.patches / name)],
            capture_output=True, text=True, errors="replace",
            env=dict(os.environ, LC_ALL="C"))
        if r.returncode:
            raise Error(f"{tree.rel(name)} does not apply: "
                        + explain(r.stdout + r.stderr))


def copy_unpatched(tree, paths, work):
    """Upstream's files of these paths, and all of ours, for the patches."""
    files = [(tree.pristine(p), p) for p in paths]
    for src, p in files + [(TOP / p, p) for p in tree.overlay()]:
        if src:
            dst = work / p
            dst.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(src, dst)


def check_overlay(tree, patched):
    """Problems of the files to lay over a tree, as messages."""
    for path in tree.overlay():
        if tree.pristine(path):
            yield (f"{path}: {tree.name} has a file of that name; edit it with "
                   "a patch, a file is never laid over another")
        elif path in patched and not tree.newest:
            yield (f"{path}: is a file of ours and changed by a patch; only "
                   "that of an older base may do so")


def content(path):
    return path.read_bytes() if path.is_file() else None


# ---- check ---------------------------------------------------------------

def check_text(tree, name):
    """What a patch must say, for its reviewers."""
    text = (tree.patches / name).read_text(errors="replace")
    body = message(text)
    reason = [line for line in body.splitlines()
              if line.strip() and not TRAILER.match(line)]
    if not touched(text):
        yield "changes no file (no 'diff --git' line)"
    if not reason:
        yield "gives no reason: its message has no text but trailers"
    if not re.search(r"^Signed-off-by: .+ <\S+@\S+>$", body, re.M):
        yield "has no Signed-off-by: line"
    if not re.search(r"^Upstream: \S", body, re.M):
        yield "has no Upstream: line"


def check_round_trip(tree, names, tmp, work):
    """Import to git must give what is in work, and export the same patches."""
    texts = {n: (tree.patches / n).read_text(errors="replace") for n in names}
    paths = sorted({p for t in texts.values() for p in touched(t)})
    repo = tmp / "repo"
    repo.mkdir()
    copy_unpatched(tree, paths + attributes(tree, paths), repo)
    git(repo, "init", "-q")
    git(repo, "add", "-A", "-f")
    git(repo, "commit", "-q", "--allow-empty", "-m", "base")
    git(repo, "tag", BASE)
    for name in names:
        r = git(repo, "am", "-q", "--committer-date-is-author-date",
                str(tree.patches / name), check=False)
        if r.returncode:
            yield f"{tree.rel(name)}: git am: " + " / ".join(
                line.removeprefix("error: ") for line in r.stderr.splitlines()
                if line.startswith(("error:", "fatal:")))
            return
    for path in paths:
        if content(repo / path) != content(work / path):
            yield (f"{tree.rel('series')}: git am and patch make a different "
                   f"{path}: some hunk fits in two places")
    for name, out in zip(names, export(repo, tmp / "out")):
        if slug(out.name) != slug(name):
            yield (f"{tree.rel(name)}: its subject makes it "
                   f"{name[:5]}{slug(out.name)}")
        old = (tree.patches / name).read_bytes()
        new = out.read_bytes()
        # Another base's; that it applies is all that there is to it.
        if old != new and "/" not in name:
            pairs = zip(old.splitlines() + [b""], new.splitlines() + [b""])
            at = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 0)
            yield (f"{tree.rel(name)}: git would export it otherwise, from "
                   f"line {at} on (make edit-{tree.name} and "
                   f"refresh-{tree.name} bring it into shape)")


def twin(tree, name, text):
    """The line that takes this patch from the newest base, or None."""
    line = f"../{tree.newest}/{name}"
    path = tree.patches / line
    return line if tree.newest and path.is_file() and \
        same(path.read_text(errors="replace")) == same(text) else None


def check(tree):
    """Every problem of a series, as messages; of its form alone if the tree
    that it applies to is not there."""
    try:
        names = tree.read_series()
    except Error as e:
        return [str(e)]
    problems = []
    slugs = [slug(n) for n in names]
    for name in sorted({n for n in names if slugs.count(slug(n)) > 1}):
        problems.append(f"{tree.rel('series')}: {name} stands there twice")
    for path in sorted(tree.patches.glob("*.patch")):
        if path.name not in names:
            problems.append(f"{tree.rel(path.name)} is not in the series file")
    if names != sorted(names, key=lambda name: name.rpartition("/")[2]):
        problems.append(f"{tree.rel('series')}: not in the order of numbers")
    for name in (n for n in names if "/" not in n):
        problems += [f"{tree.rel(name)} {what}"
                     for what in check_text(tree, name)]
        if twin(tree, name, (tree.patches / name).read_text(errors="replace")):
            problems.append(f"{tree.rel(name)} is patches/{tree.newest}'s: name "
                            f"that (make edit-{tree.name} and refresh-"
                            f"{tree.name} do)")
    if problems or not tree.src.is_dir():
        return problems

    with tempfile.TemporaryDirectory(prefix="series-") as tmp:
        tmp = Path(tmp)
        paths = sorted({p for n in names for p in touched(
            (tree.patches / n).read_text(errors="replace"))})
        problems += check_overlay(tree, paths)
        if problems:
            return problems
        work = tmp / "work"
        work.mkdir()
        copy_unpatched(tree, paths, work)
        try:
            apply_patches(tree, names, work)
        except Error as e:
            return [str(e)]
        problems += check_round_trip(tree, names, tmp, work)
    return problems


def sizes(tree):
    names = tree.read_series()
    own = sum("/" not in n for n in names)
    return f"{len(names)} patches" + \
        (f", {own} of its own" if tree.newest else "")


def cmd_check(trees, named):
    bad = 0
    for tree in trees:
        if not tree.src.is_dir() and (named or not tree.optional):
            raise Error(f"{tree.src.relative_to(TOP)} does not exist; "
                        f"make series-check unpacks it")
    # git and patch do the work, most of it waiting.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(check, trees))
    for tree, problems in zip(trees, found):
        for p in problems:
            print(f"series-check: error: {p}", file=sys.stderr)
        bad += len(problems)
        if not problems:
            print(f"  CHECK    {tree.patches.relative_to(TOP)}: "
                  f"{sizes(tree)}" +
                  ("" if tree.src.is_dir() else
                   f"; their form alone, {tree.src.relative_to(TOP)} does "
                   "not exist"))
    return 1 if bad else 0


# ---- edit and refresh ----------------------------------------------------

def cmd_edit(tree):
    rel = tree.edit.relative_to(TOP)
    if tree.edit.exists():
        raise Error(f"{rel} exists; make refresh-{tree.name} writes it back, "
                    "removing the folder gives it up")
    names = tree.read_series()
    tmp = tree.edit.with_name(tree.edit.name + ".new")
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.parent.mkdir(parents=True, exist_ok=True)
    print(f"  COPY     {rel}", flush=True)
    shutil.copytree(tree.src, tmp, symlinks=True,
                    ignore=shutil.ignore_patterns(".git"))
    # Back to upstream's state, then our own files.
    ours = tree.state / "written"
    for path in ours.read_text().splitlines() if ours.exists() else ():
        src = tree.pristine(path)
        if src:
            shutil.copy2(src, tmp / path)
        else:
            (tmp / path).unlink(missing_ok=True)
    print(f"  GIT      {rel}", flush=True)
    git(tmp, "init", "-q")
    git(tmp, "add", "-A", "-f")
    git(tmp, "commit", "-q", "-m", f"{tree.name}, as fetched")
    overlay = tree.overlay()
    for path in overlay:
        (tmp / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / path, tmp / path)
    if overlay:
        git(tmp, "add", "-f", *overlay)
        git(tmp, "commit", "-q", "-m",
            "Files of this project: edit them in the repository")
    git(tmp, "tag", BASE)
    name, mail = user()
    git(tmp, "config", "user.name", name)
    git(tmp, "config", "user.email", mail)
    stopped = None
    if names:
        r = git(tmp, "am", "-q", "--committer-date-is-author-date",
                *[str(tree.patches / n) for n in names], check=False,
                who=(name, mail))
        stopped = r.stderr.strip() if r.returncode else None
    tmp.rename(tree.edit)
    if stopped:
        raise Error(f"git am stopped in {rel}; solve it there and "
                    f"git am --continue: {stopped}")
    print(f"  {len(names)} commits on {BASE} in {rel}; "
          f"then: make refresh-{tree.name}")
    return 0


def number(old, outs):
    """File names for exported patches: numbers stay with their subjects."""
    known = {slug(n): int(n[:4]) for n in old}
    names, last = [], None
    for i, out in enumerate(outs):
        want = known.get(slug(out.name))
        if last is None and want is None:
            later = [known[slug(o.name)] for o in outs[i:]
                     if slug(o.name) in known]
            want = min([101] + [max(n - 1, 1) for n in later[:1]])
        if last is not None and (want is None or want <= last):
            want = last + 1
        last = want
        names.append(f"{want:04d}-{slug(out.name)}")
    return names


def shared(tree, names, outs, work):
    """The names, with those from the newest base that make the same files."""
    commits = git(tree.edit, "rev-list", "--reverse",
                  f"{BASE}..HEAD").stdout.split()
    work.mkdir()
    lines = []
    for name, out, commit in zip(names, outs, commits):
        text = out.read_text(errors="replace")
        line = twin(tree, name, text)
        paths = touched(text) if line else ()
        for path in paths:
            before = git(tree.edit, "show", f"{commit}^:{path}", check=False)
            if before.returncode == 0:
                (work / path).parent.mkdir(parents=True, exist_ok=True)
                (work / path).write_text(before.stdout)
            else:
                (work / path).unlink(missing_ok=True)
        try:
            if line:
                apply_patches(tree, [line], work)
        except Error:
            line = None
        for path in paths:
            after = git(tree.edit, "show", f"{commit}:{path}", check=False)
            if content(work / path) != (after.stdout.encode()
                                        if after.returncode == 0 else None):
                line = None
        lines.append(line or name)
    return lines


def cmd_refresh(tree):
    rel = tree.edit.relative_to(TOP)
    if not tree.edit.is_dir():
        raise Error(f"{rel} does not exist; make edit-{tree.name} makes it")
    gitdir = tree.edit / ".git"
    for busy in ("rebase-apply", "rebase-merge", "MERGE_HEAD"):
        if (gitdir / busy).exists():
            raise Error(f"{rel}: git is in the middle of something "
                        f"(.git/{busy}); finish it first")
    if git(tree.edit, "status", "--porcelain", "-uno").stdout:
        raise Error(f"{rel} has changes that are not committed")
    if git(tree.edit, "rev-list", "--merges", f"{BASE}..HEAD").stdout:
        raise Error(f"{rel}: a series can't hold merge commits")
    changed = git(tree.edit, "log", "--format=", "--name-only",
                  f"{BASE}..HEAD").stdout.split()
    for path in sorted(set(tree.overlay()) & set(changed)):
        if not tree.newest:
            raise Error(f"{rel}: a commit changes {path}, which is no file of "
                        "upstream's; edit it in the repository")

    with tempfile.TemporaryDirectory(prefix="series-") as tmp:
        outs = export(tree.edit, Path(tmp) / "out")
        old = sorted(p.name for p in tree.patches.glob("*.patch"))
        names = number([n.rpartition("/")[2] for n in tree.read_series()] or old,
                       outs)
        names = shared(tree, names, outs, Path(tmp) / "work")
        # Comments stay above the patch that they stand above.
        notes, block = {}, []
        for line in tree._series_lines():
            if line.strip() and not line.startswith("#"):
                notes[slug(line.split("#")[0].strip())] = block
                block = []
            else:
                block.append(line)
        lines = []
        for i, n in enumerate(names):
            lines += notes.get(slug(n), []) + [n]
        if not names or slug(names[0]) not in notes:
            first = next(iter(notes.values()), [])
            lines = [x for x in first if x not in lines] + lines
        lines += block
        for name, out in zip(names, outs):
            dst = tree.patches / name
            if "/" in name:
                continue
            if not dst.exists() or dst.read_bytes() != out.read_bytes():
                shutil.copyfile(out, dst.with_suffix(".new"))
                dst.with_suffix(".new").rename(dst)
                print(f"  WRITE    {tree.rel(name)}")
        series = tree.patches / "series.new"
        series.write_text("\n".join(lines) + "\n")
        series.rename(tree.patches / "series")
        for name in set(old) - set(names):
            (tree.patches / name).unlink()
            print(f"  REMOVE   {tree.rel(name)}")
    print(f"  {sizes(tree)} in {tree.patches.relative_to(TOP)}")
    return 0


def cmd_list(tree):
    for name in tree.read_series():
        print((tree.patches / name).resolve())
    return 0


def main(argv):
    commands = {"list": cmd_list, "edit": cmd_edit, "refresh": cmd_refresh}
    try:
        if not argv or argv[0] not in ("check", *commands):
            raise Error("check, list, edit or refresh is accepted")
        for name in argv[1:]:
            if name not in TREES:
                raise Error(f"'{name}': {' or '.join(TREES)} is accepted")
        if argv[0] == "check":
            return cmd_check([TREES[n] for n in argv[1:] or TREES],
                             bool(argv[1:]))
        if len(argv) != 2:
            raise Error(f"{argv[0]}: one of {', '.join(TREES)} is needed")
        return commands[argv[0]](TREES[argv[1]])
    except Error as e:
        print(f"series.py: error: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
