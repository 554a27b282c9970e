# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs: the lab's own, and those of this machine in an archive."""

import glob
import os
import re
import subprocess

from .errors import LabError


def read(path):
    with open(path, "rb") as f:
        return f.read()


# What ../runner, on a machine that is no emulated host, has of init.
SHARED = ("nested", "plan", "qmp", "report", "trace", "util", "verdict")


def sources(lab, folder):
    """Of the static C program of FOLDER: init, guest or runner."""
    found = sorted(glob.glob(os.path.join(lab, folder, "*.c")))
    if folder == "runner":
        found += [os.path.join(lab, "init", name + ".c") for name in SHARED]
    return found


def compile_static(files, cc, output):
    command = [*cc.split(), "-static", "-O2", "-s", "-Wall", "-Wextra",
               "-Wno-missing-field-initializers", "-Werror",
               "-D_GNU_SOURCE", "-o", output, *files]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise LabError(f"{os.path.basename(output)} does not compile:\n"
                       f"{' '.join(command)}\n{done.stderr}")


def stripped(path, scratch):
    """A binary without its debugging information (megabytes to unpack)."""
    output = os.path.join(scratch, "stripped")
    done = subprocess.run(["strip", "-o", output, path], text=True,
                          capture_output=True)
    if done.returncode:
        raise LabError(f"strip {path}: {done.stderr.strip()}")
    with open(output, "rb") as f:
        return f.read()


def libraries(path):
    """What the program at PATH loads, as absolute paths."""
    # ldd asks this machine's loader; a program of another system has its own.
    own = re.search(r"program interpreter: (\S+)\]", subprocess.run(
        ["readelf", "-lW", path], text=True, capture_output=True).stdout)
    done = subprocess.run([own[1], "--list", path] if own else ["ldd", path],
                          text=True, capture_output=True)
    if done.returncode:
        if "not a dynamic executable" in done.stdout + done.stderr:
            return []
        raise LabError(f"ldd {path}: {done.stderr.strip()}")
    missing = re.findall(r"(\S+) => not found", done.stdout)
    if missing:
        raise LabError(f"{path} needs {', '.join(missing)}: not found")
    return re.findall(r"(/\S+) \(0x", done.stdout)


def add_program(archive, scratch, path, target):
    """A program or shared object, with all that it loads."""
    archive.file(target, stripped(path, scratch), 0o755)
    for library in libraries(path):
        if library.strip("/") in archive.names():
            continue
        archive.file(library, stripped(library, scratch), 0o755)
        if os.path.basename(library) == "libc.so.6":
            # pthread_cancel() loads it by itself.
            unwinder = os.path.join(os.path.dirname(library), "libgcc_s.so.1")
            archive.file(unwinder, stripped(unwinder, scratch), 0o755)
