# SPDX-License-Identifier: GPL-2.0-or-later
"""One host boot: make its folder, start the emulator, wait, judge."""

import os
import shlex
import shutil
import subprocess
import time

from . import kernels
from . import nvram
from . import scenario as scenarios
from . import verdict
from .cpio import Archive, member
from .errors import LabError

GRACE = 30      # seconds between the verdict's `end` and the emulator's exit
# A debug kernel executes several times the instructions, and KASAN's shadow,
# its quarantine and kmemleak's objects take memory of the host.
DEBUG_TIME = 6
DEBUG_MEMORY = 768      # MiB


class Boot:
    """What hosts/*.py are given, and what became of it."""

    def __init__(self, options, scenario, run, host):
        self.scenario, self.run, self.host = scenario, run, host
        self.label = kernels.label(options.kernel) + run
        self.dir = os.path.abspath(os.path.join(
            options.work, f"{scenario.name}-{host.vendor}-{self.label}"))
        self.console = os.path.join(self.dir, "console.log")
        self.verdict = os.path.join(self.dir, "verdict.log")
        self.debug, self.slowness = False, 1
        self.choose(options)
        self.limit = options.time_limit * self.slowness
        self.child = None
        self.started = self.seconds = self.cpu_seconds = 0.0

    def choose(self, options):
        """The host's kernel, initramfs and command line."""
        scenario, run = self.scenario, self.run
        self.kernel = os.path.abspath(options.bzimage)
        self.base = os.path.abspath(options.initramfs)
        self.modules = getattr(options, "modules", [])
        self.debug = kernels.debug(options.kernel)
        self.slowness = DEBUG_TIME if self.debug else 1
        self.memory = scenario.host_memory + scenarios.more_memory(scenario) \
            + (DEBUG_MEMORY if self.debug else 0)
        self.initramfs = os.path.join(self.dir, "initramfs")
        self.cmdline = " ".join([
            *self.host.cmdline(), "panic=-1",
            *(["panic_on_warn=1"] if self.debug else []), f"lab.scenario={scenario.name}",
            f"lab.run={run}", *scenarios.words_of(scenario, run, "append"),
            *options.append])

    def prepare(self):
        """Empty the folder, put in it what the host takes."""
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.place(scenarios.plan(self.scenario, self.run,
                                  getattr(self.host, "time_out_scale", 1) *
                                  self.slowness, self.debug))
        for path in (self.console, self.verdict):
            open(path, "wb").close()
        self.host.prepare(self)
        with open(os.path.join(self.dir, "replay.sh"), "w",
                  encoding="utf-8") as f:
            f.write(f"#!/bin/sh\n{self.replay()}\n")

    def place(self, plan):
        """Lay the PLAN over the initramfs."""
        archive = Archive()
        archive.file("lab/plan", plan.encode())
        if self.scenario.nvram:
            archive.file("lab/firmware/OVMF_VARS_4M.nvram.fd", self.variables())
        for path in self.modules:
            with open(path, "rb") as f:
                archive.file(f"lab/modules/{os.path.basename(path)}", f.read())
        shutil.copyfile(self.base, self.initramfs)
        with open(self.initramfs, "ab") as f:
            f.write(archive.bytes())
            if self.scenario.archive:
                f.write(self.more())

    def variables(self):
        """The store of variables as the scenario wants it."""
        with open(self.base, "rb") as f:
            store = member(f.read(), "lab/firmware/OVMF_VARS_4M.secboot.fd")
        if store is None:
            raise LabError(f"{self.base}: there is no firmware in it")
        return nvram.fragment(store, *self.scenario.nvram)[0]

    def more(self):
        """What the scenario has besides, beside the initramfs."""
        path = os.path.join(os.path.dirname(self.base), self.scenario.archive)
        try:
            with open(path, "rb") as f:
                return f.read()
        except FileNotFoundError:
            raise LabError(f"{path} does not exist; build it first (make "
                           f"lab-{self.scenario.name})") from None

    def replay(self):
        """The command that does this boot again by hand."""
        words = [f"{key}={shlex.quote(value)}"
                 for key, value in self.environment().items()]
        return " ".join(words + [shlex.join(self.host.command(self))])

    def environment(self):
        return getattr(self.host, "environment", dict)()

    def start(self):
        log = open(os.path.join(self.dir, "emulator.log"), "wb")
        self.started = time.monotonic()
        try:
            self.child = subprocess.Popen(
                self.host.command(self), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment()}, cwd=self.dir)
        except OSError as error:
            raise LabError(f"the emulator does not start: {error}") from None
        finally:
            log.close()

    def wait(self):
        """exited, stall or time-out.  Ends the child by its own handle."""
        watch = Watch(self)
        while self.child.poll() is None:
            self.cpu_seconds = self.used() or self.cpu_seconds
            self.look()
            ended = watch.look()
            if ended:
                self.child.kill()
                self.child.wait()
                break
            time.sleep(0.25)
        else:
            ended = "exited"
        self.seconds = time.monotonic() - self.started
        return ended

    def used(self):
        """CPU seconds of the child and all its own."""
        return cpu_seconds(self.child.pid)

    def look(self):
        """Called while the child runs."""

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    def judge(self, ended):
        result = verdict.judge(
            read(self.verdict), read(self.console), ended,
            scenarios.phases(self.scenario)
            if self.scenario.kind == "nested" else (),
            scenarios.words_of(self.scenario, self.run, "expected-skips"),
            self.host.tsc_check, self.debug)
        if result.status == "boot-failure" and self.child.returncode:
            said = read(os.path.join(self.dir, "emulator.log")).strip()
            result.reason += (f"; the emulator ended with status "
                              f"{self.child.returncode}: {said[-300:]}")
        return result


class Watch:
    """Virtual time ticks on the verdict channel; silence is a stall.

    Silence is measured in the emulator's CPU time, so that a busy machine
    makes no stall; an emulator that hangs takes none, hence DEADLOCK.
    """

    DEADLOCK = 600

    def __init__(self, boot):
        self.boot = boot
        self.sizes = None
        self.changed, self.changed_cpu = time.monotonic(), 0.0
        # Init ticks once in a virtual second: two are missing for sure.
        self.patience = (2 * boot.host.time_scale + 30) * boot.slowness

    def look(self):
        """None to go on, or why the emulator has to be ended."""
        now = time.monotonic()
        sizes = [os.path.getsize(path)
                 for path in (self.boot.verdict, self.boot.console)]
        if sizes != self.sizes:
            self.sizes = sizes
            self.changed, self.changed_cpu = now, self.boot.cpu_seconds
        quiet = now - self.changed
        if quiet > GRACE and has_end(self.boot.verdict):
            return "time-out"
        if (self.boot.cpu_seconds - self.changed_cpu > self.patience or
                quiet > self.DEADLOCK):
            return "stall"
        if now - self.boot.started > self.boot.limit:
            return "time-out"
        return None


def cpu_seconds(pid):
    """User and system time of a process and its descendants so far, those that
    it has waited for included: real time says little on a machine that does
    other things too."""
    ticks, children = {}, {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        # Behind the name, which may hold anything: state, parent, ...
        fields = read(f"/proc/{name}/stat").rpartition(")")[2].split()
        if len(fields) >= 15:
            ticks[int(name)] = sum(map(int, fields[11:15]))
            children.setdefault(int(fields[1]), []).append(int(name))
    total, tree = 0, [pid]
    while tree:
        pid = tree.pop()
        total += ticks.get(pid, 0)
        tree += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


def has_end(path):
    return any(" end passed=" in line for line in read(path).splitlines()[-1:])


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
