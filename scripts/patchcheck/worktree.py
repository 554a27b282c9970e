# SPDX-License-Identifier: GPL-2.0-or-later
"""A git tree of upstream's sources to which a series is applied one by one.

It holds what a build of KVM reads, under git only the files that the series
touches: a commit takes milliseconds.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from series import BASE, BUILD, TOP, Error, attributes, git, touched

from . import letters

# Of these folders of Linux a build of KVM reads the Makefiles and Kconfig
# alone.
UNREAD = ("drivers", "sound", "samples", "Documentation", "fs", "net", "rust",
          "arch/[!x]*")
SUFFIXES = ("c", "h", "S", "rst", "txt", "yaml", "dts", "dtsi", "rs", "json",
            "svg")
# ... but selftests of 7.3 have links to these.
LINKED = ("drivers/dma/*/*.h", "drivers/net/ethernet/intel/igb/*.h")


class Worktree:
    def __init__(self, tree, jobs, letter=None, known=None):
        """Of all of a tree's series, or of one that is sent by itself."""
        self.tree, self.jobs, self.letter = tree, jobs, letter
        self.dir = BUILD / "patchcheck" / tree.src.name
        self.src = self.dir / "tree"
        if tree.patches.name.startswith("qemu-"):
            # Where scripts/build-qemu and qemu-test look for a tree.
            self.src = tree.src.with_name(tree.src.name + "-alone")
            self.dir = tree.src.with_name(f".{self.src.name}")
        self.logs = self.dir / "logs"
        if letter:
            with tempfile.TemporaryDirectory(prefix="letter-") as tmp:
                letters.assemble(letter, known, Path(tmp))
                self.before, self.patches = letters.export(
                    Path(tmp), self.dir / "letters" / letter.name)
        else:
            self.before, self.patches = [], tree.read_series()
        self.touched = sorted({p for n in self.before + self.patches
                               for p in touched(self.text(n))})

    def memo(self, name):
        """What a finding is remembered by: a series has its own."""
        return f"{self.letter.name} {name}" if self.letter else name

    def text(self, patch):
        return (self.tree.patches / patch).read_text(errors="replace")

    def prepare(self):
        """Upstream's state, as the tag BASE."""
        if not self.tree.src.is_dir():
            raise Error(f"{self.tree.src.relative_to(TOP)} does not exist; "
                        "make check-patches unpacks it")
        self.dir.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.dir / "lock", "w", encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Error(f"another check-patches is at work in "
                        f"{self.dir.relative_to(TOP)}") from None
        source = (self.tree.state / "source").read_text()
        stamp = self.dir / "source"
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        if not stamp.exists() or stamp.read_text() != source:
            stamp.unlink(missing_ok=True)
            self._copy()
            stamp.write_text(source)
        self._restore(self.touched + self._known())
        (self.dir / "touched").write_text("\n".join(self.touched) + "\n")
        shutil.rmtree(self.src / ".git", ignore_errors=True)
        git(self.src, "init", "-q")
        paths = [p for p in self.touched + attributes(self.tree, self.touched)
                 if (self.src / p).exists()]
        if paths:
            git(self.src, "add", "-f", *paths)
        git(self.src, "commit", "-q", "--allow-empty", "-m", "base")
        for patch in self.before:
            self.apply(patch)
        git(self.src, "tag", BASE)

    def _copy(self):
        print(f"  COPY     {self.src.relative_to(TOP)}", flush=True)
        shutil.rmtree(self.src, ignore_errors=True)
        rules = ["--exclude=.git", *(f"--include=/{p}" for p in LINKED)]
        for folder in UNREAD if "linux" in self.tree.name else ():
            rules += [f"--exclude=/{folder}/**.{s}" for s in SUFFIXES]
        r = subprocess.run(["rsync", "-a", *rules, f"{self.tree.src}/",
                            f"{self.src}/"], capture_output=True, text=True)
        if r.returncode:
            raise Error(f"rsync: {r.stderr.strip()}")
        ours = [str(p.relative_to(self.tree.state / "pristine"))
                for p in (self.tree.state / "pristine").rglob("*")
                if p.is_file()]
        absent = self.tree.state / "absent"
        if absent.exists():
            ours += absent.read_text().split()
        self._restore(ours)

    def _known(self):
        """What an earlier run, perhaps of another series, touched."""
        touched_file = self.dir / "touched"
        return touched_file.read_text().split() if touched_file.exists() else []

    def _restore(self, paths):
        """Upstream's content; a file that has it keeps its time."""
        for path in sorted(set(paths)):
            have, want = self.src / path, self.tree.pristine(path)
            if want is None:
                have.unlink(missing_ok=True)
            elif not have.is_file() or have.read_bytes() != want.read_bytes():
                have.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(want, have)
                shutil.copymode(want, have)

    def apply(self, patch):
        path = self.tree.patches / patch
        r = git(self.src, "am", "-q", str(path), check=False)
        if r.returncode:
            raise Error(f"{self.tree.rel(patch)}: git am: {r.stderr.strip()}")

    def added(self):
        """Files that the series creates."""
        return git(self.src, "diff", "--name-only", "--diff-filter=A", BASE,
                   "HEAD").stdout.split()

    def run(self, log, *command, env=None):
        """(status, output) of a command; the output goes to a log, too."""
        r = subprocess.run([str(c) for c in command], text=True,
                           errors="replace", stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           env=environment() | (env or {}), cwd=self.src)
        with open(self.logs / f"{log}.log", "a", encoding="utf-8") as f:
            f.write(f"$ {' '.join(map(str, command))}\n{r.stdout}\n")
        return r.returncode, r.stdout


def environment():
    """As scripts/build-env: one compiler cache, and nothing of the caller's
    that a build listens to."""
    drop = ("CC", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS", "MAKELEVEL",
            "MFLAGS", "KBUILD_OUTPUT", "KCONFIG_CONFIG", "ARCH")
    env = {k: v for k, v in os.environ.items() if k not in drop}
    cache = env.get("XDG_CACHE_HOME") or f"{env['HOME']}/.cache"
    env.update(CCACHE_DIR=f"{cache}/perennial/ccache", CCACHE_MAXSIZE="3G",
               CCACHE_BASEDIR=str(TOP), CCACHE_NOHASHDIR="1", LC_ALL="C",
               PATH=f"/usr/sbin:/usr/bin:/sbin:/bin:{env['PATH']}")
    return env
