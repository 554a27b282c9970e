# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios are data: tests/lab/scenarios/NAME.ini.

    [scenario]
    description = one line
    kind = nested | program | programs  a nested guest, a program as it is, or
                                        a list of them (tests/lab/selftests)
    host-memory = MiB
    huge-pages = on | off               of the host
    size = MiB                          of the workload, {size} below; {memory}
                                        grows with it
    rounds = COUNT                      of the workload, {rounds} below
    vcpus = COUNT                       of the nested guest, {vcpus} below
    quiet-phase = on | off              no probe is set in the first phase, for
                                        what probes would slow down; no report
    runs = NAME...                      what `run boot` makes if not told
    hosts = amd intel native            native: this machine itself
    archive = FILE                      of build/lab, laid over the initramfs
    [args]
    command = PROGRAM ARGUMENT...       split as a shell would
    environment = NAME=VALUE...
    [nvram]                             the firmware's store of variables becomes
                                        lab/firmware/OVMF_VARS_4M.nvram.fd with
    deleted = COUNT                     so many deleted variables behind its keys,
    deleted-size = BYTES                of so much data each, and
    kept = COUNT                        valid ones between them; 0 if not given
    [run.NAME]
    accel = kvm,...                     {accel} above
    compare-stats = on | off            hold the feature's own statistics
                                        against what tracing counted
    count-sptes = on | off              count the distinct SPTEs that are
                                        installed (at most 131072)
    count-exits = on | off              count exits to userspace, emulated
                                        instructions and trapped flash accesses
    append = WORD...                    for the host kernel's command line
    environment = NAME=VALUE...         besides that of [args]
    expected-skips = PATTERN...         tests that may skip, as a shell's
    expect = FILE=TEXT...               what must stand there, for `programs`
    [phases]
    NAME = seconds of host virtual time, of each of the `programs`
