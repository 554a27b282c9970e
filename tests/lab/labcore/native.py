# SPDX-License-Identifier: GPL-2.0-or-later
"""A run on this machine's own KVM: its parts, its plan, its folder.

A run's folder is what /lab is in an emulated host: firmware/ and guest/, mostly
links, beside the plan, and the runner (../runner) works in it.
"""

import glob
import hashlib
import os
import platform
import time

from . import boot, guest, nvram, qemu, secureboot, tracing
from .errors import LabError
from .files import find_file
from .programs import compile_static, read, sources

CODE = "OVMF_CODE_4M.secboot.fd"
VARS = "OVMF_VARS_4M.fd"
SHIMS = ("shimx64.efi.signed", "shimx64.efi")
# What an installed QEMU finds by itself, in the source tree is firmware's.
ROMS = ("bios-256k.bin", "vgabios-stdvga.bin", "kvmvapic.bin",
        "linuxboot_dma.bin", "multiboot_dma.bin")
# How often, in seconds, others' VMs are looked for while tracing counts.
LOOK = 2


class Tree:
    """What `make lab` has built; the programs are compiled when they are old."""

    def __init__(self, lab):
        self.lab = lab
        self.build = os.path.join(lab, "../../build")
        self.qemu = os.path.join(
            self.build, os.environ.get("QEMU_TREE", "qemu"), "qemu-system-x86_64")
        self.firmware = [os.path.join(self.build, "firmware")]
        self.hint = "build it (make lab)"

    def guest_kernel(self):
        found = sorted(glob.glob(os.path.join(
            self.build, "firmware/boot/vmlinuz-*")))
        return found[-1] if found else \
            os.path.join(self.build, "firmware/boot/vmlinuz")

    def keys(self, scratch):
        del scratch
        return os.path.join(self.build, "lab/keys")

    def program(self, name):
        output = os.path.join(self.build, "lab/native", name)
        files = sources(self.lab, name)
        newest = max(os.path.getmtime(path) for path in
                     files + glob.glob(os.path.join(self.lab, "*/*.h")))
        if not os.path.isfile(output) or os.path.getmtime(output) < newest:
            os.makedirs(os.path.dirname(output), exist_ok=True)
            compile_static(files, os.environ.get("LAB_CC", "cc"), output)
        return output


class Installed:
    """What Debian's packages have, and ours."""

    def __init__(self, lab):
        self.programs = os.path.join(lab, "../../../lib/perennial")
        self.qemu = "qemu-system-x86_64"
        self.firmware = ["/usr/share/OVMF", "/usr/lib/shim"]
        self.hint = "install ovmf and shim-unsigned"

    def guest_kernel(self):
        return f"/boot/vmlinuz-{platform.release()}"

    def keys(self, scratch):
        return os.path.join(scratch, "keys")

    def program(self, name):
        return os.path.normpath(os.path.join(self.programs, name))


def where(lab):
    tree = os.path.join(lab, "../../scripts/perennial-bench")
    return Tree(lab) if os.path.isfile(tree) else Installed(lab)


def find_one(folders, names, option, hint):
    for folder in folders:
        for name in names:
            path = find_file(folder, name, None)
            if path:
                return path
    raise LabError(f"no {' or '.join(names)} below {', '.join(folders)}: "
                   f"{hint}, or name a folder that has it with {option}")


class Guest:
    """Firmware, kernel and initramfs of the guest, made in a SCRATCH folder.

    What is UEFI's is needed, and made, only for a scenario with UEFI.
    """

    def __init__(self, source, scratch, firmware=None, kernel=None, uefi=True):
        self.where, self.scratch, self.uefi = source, scratch, uefi
        self.firmware = [firmware] if firmware else source.firmware
        self.kernel = kernel or source.guest_kernel()
        self.release = self._release()
        self.made = None

    def find(self, *names):
        return find_one(self.firmware, names, "--firmware", self.where.hint)

    def _release(self):
        option = f"--guest-kernel {self.kernel}"
        try:
            self.image = read(self.kernel)
        except OSError as error:
            raise LabError(f"{option}: {error.strerror}; name a bzImage that "
                           "you may read") from None
        release = guest.release(self.image)
        if not release:
            raise LabError(f"{option}: is no bzImage")
        return release

    def check_signature(self, shim):
        """Will the firmware that trusts that shim's certificate start it?"""
        signature = guest.signature(self.image)
        option = f"--guest-kernel {self.kernel}"
        if not signature:
            raise LabError(f"{option}: has no signature, so Secure Boot would "
                           "not start it; name a distribution's kernel")
        name = secureboot.subject(secureboot.vendor_certificate(shim))
        if name not in signature:
            raise LabError(f"{option}: is not signed by the vendor of "
                           f"{self.find(*SHIMS)}; name that one's kernel")

    def module(self):
        folder = os.path.join(os.path.dirname(self.kernel), "../lib/modules",
                              self.release)
        module = guest.efivarfs(folder)
        if module is None:
            try:
                builtin = "/efivarfs.ko" in read(os.path.join(
                    folder, "modules.builtin")).decode()
            except OSError:
                builtin = False
            if not builtin:
                raise LabError(f"--guest-kernel {self.kernel}: no module "
                               f"efivarfs in {os.path.normpath(folder)}")
        return module

    def facts(self):
        """What times depend on, besides the machine."""
        facts = {"guest_kernel": self.release}
        if self.uefi:
            facts["firmware_sha256"] = hashlib.sha256(
                read(self.find(CODE))).hexdigest()
        return facts

    def make(self):
        """Once: the initramfs, and the store of variables with Secure Boot on."""
        if self.made:
            return self.made
        store, module, updates = None, None, ()
        if self.uefi:
            self.find(CODE)
            shim = read(self.find(*SHIMS))
            self.check_signature(shim)
            signer = secureboot.Signer(self.where.keys(self.scratch))
            store = guest.variables(read(self.find(VARS)), shim, signer)
            module, updates = self.module(), guest.updates(signer)
        initramfs = os.path.join(self.scratch, "initramfs")
        with open(initramfs, "wb") as f:
            f.write(guest.initramfs(read(self.where.program("guest")), module,
                                    updates))
        self.made = store, initramfs
        return self.made

    def roms(self):
        """Those that are beside the firmware; QEMU has a folder of its own."""
        found = [find_file(folder, name, None)
                 for folder in self.firmware for name in ROMS]
        return [path for path in found if path]


