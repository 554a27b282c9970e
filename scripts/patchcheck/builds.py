# SPDX-License-Identifier: GPL-2.0-or-later
"""Build KVM in one configuration, and tell what upstream's tree did not say."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from series import TOP, Error

from .memo import Memo, digest
from .report import patch_number

HERE = Path(__file__).resolve().parent
MESSAGE = re.compile(r"^(?:\.\./)*(?P<file>[\w./+-]+\.[chS]):(?P<line>\d+)"
                     r"(?::\d+)?: (?P<text>(?:fatal )?(?:warning|error): .*)$",
                     re.M)
TRACE = re.compile(r"^.*(?:\*\*\*|undefined reference|objtool: ).*$", re.M)
EXPORT = r"\bEXPORT_[A-Z_]*\s*\(\s*"
# asm/atomic64_32.h and kernel/params.c paste these names together, and export
# them.
PASTED = re.compile(r"atomic64_\w+_(cx8|386)|"
                    r"param_ops_(byte|u?short|u?int|u?long|ullong|hexint)")


class Config:
    def __init__(self, work, fragment):
        self.work, self.fragment = work, fragment
        self.name = fragment.stem
        self.out = work.dir / self.name
        self.arch = "i386" if self.name == "i386" else "x86_64"
        self.memo = Memo(self.out / "known.json")
        self.base = set()
        self.needed = set()

    def make(self, log, *args):
        return self.work.run(
            f"{self.name}-{log}", "make", "-C", self.work.src,
            f"O={self.out}", f"ARCH={self.arch}", "CC=ccache gcc",
            "HOSTCC=ccache gcc", "LOCALVERSION=", "KBUILD_BUILD_USER=perennial",
            "KBUILD_BUILD_HOST=perennial", "KBUILD_BUILD_TIMESTAMP=1970-01-01",
            "-k", "-j", self.work.jobs, *args)

    def configure(self):
        """Again for each run: a patch may change Kconfig."""
        self.out.mkdir(parents=True, exist_ok=True)
        before = self.out / ".config"
        old = before.read_bytes() if before.exists() else None
        known = before.stat() if old is not None else None
        # Kconfig drops a symbol without a word: what this line has not is no
        # error, but what a configuration is for must be there.
        status, text = self.make("config", f"KCONFIG_ALLCONFIG={self.fragment}",
                                 "allnoconfig")
        if status:
            raise Error(f"{self.name}: allnoconfig: {text.strip()[-300:]}")
        if old is not None and old == before.read_bytes():
            os.utime(before, ns=(known.st_atime_ns, known.st_mtime_ns))
        r = subprocess.run([str(TOP / "scripts/kconfig-check"),
                            str(self.fragment), str(before)],
                           capture_output=True, text=True)
        if r.returncode:
            raise Error(f"{self.name}: {r.stderr.strip()}")

    def build(self, log):
        """(status, {(file, text): line}) of what the compiler said."""
        status, text = self.make(log, "prepare")
        if status == 0:
            status, text = self.make(log, "W=1", "arch/x86/kvm/")
        said = {}
        for m in MESSAGE.finditer(text):
            said.setdefault((tidy(self.work, m["file"]), m["text"]), m["line"])
        for m in TRACE.finditer(text):
            said.setdefault(("", m[0].strip()), "")
        return status, said

    def undefined(self):
        """Symbols that each module needs of others, by module."""
        if "=m" not in self.kvm_line():
            return {}
        folder = self.out / "arch/x86/kvm"
        if not (folder / "kvm.o").exists():
            raise Error(f"{self.name}: KVM is a module, but there is no kvm.o")
        return {module: symbols(folder / f"{module}.o", "-u")
                for module in ("kvm", "kvm-amd", "kvm-intel")
                if (folder / f"{module}.o").exists()}

    def kvm_line(self):
        return next(line for line in (self.out / ".config").read_text()
                    .splitlines() if line.startswith("CONFIG_KVM="))

    def build_base(self):
        """What upstream's tree says and needs; kept, for it does not change."""
        if self.all_known():
            return
        self.configure()
        known = self.memo.get(self.base_name(), self.key())
        if known:
            self.base = {tuple(pair) for pair in known["said"]}
            self.needed = set(known["needed"])
            return
        print(f"  BUILD    upstream, {self.name}", flush=True)
        # Of what is up to date nothing is heard.
        shutil.rmtree(self.out / "arch/x86/kvm", ignore_errors=True)
        status, said = self.build("base")
        if status:
            raise Error(f"{self.name}: upstream's tree does not build: "
                        + "; ".join(text for _, text in said)[:300])
        self.base = set(said)
        self.needed = set().union(*self.undefined().values(), set())
        self.memo.put(self.base_name(), self.key(), {"said": sorted(self.base),
                                           "needed": sorted(self.needed)})

    def base_name(self):
        """What upstream's tree says is every series' that needs no other."""
        return self.work.memo("base") if self.work.before else "base"

    def key(self, upto=None):
        """Of all that a build after the patch UPTO depends on."""
        before, patches = self.work.before, self.work.patches
        upto = patches.index(upto) + 1 if upto else 0
        return digest((self.work.dir / "source").read_text(),
                      self.fragment.read_text(), Path(__file__).read_text(),
                      *(self.work.text(p) for p in before + patches[:upto]))

    def known(self, patch):
        """A build that passed before needs no other."""
        return self.memo.get(self.work.memo(patch_number(patch)),
                             self.key(patch)) is not None

    def all_known(self):
        return all(self.known(patch) for patch in self.work.patches)

    def build_patch(self, patch, exports, report):
        number = self.work.memo(patch_number(patch))
        name = f"{number} builds, {self.name}"
        if self.known(patch):
            report.verdict(f"{name} (as before)", [])
            return
        status, said = self.build(patch_number(patch))
        problems = [f"{file}:{line}: {text}" if file else text
                    for (file, text), line in said.items()
                    if (file, text) not in self.base]
        if status and not problems:
            problems = [f"make ended with status {status}, see "
                        f"{self.work.logs.relative_to(TOP)}"]
        if not status:
            problems += exports.missing(self)
        report.verdict(name, problems)
        if not problems:
            self.memo.put(number, self.key(patch), True)


