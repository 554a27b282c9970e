# SPDX-License-Identifier: GPL-2.0-or-later
"""The host kernel's tracing, where it has other users: an instance of our own.

Probes are set on functions that all VMs call, slow all of them a little, and
count for all of them: where others run, nothing is set.  What is set is called
perennial_PID, as instance and as group of probes, which all instances see.
"""

import glob
import os
import re
import sys

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


def disturbed(machine, own=None):
    """Why others would be counted, or "".

    Who they are is printed here: results are made to be sent.
    """
    others = other_vms(machine, own)
    for pid, name in others:
        print(f"{name!r}, process {pid}, has a VM", flush=True)
    return "another process has a VM: tracing counts all" if others else ""


def _append(path, text):
    # Python's own "a" looks for the end, which the file has none of.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
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
    others = disturbed(machine)
    if others:
        return others
    probes = machine.path(f"{TRACING}/kprobe_events")
    try:
        _append(probes, f"p:{own_name()}/trial {TRIAL}")
        _append(probes, f"-:{own_name()}/trial")
    except OSError as error:
        return f"no probe can be set on {TRIAL}: {error.strerror}"
    return None


def _clear(path):
    """Remove an event's triggers, the last first.

    One with a variable holds the instance, and is held by those that read it,
    which were set later.
    """
    with open(path, encoding="utf-8") as f:
        lines = [line for line in f if not line.startswith("#")]
    for line in reversed(lines):
        _append(path, "!" + line.partition("[")[0].strip())


def _steps(machine, name):
    """(path, function, arguments): how to remove what is called NAME."""
    instance = machine.path(f"{TRACING}/instances/{name}")
    for path in glob.glob(f"{instance}/events/*/*/trigger"):
        yield path, _clear, (path,)
    if os.path.isdir(instance):
        yield instance, os.rmdir, (instance,)
    probes = machine.path(f"{TRACING}/kprobe_events")
    for event in machine.names(f"{TRACING}/events/{name}"):
        path = machine.path(f"{TRACING}/events/{name}/{event}")
        if os.path.isdir(path):
            yield path, _append, (probes, f"-:{name}/{event}")


def remove(machine, name):
    """What a run has set, however it ended; what can't be removed is said."""
    left = []
    for path, function, arguments in _steps(machine, name):
        try:
            function(*arguments)
        except FileNotFoundError:
            continue    # it is gone
        except OSError as error:
            left.append(f"{path} ({error.strerror})")
    if left:
        print(f"tracing: left behind: {', '.join(left)}", file=sys.stderr)


def remove_stale(machine):
    """What killed ones have left behind."""
    for name in {*machine.names(f"{TRACING}/instances"),
                 *machine.names(f"{TRACING}/events")}:
        match = NAME.fullmatch(name)
        if match and not os.path.exists(machine.path(f"proc/{match[1]}")):
            remove(machine, name)
