# SPDX-License-Identifier: GPL-2.0-or-later
"""The host kernel's tracing, where it has other users: an instance of our own.

Probes are set on functions that all VMs call, slow all of them a little, and
count for all of them: where others run, nothing is set.  What is set is called
perennial_PID, as instance and as group of probes, which all instances see.
"""

import os
import re

TRACING = "sys/kernel/tracing"
NAME = re.compile(r"perennial_(\d+)")
# A function that every KVM has, to find out whether probes can be set at all.
TRIAL = "kvm_mmu_load"


def own_name():
    return f"perennial_{os.getpid()}"


def _has_vm(machine, pid):
    folder = f"proc/{pid}/fd"
    for fd in machine.names(folder):
        try:
            if os.readlink(machine.path(f"{folder}/{fd}")) == "anon_inode:kvm-vm":
                return True
        except OSError:
            continue
    return False


def _parent(machine, pid):
    fields = (machine.read(f"proc/{pid}/stat") or "").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _below(machine, pid, ancestor):
    while pid and pid != ancestor:
        pid = _parent(machine, pid)
    return pid == ancestor


def other_vms(machine, own=None):
    """[(pid, name)] of processes that have a VM, of those we may look into.

    OWN and its descendants are left out.
    """
    return [(int(pid), machine.read(f"proc/{pid}/comm") or "?")
            for pid in filter(str.isdecimal, machine.names("proc"))
            if _has_vm(machine, pid)
            and not (own and _below(machine, int(pid), own))]


def named(others):
    pid, name = others[0]
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return f"another process has a VM ({name}, {pid}{more}): tracing counts all"


def _append(machine, text):
    # Python's own "a" looks for the end, which the file has none of.
    fd = os.open(machine.path(f"{TRACING}/kprobe_events"), os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def why_not(machine, uid=None):
    """Why nothing can be counted by tracing, or None."""
    if (os.geteuid() if uid is None else uid) != 0:
        return "only root may trace"
    for name in ("kprobe_events", "instances"):
        if name not in machine.names(TRACING):
            return f"no {name} in /{TRACING} (is tracefs mounted there?)"
    others = other_vms(machine)
    if others:
        return named(others)
    try:
        _append(machine, f"p:{own_name()}/trial {TRIAL}")
        _append(machine, f"-:{own_name()}/trial")
    except OSError as error:
        return f"no probe can be set on {TRIAL}: {error.strerror}"
    return None


def remove(machine, name):
    """What a run has set, however it ended."""
    try:
        os.rmdir(machine.path(f"{TRACING}/instances/{name}"))
    except OSError:
        pass
    for event in machine.names(f"{TRACING}/events/{name}"):
        if os.path.isdir(machine.path(f"{TRACING}/events/{name}/{event}")):
            try:
                _append(machine, f"-:{name}/{event}")
            except OSError:
                pass


def remove_stale(machine):
    """What killed ones have left behind."""
    for name in {*machine.names(f"{TRACING}/instances"),
                 *machine.names(f"{TRACING}/events")}:
        match = NAME.fullmatch(name)
        if match and not os.path.exists(machine.path(f"proc/{match[1]}")):
            remove(machine, name)
