# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU, and what it offers on this machine: asked over QMP, no guest runs."""

import json
import os
import shutil
import subprocess

from .errors import LabError

QUESTIONS = (
    ("qmp_capabilities", {}), ("query-target", {}), ("query-version", {}),
    ("qom-list-properties", {"typename": "kvm-accel"}),
    ("query-kvm", {}), ("query-kvm-root-retention", {}), ("quit", {}))
OLDEST = (7, 1)         # has query-stats


class Qemu:
    """Version, properties of -accel kvm, and what the host kernel offers it."""

    def __init__(self, path, answers):
        self.path = path
        version = answers.get("query-version", {})
        numbers = version.get("qemu", {})
        self.number = tuple(numbers.get(key, 0)
                            for key in ("major", "minor", "micro"))
        package = version.get("package", "")
        self.version = "QEMU " + ".".join(map(str, self.number)) + \
            (f" ({package})" if package else "")
        self.properties = {entry["name"] for entry in
                           answers.get("qom-list-properties", [])}
        self.kvm = answers.get("query-kvm", {}).get("enabled", False)
        host = answers.get("query-kvm-root-retention", {}).get("host", {})
        self.offers = {"root-retention": {"auto", *host.get("policies", [])},
                       "slot-zap": {"auto", *host.get("slot-zap", [])}}

    @property
    def ours(self):
        return "root-retention" in self.properties

    def why_not(self, accel):
        """Why `-accel ACCEL` can't be, or None."""
        for word in accel.split(",")[1:]:
            name, _, value = word.partition("=")
            if name not in self.properties:
                return f"this QEMU has no {name}"
            if value not in self.offers.get(name, (value,)):
                return f"this KVM offers no {name}={value}"
        return None


def find(option, value):
    """The program that an OPTION names, by a path or as the shell would."""
    path = shutil.which(value)
    if not path:
        raise LabError(f"{option} {value}: no such program: install "
                       f"qemu-system-x86, or name another with {option}")
    return os.path.abspath(path)


def answers_in(text):
    """{question: answer} of those that were answered."""
    lines = [json.loads(line) for line in text.splitlines()
             if line.startswith("{")]
    replies = [line for line in lines if "return" in line or "error" in line]
    return {name: reply["return"] for (name, _), reply in
            zip(QUESTIONS, replies) if "return" in reply}


def _last(text):
    lines = str(text).strip().splitlines()
    return lines[-1][:200] if lines else ""


def probe(option, path):
    asked = "".join(json.dumps({"execute": name, "arguments": arguments}) + "\n"
                    for name, arguments in QUESTIONS)
    command = [path, "-machine", "none,accel=kvm:tcg", "-nodefaults",
               "-no-user-config", "-display", "none", "-qmp", "stdio"]
    try:
        done = subprocess.run(command, input=asked, text=True, timeout=60,
                              capture_output=True, check=False)
        found = answers_in(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise LabError(f"{option} {path}: {_last(error)}") from None
    arch = found.get("query-target", {}).get("arch")
    if not arch:
        raise LabError(
            f"{option} {path}: is no QEMU that answers "
            f"({_last(done.stderr) or f'exit status {done.returncode}'}); "
            "accepted is a qemu-system-x86_64")
    if arch != "x86_64":
        raise LabError(f"{option} {path}: emulates {arch}; accepted is a "
                       "qemu-system-x86_64")
    qemu = Qemu(path, found)
    if qemu.number[:2] < OLDEST:
        raise LabError(f"{option} {path}: {qemu.version}; accepted is 7.1 or "
                       "newer, which reads KVM's statistics")
    if not qemu.kvm:
        raise LabError(f"{option} {path}: can't use KVM: "
                       f"{_last(done.stderr) or 'built without it'}")
    return qemu
