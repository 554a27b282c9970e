# SPDX-License-Identifier: GPL-2.0-or-later
"""This machine as a host: what it is, and whether its KVM can run the guests.

Everything is read below ROOT, so that tests have machines of their own.
Nothing says who or where the machine is: results are made to be sent.
"""

import fcntl
import os
import re
import stat

from .errors import LabError

# Vendor in /proc/cpuinfo -> KVM's module, the parameters that must be on, and
# what each of them is.
AMD = ("AMD", "kvm_amd", {"npt": "nested page tables"})
VENDORS = {
    "AuthenticAMD": AMD,
    "HygonGenuine": AMD,
    "GenuineIntel": ("Intel", "kvm_intel", {
        "ept": "extended page tables",
        "unrestricted_guest": "guests in real mode without emulation"}),
}
SETUP = {"kvm_amd": "SVM", "kvm_intel": "VMX"}
THP = "sys/kernel/mm/transparent_hugepage/enabled"
CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"
VULNERABILITIES = "sys/devices/system/cpu/vulnerabilities"
# linux/kvm.h
KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM = 0xae03, 117
# /proc/cpuinfo's key -> ours
CPU = {"model name": "cpu", "vendor_id": "cpu_vendor", "cpu family": "family",
       "model": "model", "stepping": "stepping", "microcode": "microcode"}


class Machine:
    def __init__(self, root="/"):
        self.root = root

    def path(self, name):
        return os.path.join(self.root, name)

    def read(self, name):
        """One line or more, or None."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as f:
                return f.read().strip()
        except OSError:
            return None

    def names(self, folder):
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []

    # ---- what it is -----------------------------------------------------

    def cpuinfo(self):
        """/proc/cpuinfo's first processor."""
        first = (self.read("proc/cpuinfo") or "").split("\n\n")[0]
        return {key.strip(): value.strip() for key, _, value in
                (line.partition(":") for line in first.splitlines())}

    def vendor(self):
        """(name, module, parameters) of the processor's maker."""
        name = self.cpuinfo().get("vendor_id", "unknown")
        if name not in VENDORS:
            raise LabError(f"the processor's vendor is {name}; accepted are "
                           f"{', '.join(VENDORS)}")
        return VENDORS[name]

    def parameters(self):
        """{module of KVM: {parameter: value}}, what this user may read."""
        found = {}
        for module in self.names("sys/module"):
            if module != "kvm" and not module.startswith("kvm_"):
                continue
            folder = f"sys/module/{module}/parameters"
            values = {name: self.read(f"{folder}/{name}")
                      for name in self.names(folder)}
            found[module] = {name: value for name, value in values.items()
                             if value is not None}
        return found

    def huge_pages(self):
        """always, madvise or never; None if the kernel has none."""
        chosen = re.search(r"\[(\w+)\]", self.read(THP) or "")
        return chosen[1] if chosen else None

    def nested(self):
        return "hypervisor" in self.cpuinfo().get("flags", "").split()

    def facts(self):
        cpu = self.cpuinfo()
        parameters = self.parameters()
        memory = re.search(r"MemTotal:\s+(\d+) kB",
                           self.read("proc/meminfo") or "")
        name = re.search(r'^PRETTY_NAME="?([^"\n]*)',
                         self.read("etc/os-release") or "", re.M)
        facts = {ours: cpu[key] for key, ours in CPU.items() if key in cpu}
        facts |= {
            "cpus": len(re.findall(r"^processor\s*:",
                                   self.read("proc/cpuinfo") or "", re.M)),
            "nested": self.nested(),
            "memory_mib": int(memory[1]) // 1024 if memory else 0,
            "distribution": name[1] if name else "",
            "kernel": self.read("proc/sys/kernel/osrelease") or "",
            "kernel_version": self.read("proc/sys/kernel/version") or "",
            "governor": self.read(f"{CPUFREQ}/scaling_governor"),
            "frequency_driver": self.read(f"{CPUFREQ}/scaling_driver"),
            "boost": self.read("sys/devices/system/cpu/cpufreq/boost"),
            "no_turbo": self.read(
                "sys/devices/system/cpu/intel_pstate/no_turbo"),
            "smt": self.read("sys/devices/system/cpu/smt/active"),
            "mitigations": {name: self.read(f"{VULNERABILITIES}/{name}")
                            for name in self.names(VULNERABILITIES)},
            "huge_pages": self.huge_pages(),
            "load": (self.read("proc/loadavg") or "").split(" ")[0],
            "kvm": parameters,
            "patched": "tdp_root_policy" in parameters.get("kvm", {}),
        }
        return {key: value for key, value in facts.items() if value is not None}

    # ---- can it? --------------------------------------------------------

    def check_device(self, access=os.access):
        """Is there a KVM that this user may use?"""
        path = self.path("dev/kvm")
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            _, module, _ = self.vendor()
            raise LabError(
                f"no /dev/kvm: load KVM (modprobe {module}), and have "
                f"{SETUP[module]} on in the machine's setup, or in the "
                "hypervisor whose guest it is") from None
        except OSError as error:
            raise LabError(f"/dev/kvm: {error.strerror}") from None
        if not access(path, os.R_OK | os.W_OK):
            by_group = mode & stat.S_IRGRP and mode & stat.S_IWGRP
            raise LabError(
                "/dev/kvm: no rights on it: " +
                ("join group kvm (adduser USER kvm) and log in anew"
                 if by_group else "it is its owner's alone, be root"))

    def check_kvm(self):
        """Can it run a guest that starts in real mode, in two dimensions?"""
        _, module, wanted = self.vendor()
        if not os.path.isdir(self.path(f"sys/module/{module}")):
            others = [name for name in self.names("sys/module")
                      if name.startswith("kvm_")]
            raise LabError(
                f"KVM is not {module} here but {', '.join(others) or 'unknown'}"
                ": it may lack what the guests need; --any-kvm tries it")
        for name, what in wanted.items():
            value = self.read(f"sys/module/{module}/parameters/{name}")
            if value in ("N", "0"):
                raise LabError(
                    f"{module}: {name} is {value} ({what}), which the guests "
                    f"need: load {module} with {name}=1, or use a processor or "
                    "hypervisor that has it")

    def check_smm(self, scenario, extension=fcntl.ioctl):
        """Has it the mode that Secure Boot's firmware wants?"""
        if "smm=on" not in scenario.command:
            return
        with open(self.path("dev/kvm"), "rb") as kvm:
            if not extension(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM):
                raise LabError(
                    "this KVM has no System Management Mode (CONFIG_KVM_SMM), "
                    f"which {scenario.name} is about; --scenario pc-seabios "
                    "needs none")

    def check_huge_pages(self, wanted):
        if wanted and self.huge_pages() in (None, "never"):
            raise LabError(
                f"--huge-pages on: /{THP} says {self.huge_pages()}, and belongs "
                "to the whole machine; set madvise there, or use off")
