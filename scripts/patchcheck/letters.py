# SPDX-License-Identifier: GPL-2.0-or-later
"""What is sent upstream: docs/upstream/NAME.txt, one letter for each series.

A letter is the cover letter behind a block of headers:

    Subject: of the cover letter; none if the series is one patch
    Tree:    a tree of series.py, the base
    Prefix:  instead of PATCH
    To:      who gets it, for a project without scripts/get_maintainer.pl
    Private: an address that has to have it before a list does
    After:   NAME, a series that this one needs, of any tree
    Has:     a patch of the tree's series that upstream has by now, and the
             base does not, but this series is on top of
    Patch:   a file of the tree's series, or of docs/upstream; behind a `+`
             files of ours that it adds, since upstream has none of them yet
    Moved:   a regular expression: lines of context that another series of
             ours put there
    Replace: TEXT => TEXT, in lines that the patches add: what this series
             takes of another one of ours, and what upstream has for it
    Tests:   what check-patches runs when all of the series is applied

After, Has, Patch, Replace and Tests may stand there more than once.
"""

import email
import re
import shutil
from pathlib import Path

from series import (BASE, TOP, TREES, Error, attributes, git, message,
                    touched)

FOLDER = TOP / "docs" / "upstream"
ONCE = ("Subject", "Tree", "Prefix", "To", "Private", "Moved")
MORE = ("After", "Has", "Patch", "Replace", "Tests")
UPSTREAM = re.compile(r"^Upstream: .*\n(?:[ \t]+\S.*\n)*", re.M)
PRISTINE = "pristine"
WIDTH = 72


class Patch:
    """One `Patch:` line: where the patch is, and files of ours beside it."""

    def __init__(self, letter, line):
        name, _, files = line.partition("+")
        self.name, self.files = name.strip(), files.split()
        self.letter = letter
        self.path = self._find(self.name)
        for path in self.files:
            if not (TOP / path).is_file():
                raise Error(f"{letter.rel}: {path} does not exist")

    def _find(self, wanted):
        tree = self.letter.tree
        for name in tree.read_series():
            if Path(name).name == wanted:
                return tree.patches / name
        path = FOLDER / wanted
        if "/" not in wanted and path.is_file() and \
                path.suffix == ".patch":
            return path
        raise Error(f"{self.letter.rel}: '{wanted}' is neither in "
                    f"{tree.rel('series')} nor in docs/upstream")

    def text(self):
        """As a mail, less what is said to ourselves alone."""
        text = self.path.read_text(errors="replace")
        head, sep, diff = text.partition("\n---\n")
        head = UPSTREAM.sub("", head + "\n").rstrip("\n")
        if self.letter.moved:
            diff = without(diff, self.letter.moved)
        for old, new in self.letter.replace:
            diff = "".join(line.replace(old, new) if line[0] == "+" else line
                           for line in diff.splitlines(keepends=True))
        return head + sep + diff


class Letter:
    def __init__(self, path):
        self.path, self.name = path, path.stem
        self.rel = f"docs/upstream/{path.name}"
        mail = email.message_from_string(path.read_text())
        for name in mail.keys():
            if name not in ONCE + MORE:
                raise Error(f"{self.rel}: '{name}:': accepted are "
                            + ", ".join(ONCE + MORE))
        for name in ONCE:
            if len(mail.get_all(name, [])) > 1:
                raise Error(f"{self.rel}: {name}: stands there twice")
        flat = {name: [" ".join(v.split()) for v in mail.get_all(name, [])]
                for name in ONCE + MORE}
        one = {name: (flat[name] or [None])[0] for name in ONCE}
        if one["Tree"] not in TREES:
            raise Error(f"{self.rel}: Tree: {one['Tree']}: accepted are "
                        + ", ".join(TREES))
        self.tree = TREES[one["Tree"]]
        self.prefix = one["Prefix"] or "PATCH"
        self.to, self.private = one["To"], one["Private"]
        self.moved = re.compile(one["Moved"]) if one["Moved"] else None
        self.after = " ".join(flat["After"]).split()
        self.tests = " ".join(flat["Tests"]).split()
        self.subject = one["Subject"]
        self.text = mail.get_payload().strip("\n")
        pairs = [line.partition(" => ") for line in flat["Replace"]]
        if not all(old and sep for old, sep, _ in pairs):
            raise Error(f"{self.rel}: Replace: TEXT => TEXT is accepted")
        self.replace = [(old, new) for old, _, new in pairs]
        self.has = [Patch(self, line) for line in flat["Has"]]
        self.patches = [Patch(self, line) for line in flat["Patch"]]
        if not self.patches:
            raise Error(f"{self.rel}: it names no Patch:")
        if len(self.patches) > 1 and not self.subject:
            raise Error(f"{self.rel}: more than one patch, and no Subject:")
        if len(self.patches) == 1 and self.subject:
            raise Error(f"{self.rel}: the subject of a single patch is its "
                        "own, take out Subject:")
        if not self.text:
            raise Error(f"{self.rel}: there is no text")
        # What becomes the subject is not wrapped by hand.
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line) > WIDTH and not line.startswith(
                    ("Subject: ", "Patch: ", "Has: ", "Replace: ")):
                raise Error(f"{self.rel}:{number}: more than {WIDTH} columns")