"""

import configparser
import dataclasses
import os
import shlex

from . import nvram
from .errors import LabError

# What a user may set, where the command has it.
LIMITS = {"size": (0, 1024), "rounds": (1, 1000000), "vcpus": (1, 32)}
GUEST_MEMORY = 512      # MiB, {memory}; what is left of it holds 300

KEYS = {
    "scenario": {"description", "kind", "host-memory", "huge-pages", "size",
                 "rounds", "runs", "hosts", "archive", "quiet-phase",
                 "vcpus"},
    "nvram": nvram.KEYS,
    "args": {"command", "environment"},
    "run": {"accel", "compare-stats", "count-sptes", "count-exits", "append",
            "environment", "expected-skips", "expect"},
}


@dataclasses.dataclass
class Scenario:
    name: str
    description: str
    kind: str
    host_memory: int
    huge_pages: bool
    size: int
    rounds: int
    runs: list
    hosts: list
    command: str
    environment: list
    run_options: dict
    phases: dict
    archive: str = ""
    quiet_phase: bool = False
    vcpus: int = 1
    nvram: tuple = ()       # deleted, deleted-size, kept; empty: as it is
    tests: list = dataclasses.field(default_factory=list)


def names(folder):
    return sorted(name[:-4] for name in os.listdir(folder)
                  if name.endswith(".ini"))


def load(folder, name):
    """The scenario NAME; LabError names file, key, value, what is accepted."""
    if name not in names(folder):
        raise LabError(f"--scenario {name}: accepted are "
                       f"{', '.join(names(folder))}")
    path = os.path.join(folder, name + ".ini")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as f:
            parser.read_file(f)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise LabError(f"{path}: {error}".replace("\n", " ")) from None
    _check_keys(path, parser)
    return _build(path, name, parser)


def _check_keys(path, parser):
    for section in parser.sections():
        kind = "run" if section.startswith("run.") else section
        if kind == "phases":
            continue
        if kind not in KEYS:
            raise LabError(f"{path}: [{section}]: accepted are [scenario], "
                           "[args], [nvram], [run.NAME], [phases]")
        for key in parser[section]:
            if key not in KEYS[kind]:
                raise LabError(f"{path}: [{section}] {key}: accepted are "
                               f"{', '.join(sorted(KEYS[kind]))}")


def _build(path, name, parser):
    def text(section, key, default=None):
        value = parser.get(section, key, fallback=default)
        if value is None:
            raise LabError(f"{path}: [{section}] {key} is missing")
        return value

    def number(section, key, default=None):
        value = text(section, key, default)
        if not value.isdecimal():
            raise LabError(f"{path}: [{section}] {key} = {value}: accepted is "
                           "a whole number")
        return int(value)

    def choice(section, key, accepted, default=None):
        value = text(section, key, default)
        if value not in accepted:
            raise LabError(f"{path}: [{section}] {key} = {value}: accepted "
                           f"are {', '.join(accepted)}")
        return value

    runs = {}
    for section in parser.sections():
        if section.startswith("run."):
            choice(section, "compare-stats", ("on", "off"), "off")
            choice(section, "count-sptes", ("on", "off"), "off")
            choice(section, "count-exits", ("on", "off"), "off")
            runs[section[4:]] = dict(parser[section])
    chosen = text("scenario", "runs").split()
    for run in chosen:
        if run not in runs:
            raise LabError(f"{path}: [scenario] runs = {run}: accepted are "
                           f"{', '.join(runs) or 'none, no [run.NAME]'}")
    phases = {key: number("phases", key) for key in parser["phases"]} \
        if parser.has_section("phases") else {}
    if not phases:
        raise LabError(f"{path}: [phases] is missing or empty")
    kind = choice("scenario", "kind", ("nested", "program", "programs"))
    command = text("args", "command", "" if kind == "programs" else None)
    try:
        shlex.split(command, comments=True)
    except ValueError as error:
        raise LabError(f"{path}: [args] command: {error}") from None
    return Scenario(
        name=name,
        description=text("scenario", "description"),
        kind=kind,
        host_memory=number("scenario", "host-memory", "2048"),
        huge_pages=choice("scenario", "huge-pages", ("on", "off"),
                          "off") == "on",
        size=number("scenario", "size", "0"),
        rounds=number("scenario", "rounds", "0"),
        runs=chosen,
        hosts=text("scenario", "hosts", "amd intel").split(),
        command=command,
        environment=text("args", "environment", "").split(),
        run_options=runs,
        phases=phases,
        archive=text("scenario", "archive", ""),
        quiet_phase=choice("scenario", "quiet-phase", ("on", "off"),
                           "off") == "on",
        vcpus=number("scenario", "vcpus", "1"),
        nvram=(number("nvram", "deleted"), number("nvram", "deleted-size"),
               number("nvram", "kept", "0"))
        if parser.has_section("nvram") else ())


def plan(scenario, run, scale=1, debug=False):
    """The plan for tests/lab/init, see plan.c: `key value` lines.

    SCALE stretches the phases' time-outs for a host whose virtual time is
    real time, where a busy machine makes each second hold less.  DEBUG asks
    the debug kernel at the end of the run.
    """
    if run not in scenario.run_options:
        raise LabError(f"--runs {run}: scenario {scenario.name} has "
                       f"{', '.join(scenario.run_options)}")
    options = scenario.run_options[run]
    lines = [f"scenario {scenario.name}", f"run {run}",
             f"kind {scenario.kind}",
             f"huge-pages {'on' if scenario.huge_pages else 'off'}",
             f"compare-stats {options.get('compare-stats', 'off')}",
             f"count-sptes {options.get('count-sptes', 'off')}",
             f"count-exits {options.get('count-exits', 'off')}",
             f"quiet-phase {'on' if scenario.quiet_phase else 'off'}",
             f"debug {'on' if debug else 'off'}"]
    lines += [f"phase {name} {seconds * scale}"
              for name, seconds in phases(scenario).items()]
    words = {"{accel}": options.get("accel", "kvm"),
             "{size}": str(scenario.size), "{rounds}": str(scenario.rounds),
             "{vcpus}": str(scenario.vcpus),
             "{memory}": str(GUEST_MEMORY + more_memory(scenario))}
    for argument in shlex.split(scenario.command, comments=True):
        for word, value in words.items():
            argument = argument.replace(word, value)
        lines.append(f"arg {argument}")
    lines += [f"test {seconds * scale} {' '.join(argv)}"
              for seconds, argv in scenario.tests]
    lines += ["expect " + word.replace("=", " ", 1)
              for word in words_of(scenario, run, "expect")]
    lines += [f"env {word}" for word in
              scenario.environment + words_of(scenario, run, "environment")]
    return "\n".join(lines) + "\n"


def change(scenario, options):
    """As --size, --rounds and --vcpus say; LabError if it has no such thing."""
    for name in ("size", "rounds", "vcpus"):
        value = getattr(options, name)
        if value is None:
            continue
        least, most = LIMITS[name]
        if not least <= value <= most:
            raise LabError(f"--{name} {value}: accepted is {least} to {most}")
        if "{%s}" % name not in scenario.command:
            raise LabError(f"--{name} {value}: scenario {scenario.name} has no "
                           "such number to change; leave it out")
        setattr(scenario, name, value)


def words_of(scenario, run, key):
    """A key of [run.RUN] that holds a list."""
    return scenario.run_options[run].get(key, "").split()


def more_memory(scenario):
    """MiB that guest and host get on top for a workload larger than 300."""
    return max(0, -(-(scenario.size - 300) // 256) * 256)


def phases(scenario):
    """The phases that this plan reaches: a workload of size 0 is left out."""
    if scenario.size or scenario.kind != "nested" or scenario.quiet_phase:
        return scenario.phases
    return {k: v for k, v in scenario.phases.items() if k == "boot"}