class Exports:
    """Which symbols a module may use."""

    def __init__(self, work):
        self.work = work
        self.known = {}

    def missing(self, config):
        """Of what modules need since the series, what nobody exports."""
        problems = []
        modules = config.undefined()
        if not modules:
            return problems
        kvm = config.out / "arch/x86/kvm/kvm.o"
        defined = symbols(kvm, "--defined-only")
        for module, names in modules.items():
            for name in sorted(names):
                if module != "kvm" and name in defined:
                    good = f"__export_symbol_{name}" in defined
                else:
                    good = (name in config.needed or
                            PASTED.fullmatch(name) or self.by_source(name))
                if not good:
                    problems.append(f"{module}.ko needs {name}, which is "
                                    "not exported")
        return problems

    def by_source(self, name):
        if name not in self.known:
            r = subprocess.run(
                ["grep", "-rqE", "--include=*.[chS]", EXPORT + name + r"\b",
                 "arch/x86", "kernel", "mm", "lib", "virt", "include",
                 "block", "crypto", "security", "init"],
                cwd=self.work.src)
            self.known[name] = r.returncode == 0
        return self.known[name]


def symbols(obj, which):
    r = subprocess.run(["nm", which, "--format=posix", str(obj)],
                       capture_output=True, text=True)
    if r.returncode:
        raise Error(f"nm {obj}: {r.stderr.strip()}")
    return {line.split()[0] for line in r.stdout.splitlines() if line}


def tidy(work, path):
    """A file's name as the compiler says it, from the tree's top on."""
    path = path.removeprefix(f"{work.src}/")
    # With O= inside of the tree the names are relative to it.
    return path.removeprefix("tree/")


def configs(work):
    return [Config(work, path) for path in sorted(HERE.glob("*.config"))]
