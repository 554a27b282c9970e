# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's kernel: a name that the build knows, or a bzImage."""

import os

from .errors import LabError

LINES = ("6.12", "7.2")
DEBUG = "-debug"
NAMES = (*LINES, *(line + DEBUG for line in LINES))


def bzimage(build, value):
    """The file that --kernel VALUE means."""
    if value not in NAMES:
        if not os.path.isfile(value):
            raise LabError(f"--kernel {value}: no such file; accepted are "
                           f"{', '.join(NAMES)} or a bzImage")
        return value
    path = os.path.join(build, f"linux-{value}/arch/x86/boot/bzImage")
    if not os.path.isfile(path):
        raise LabError(f"--kernel {value}: {path} does not exist; "
                       f"make lab-{value} builds it")
    return path


def initramfs(build, value):
    """The one with the selftests of that kernel's line."""
    line = value.removesuffix(DEBUG) if value in NAMES else LINES[0]
    suffix = "" if line == LINES[0] else f"-{line}"
    return os.path.join(build, f"lab/initramfs{suffix}.cpio")


def debug(value):
    """Is it one with lockdep, KASAN, KFENCE and kmemleak (debug.config)?"""
    return value in NAMES and value.endswith(DEBUG)


def label(value):
    """For the name of a run's folder; 6.12 goes without."""
    return f"{value}-" if value in NAMES[1:] else ""