def native_plan(text, program, trace):
    """The lab's plan TEXT for a folder of its own: TRACE is off or a name."""
    lines = []
    for line in text.splitlines():
        if line.startswith("arg "):
            line = line.replace("/lab/bin/qemu-system-x86_64", program, 1) \
                if line.startswith("arg /lab/bin/") else \
                line.replace("/lab/", "")
        elif trace == "off" and line.startswith(("compare-stats ",
                                                 "count-")):
            line = line.split()[0] + " off"
        lines.append(line)
    return "\n".join(lines + [f"trace {trace}"]) + "\n"


class Boot(boot.Boot):
    """The runner is its child, in place of an emulator.

    disturbed says why what was traced can't be this run's own.
    """

    def choose(self, options):
        self.guest, self.program = options.guest, options.probed.path
        self.trace = "off" if options.uncounted or getattr(
            options, "untraced", False) else tracing.own_name()
        self.disturbed, self.looked = "", 0.0

    def place(self, plan):
        store, initramfs = self.guest.make()
        name = "secboot"
        if self.scenario.nvram:
            store, name = nvram.fragment(store, *self.scenario.nvram)[0], "nvram"
        for folder in ("firmware", "guest"):
            os.mkdir(os.path.join(self.dir, folder))
        if store:
            self.write(f"firmware/OVMF_VARS_4M.{name}.fd", store)
            self.link("firmware", self.guest.find(CODE))
        for rom in self.guest.roms():
            self.link("firmware", rom)
        self.link("guest", self.guest.kernel, "vmlinuz")
        self.link("guest", initramfs)
        self.write("plan", native_plan(plan, self.program, self.trace).encode())

    def write(self, name, data):
        with open(os.path.join(self.dir, name), "wb") as f:
            f.write(data)

    def link(self, folder, path, name=None):
        os.symlink(os.path.abspath(path), os.path.join(
            self.dir, folder, name or os.path.basename(path)))

    def judge(self, ended):
        result = super().judge(ended)
        if self.disturbed:
            result.status, result.reason = "infrastructure", self.disturbed
        said = [line for line in boot.read(self.console).splitlines()
                if line.startswith(os.path.basename(self.program) + ": ")]
        if result.status == "qemu-exit" and said:
            result.reason += f"; {said[-1]}"
        return result

    def used(self):
        """Real seconds: it is quiet beside what is timed, and silence counts."""
        return time.monotonic() - self.started

    def stop(self):
        super().stop()
        if self.trace != "off":
            tracing.remove(self.host.machine, self.trace)

    def look(self):
        """Others that came meanwhile are counted, and slowed: that ends it."""
        if self.trace == "off" or time.monotonic() < self.looked + LOOK:
            return
        self.looked = time.monotonic()
        self.disturbed = tracing.disturbed(self.host.machine, self.child.pid)
        if self.disturbed:
            self.stop()


# ---- what the options ask for, on this machine ---------------------------

def settle(options, lab, machine, scenario, scratch):
    """Set options.probed, .guest and .uncounted; LabError if it can't run."""
    source = where(lab)
    machine.check_device()
    if not options.any_kvm:
        machine.check_kvm()
    machine.check_smm(scenario)
    machine.check_huge_pages(scenario.huge_pages)
    path = qemu.find(options.qemu_option, options.program or source.qemu)
    options.probed = qemu.probe(options.qemu_option, path)
    options.guest = Guest(source, scratch, options.firmware,
                          options.guest_kernel, "OVMF" in scenario.command)
    options.guest.make()
    options.runner = source.program("runner")
    tracing.remove_stale(machine)
    options.uncounted = tracing.why_not(machine)


def check_run(scenario, run, probed, uncounted):
    """LabError if QEMU, KVM or the user's rights lack what RUN is about."""
    options = scenario.run_options[run]
    why = probed.why_not(options.get("accel", "kvm"))
    if not why and uncounted and "on" in (options.get("count-exits"),
                                          options.get("count-sptes")):
        why = f"it is about what tracing counts, and {uncounted}"
    if why:
        raise LabError(f"--runs {run}: {why}")


def default_runs(scenario, probed):
    """(run names, why they are not the scenario's own or "")"""
    for run in scenario.runs:
        why = probed.why_not(scenario.run_options[run].get("accel", "kvm"))
        if why:
            return ["plain"], f"{why}, so run plain is all there is"
    return list(scenario.runs), ""
