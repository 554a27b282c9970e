# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios are data: tests/lab/scenarios/NAME.ini.

    [scenario]
    description = one line
    kind = nested | program
    host-memory = MiB
    huge-pages = on | off               of the host
    size = MiB                          of the workload, {size} below
    runs = default keep                 which runs `run boot` makes
    expected-skips = NAME...            tests that may skip
    [args]                              one list, split as a shell would
    nested = ...                        the nested QEMU's arguments
    [run.NAME]                          {accel} below
    accel = kvm,...
    capability = on | off               compare with the feature's statistics
    [phases]
    NAME = seconds of host virtual time
"""

import configparser
import dataclasses
import os
import shlex

from .errors import LabError

KEYS = {
    "scenario": {"description", "kind", "host-memory", "huge-pages", "size",
                 "rounds", "runs", "expected-skips", "hosts"},
    "args": {"command"},
    "run": {"accel", "compare-stats"},
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
    expected_skips: list
    command: str
    run_options: dict
    phases: dict


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
                           "[args], [run.NAME], [phases]")
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

    runs = {section[4:]: dict(parser[section])
            for section in parser.sections() if section.startswith("run.")}
    chosen = text("scenario", "runs").split()
    for run in chosen:
        if run not in runs:
            raise LabError(f"{path}: [scenario] runs = {run}: accepted are "
                           f"{', '.join(runs) or 'none, no [run.NAME]'}")
    phases = {key: number("phases", key) for key in parser["phases"]} \
        if parser.has_section("phases") else {}
    if not phases:
        raise LabError(f"{path}: [phases] is missing or empty")
    return Scenario(
        name=name,
        description=text("scenario", "description"),
        kind=choice("scenario", "kind", ("nested", "program")),
        host_memory=number("scenario", "host-memory", "2048"),
        huge_pages=choice("scenario", "huge-pages", ("on", "off"),
                          "off") == "on",
        size=number("scenario", "size", "0"),
        rounds=number("scenario", "rounds", "0"),
        runs=chosen,
        hosts=text("scenario", "hosts", "amd intel").split(),
        expected_skips=text("scenario", "expected-skips", "").split(),
        command=text("args", "command"),
        run_options=runs,
        phases=phases)


def plan(scenario, run):
    """The plan for tests/lab/init, see plan.c: `key value` lines."""
    if run not in scenario.run_options:
        raise LabError(f"--runs {run}: scenario {scenario.name} has "
                       f"{', '.join(scenario.run_options)}")
    options = scenario.run_options[run]
    lines = [f"scenario {scenario.name}", f"run {run}",
             f"kind {scenario.kind}",
             f"huge-pages {'on' if scenario.huge_pages else 'off'}",
             f"compare-stats {options.get('compare-stats', 'off')}"]
    lines += [f"phase {name} {seconds}"
              for name, seconds in phases(scenario).items()]
    words = {"{accel}": options.get("accel", "kvm"),
             "{size}": str(scenario.size), "{rounds}": str(scenario.rounds)}
    for argument in shlex.split(scenario.command, comments=True):
        for word, value in words.items():
            argument = argument.replace(word, value)
        lines.append(f"arg {argument}")
    return "\n".join(lines) + "\n"


def phases(scenario):
    """The phases that this plan reaches: a workload of size 0 is left out."""
    if scenario.size or scenario.kind == "program":
        return scenario.phases
    return {k: v for k, v in scenario.phases.items() if k == "boot"}