def load():
    """{name: Letter} of all letters."""
    letters = {path.stem: Letter(path) for path in sorted(
        FOLDER.glob("*.txt"))}
    sent = {}
    for letter in letters.values():
        for name in letter.after:
            if name not in letters:
                raise Error(f"{letter.rel}: After: {name}: accepted are "
                            + ", ".join(letters))
        chain(letter, letters)
        for patch in letter.patches:
            other = sent.setdefault(patch.path, letter)
            if other is not letter:
                raise Error(f"{letter.rel}: {patch.name} is of "
                            f"{other.name}, too")
    return letters


def named(name):
    letters = load()
    if name not in letters:
        raise Error(f"'{name}': accepted are {', '.join(letters)}")
    return letters[name], letters


def chain(letter, letters, seen=()):
    """The series that one needs, of all trees, in the order of sending."""
    if letter.name in seen:
        raise Error(f"{letter.rel}: After: it needs itself")
    found = []
    for name in letter.after:
        for other in chain(letters[name], letters, seen + (letter.name,)) + \
                [letters[name]]:
            if other not in found:
                found.append(other)
    return found


def without(diff, moved):
    """A diff less the lines of context that MOVED finds."""
    out, start = [], None
    for line in diff.splitlines(keepends=True):
        if m := re.match(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)",
                         line):
            start = len(out)
            counts = [int(n or 1) for n in m.group(1, 2, 3, 4)]
            out.append(line)
        elif start is not None and line[0] == " " and moved.search(line):
            counts[1] -= 1
            counts[3] -= 1
            out[start] = "@@ -%d,%d +%d,%d @@" % tuple(counts) + \
                re.sub(r"@@.*?@@", "", out[start], count=1)
        else:
            if line.startswith("diff --git "):
                start = None
            out.append(line)
    return "".join(out)


def assemble(letter, letters, repo):
    """Make REPO a git tree: upstream's files at the tag PRISTINE, what the
    series needs at BASE, its own patches up to HEAD.  It holds only the files
    that these touch: what git am does with them is the same."""
    tree = letter.tree
    if not tree.src.is_dir():
        raise Error(f"{tree.src.relative_to(TOP)} does not exist; "
                    "make series-check unpacks it")
    before = letter.has + [
        p for other in chain(letter, letters) if other.tree is tree
        for p in other.has + other.patches]
    paths = {path for p in before + letter.patches
             for path in touched(p.text()) + p.files}
    repo.mkdir(parents=True, exist_ok=True)
    for path in sorted(paths) + attributes(tree, paths):
        source = tree.pristine(path)
        if source:
            (repo / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, repo / path)
    git(repo, "init", "-q")
    git(repo, "add", "-A", "-f")
    git(repo, "commit", "-q", "--allow-empty", "-m", "base")
    git(repo, "tag", PRISTINE)
    for patch in before:
        apply(patch, repo)
    git(repo, "tag", BASE)
    for patch in letter.patches:
        apply(patch, repo)


def apply(patch, repo):
    mail = repo / ".git" / "mail"
    # With less context behind a change than before it git would want the end
    # of the file there, unless it may do with less.
    less = ["-C1"] if patch.letter.moved else []
    mail.write_text(patch.text())
    r = git(repo, "am", "-q", "--committer-date-is-author-date", *less,
            str(mail), check=False)
    if r.returncode:
        said = [line.removeprefix("error: ")
                for line in r.stderr.splitlines()
                if line.startswith(("error:", "fatal:"))]
        raise Error(f"{patch.letter.name}: {patch.name} does not apply "
                    f"without what is not named: {' / '.join(said)}")
    for path in patch.files:
        if patch.letter.tree.pristine(path):
            raise Error(f"{patch.letter.rel}: upstream has a {path}")
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / path, repo / path)
    if patch.files:
        git(repo, "add", "-f", *patch.files)
        git(repo, "commit", "-q", "--amend", "--no-edit")


def export(repo, out):
    """(what the series needs, its patches), as files of OUT."""
    def write(folder, revisions):
        folder.mkdir(parents=True)
        r = git(repo, "format-patch", "-N", "--zero-commit", "--no-signature",
                "--no-base", "-o", str(folder), revisions)
        return r.stdout.splitlines()
    shutil.rmtree(out, ignore_errors=True)
    return (write(out / "before", f"{PRISTINE}..{BASE}"),
            write(out / "patches", f"{BASE}..HEAD"))


def trailers(text):
    """The lines of the last paragraph of a patch's message."""
    body = message(text).rstrip()
    return body.rpartition("\n\n")[2].splitlines()
