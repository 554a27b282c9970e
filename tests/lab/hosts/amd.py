# SPDX-License-Identifier: GPL-2.0-or-later
"""AMD: QEMU's TCG with SVM and nested paging (see hosts/__init__.py)."""

import os
import subprocess

from labcore.errors import LabError
from labcore.files import find_file

# Option ROMs and firmware that the emulator itself loads.
ROMS = ("bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin")


class Host:
    vendor = "amd"
    emulator = "qemu-tcg"
    time_scale = 60
    time_out_scale = 1
    deterministic = True
    tsc_check = True

    # Two host CPUs in each, one for each vCPU: with one, OVMF's spinning vCPU
    # keeps it until the next tick, and each of its PAUSEs leaves the emulator's
    # inner loop, so that virtual time crawls.
    #
    # icount: one thread, virtual time counts instructions: repeatable, and a
    # guest that waits for nothing runs into its time-out at once.
    # mttcg: two threads, virtual time is real time, less CPU, not repeatable.
    MODES = {
        "icount": ["-accel", "tcg,thread=single",
                   "-icount", "shift=0,sleep=off"],
        "mttcg": ["-accel", "tcg,thread=multi"],
    }

    def __init__(self, options):
        self.qemu = options.qemu
        self.mode = options.mode or "icount"
        # What RDRAND gives; another seed is another, as repeatable, run.
        self.seed = str(getattr(options, "seed", None) or 20549)
        if self.mode not in self.MODES:
            raise LabError(f"--mode {self.mode}: accepted are "
                           f"{', '.join(self.MODES)}")
        if not os.access(self.qemu, os.X_OK):
            raise LabError(f"--qemu {self.qemu}: no such program; build it "
                           "first (make) or name another")
        self.plugin = getattr(options, "plugin", None)
        self.rom_dirs = sorted({
            os.path.dirname(os.path.abspath(
                find_file(options.firmware, rom, "--firmware")))
            for rom in ROMS})
        if self.mode != "icount":
            self.time_out_scale = 6
        self.deterministic = self.mode == "icount"

    def cmdline(self):
        return ["console=ttyS0", "nokaslr", "tsc=reliable", "no_timer_check"]

    def prepare(self, boot):
        text = subprocess.run([self.qemu, "--version"], text=True,
                              capture_output=True, check=True).stdout
        self.emulator = f"{text.splitlines()[0]}, TCG, {self.mode}"

    def command(self, boot):
        seed = ["-seed", self.seed] if self.deterministic else []
        plugin = ["-plugin", f"{self.plugin},out={boot.dir}/insns"] \
            if self.plugin else []
        return [self.qemu, *self.MODES[self.mode], *seed, *plugin,
                "-machine", "q35", "-smp", "2",
                "-cpu", "EPYC,+svm,+npt,+invtsc,+pku",
                "-m", str(boot.memory), "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot",
                *(word for d in self.rom_dirs for word in ("-L", d)),
                "-rtc", "base=2026-01-01,clock=vm",
                "-kernel", boot.kernel, "-initrd", boot.initramfs,
                "-append", boot.cmdline,
                "-serial", f"file:{boot.console}",
                "-serial", f"file:{boot.verdict}"]
