# SPDX-License-Identifier: GPL-2.0-or-later
"""Intel: Bochs with VMX and EPT (see hosts/__init__.py)."""

import os
import re
import shutil
import subprocess
import sys

from labcore.errors import LabError

BOCHS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bochs")

# What must be on the machine: what for, the file, the Debian package that has it.
FILES = {
    "BIOS": ("/usr/share/bochs/BIOS-bochs-latest", "bochsbios"),
    "VGABIOS": ("/usr/share/vgabios/vgabios.bin", "vgabios"),
    "isolinux": ("/usr/lib/ISOLINUX/isolinux.bin", "isolinux"),
    "ldlinux": ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"),
}
PROGRAMS = {"bochs": "bochs", "xorriso": "xorriso"}
# 2026-01-01, as in bochsrc.in.
EPOCH = "1767225600"
# isolinux takes no longer line.
MAX_CMDLINE = 2047


def fill(template, values):
    """The text of a template of tests/lab/bochs with its @WORDS@ replaced."""
    with open(os.path.join(BOCHS, template), encoding="utf-8") as stream:
        text = stream.read()
    # The comment of the template speaks of @WORDS@ itself.
    values = {"WORDS": "@WORDS@", **values}
    return re.sub(r"@([A-Z]+)@", lambda match: str(values[match[1]]), text)


class Host:
    vendor = "intel"
    emulator = "bochs"
    # A virtual second is 2,208 million instructions: 40 s of CPU time.
    time_scale = 100
    # One CPU, and time is counted in instructions: the host boots alike to the
    # tick.  The nested guest does not: from the point where its kernel draws
    # random numbers, two runs differed by 0.05 % in tdp_maps and 0.3 % in time.
    deterministic = False
    tsc_check = True

    def __init__(self, options):
        if options.mode is not None:
            raise LabError(f"--mode {options.mode}: the intel host has one mode; "
                           "leave --mode out")
        for program, package in PROGRAMS.items():
            if not shutil.which(program):
                raise LabError(f"intel host: no program {program} on this machine "
                               f"(Debian: {package})")
        for path, package in FILES.values():
            if not os.path.isfile(path):
                raise LabError(f"intel host: no {path} on this machine "
                               f"(Debian: {package})")

    def cmdline(self):
        # ht, avx512f: Bochs' CPUID contradicts itself (one thread, but several
        # cores; the compacted size of AVX-512's state for both formats), and
        # Linux warns.  xsaves, xsavec: once a nested guest has run, XRSTORS
        # faults in the host ("Bad FPU state detected").
        # Bochs' RDRAND repeats, so it stays: without it the host waits a second
        # for entropy.
        return ["console=ttyS0,115200", "nokaslr", "norandmaps", "tsc=reliable",
                "no_timer_check", "clearcpuid=ht,avx512f,xsaves,xsavec"]

    @staticmethod
    def environment():
        # Bochs 2.7 reads memory that it has not written; a test runner that
        # has malloc() fill it (Meson does) ends Bochs before its BIOS.
        return {"MALLOC_PERTURB_": "0"}

    def prepare(self, boot):
        text = subprocess.run(["bochs", "--help"], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).stdout
        version = re.search(r"Bochs x86 Emulator (\S+)", text)
        self.emulator = f"Bochs {version[1] if version else '(unknown version)'}, VMX+EPT"
        if len(boot.cmdline) > MAX_CMDLINE:
            raise LabError(f"intel host: the command line has {len(boot.cmdline)} "
                           f"characters; isolinux takes {MAX_CMDLINE}")
        self._write_bochsrc(boot)
        self._make_cdrom(boot)

    def _write_bochsrc(self, boot):
        values = {key: FILES[key][0] for key in ("BIOS", "VGABIOS")}
        values.update(MEMORY=boot.memory, CONSOLE=boot.console, VERDICT=boot.verdict,
                      CDROM=self._path(boot, "host.iso"), LOG=self._path(boot, "bochs.log"))
        for value in values.values():
            # Bochs' parser has no way to quote these.
            if re.search(r'["$,\s]', str(value)):
                raise LabError(f"intel host: {value}: Bochs takes no path with a space, "
                               'comma, $ or " in it')
        self._write(boot, "bochsrc", fill("bochsrc.in", values))

    def _make_cdrom(self, boot):
        cfg = self._write(boot, "isolinux.cfg",
                          fill("isolinux.cfg.in", {"CMDLINE": boot.cmdline}))
        command = ["xorriso", "-as", "mkisofs", "-quiet", "-o", self._path(boot, "host.iso"),
                   "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot",
                   "-boot-load-size", "4", "-boot-info-table",
                   "--set_all_file_dates", f"={EPOCH}", "-graft-points",
                   f"isolinux.bin={FILES['isolinux'][0]}", f"ldlinux.c32={FILES['ldlinux'][0]}",
                   f"isolinux.cfg={cfg}", f"bzimage={boot.kernel}", f"initrd={boot.initramfs}"]
        # One date for all images: the same input gives the same bytes.
        done = subprocess.run(command, text=True, capture_output=True, stdin=subprocess.DEVNULL,
                              env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH})
        if done.returncode:
            raise LabError(f"intel host: xorriso can't make {boot.dir}/host.iso: "
                           f"{done.stderr.strip() or done.stdout.strip()}")

    def command(self, boot):
        return [sys.executable, os.path.join(BOCHS, "supervise"), self._path(boot, "bochs.log"),
                "bochs", "-f", self._path(boot, "bochsrc"),
                "-rc", os.path.join(BOCHS, "debugger.rc")]

    @staticmethod
    def _path(boot, name):
        return os.path.join(boot.dir, name)

    def _write(self, boot, name, text):
        path = self._path(boot, name)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path
