# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's kernel: a name that the build knows, or a bzImage."""

import os

from .errors import LabError

LINES = ("6.12", "7.2", "7.3")
DEBUG = "-debug"
DEBIAN = "deb13"        # Debian 13's own, with the modules of perennial-kvm-dkms
NAMES = (*LINES, *(line + DEBUG for line in LINES), DEBIAN)


def bzimage(build, value):
    """The file that --kernel VALUE means."""
    if value not in NAMES:
        if not os.path.isfile(value):
            raise LabError(f"--kernel {value}: no such file; accepted are "
                           f"{', '.join(NAMES)} or a bzImage")
        return value
    path, how = (os.path.join(build, "deb/lab/vmlinuz"), "deb") \
        if value == DEBIAN else \
        (os.path.join(build, f"linux-{value}/arch/x86/boot/bzImage"),
         f"lab-{value}")
    if not os.path.isfile(path):
        raise LabError(f"--kernel {value}: {path} does not exist; "
                       f"make {how} builds it")
    return path


def modules(build, value):
    """Files of the modules that init loads, in their order."""
    folder = os.path.join(build, "deb/lab/modules")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))] \
        if value == DEBIAN else []


def initramfs(build, value):
    """The one with the selftests of that kernel's line, and with the QEMU that
    make exports."""
    line = value.removesuffix(DEBUG)
    line = line if line in LINES else LINES[0]
    suffix = "" if line == LINES[0] else f"-{line}"
    qemu = os.environ.get("QEMU_TREE", "qemu").removeprefix("qemu")
    return os.path.join(build, f"lab/initramfs{suffix}{qemu}.cpio")


def debug(value):
    """Is it one with lockdep, KASAN, KFENCE and kmemleak (debug.config)?"""
    return value in NAMES and value.endswith(DEBUG)


def label(value):
    """For the name of a run's folder; 6.12 goes without."""
    return f"{value}-" if value in NAMES[1:] else ""
