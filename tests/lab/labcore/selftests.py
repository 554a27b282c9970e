# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts of a list of test programs, and their comparison.  Pure.

A verdict is one of VERDICTS.  `host-warning` is given whatever the program
itself says, `host-crash` and `stall` to the program that ran when the host
went down; those after it are run in another boot.
"""

import dataclasses
import re

from . import verdict as verdicts

VERDICTS = ("pass", "fail", "skip", "time-out", "host-warning", "host-crash",
            "stall")
MARK = re.compile(r"lab-test (begin|end) (\S+)")
REASON = re.compile(r"(?P<late>time-out: )?(?P<seconds>[\d.]+) s: (?P<why>.*)")
HOSTS = ("amd", "intel")
# Tests that set a vCPU's TSC rate mean it.
MEANT = "TSC rate"


@dataclasses.dataclass
class Outcome:
    """What one boot came to."""

    tests: dict = dataclasses.field(default_factory=dict)
    rest: list = dataclasses.field(default_factory=list)
    problem: str = ""       # of the lab itself: nothing here can be trusted
    kernel: str = ""


def read_conf(text, where, host):
    """{name: (seconds, [argument])} and {name: why HOST leaves it out}."""
    special, left_out = {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) > 3 and words[1] == "leave-out" and words[2] in HOSTS:
            if words[2] == host:
                left_out[words[0]] = " ".join(words[3:])
        elif len(words) > 1 and words[1].isdecimal():
            special[words[0]] = (int(words[1]), words[2:])
        else:
            raise ValueError(f"{where}:{number}: '{line}': NAME SECONDS "
                             "[ARGUMENT...] or NAME leave-out "
                             f"{'|'.join(HOSTS)} REASON is accepted")
    return special, left_out


def choose(names, special, left_out, usual, only):
    """{name: (seconds, argv)} of one part, or of both if only is None."""
    tests = {}
    for name in sorted(names):
        part = "long" if name in special else "quick"
        if name in left_out or only not in (None, part):
            continue
        seconds, words = special.get(name, (usual, []))
        tests[name] = (seconds, [f"/lab/bin/{name}", *words])
    return tests


def troubles(console):
    """({test: first trouble}, trouble before any test, test that was on)."""
    found, early, last, running = {}, "", "", ""
    for line in console.splitlines():
        if line.startswith(("guest|", "test|")):
            continue
        mark = MARK.search(line)
        if mark:
            last = mark[2]
            running = last if mark[1] == "begin" else ""
            continue
        trouble = verdicts.TROUBLE.search(line)
        if not trouble or MEANT in trouble[0]:
            continue
        if last:
            found.setdefault(last, trouble[0])
        else:
            early = early or trouble[0]
    return found, early, running


def verdict_of(test, trouble):
    """One `test` line of the channel as {verdict, reason, seconds}."""
    match = REASON.fullmatch(test["reason"])
    if not match:
        return {"verdict": "fail", "reason": test["reason"], "seconds": 0.0}
    entry = {"verdict": "time-out" if match["late"] else test["result"],
             "reason": match["why"], "seconds": float(match["seconds"])}
    if trouble:
        entry["reason"] = f"{trouble} (the test itself: {entry['verdict']})"
        entry["verdict"] = "host-warning"
    return entry


def judge(verdict, console, stopped, planned):
    """STOPPED is exited, stall or time-out; PLANNED the names in order."""
    parsed = verdicts.Result()
    verdicts.parse(parsed, verdict)
    outcome = Outcome(kernel=parsed.begin.get("kernel", ""))
    found, early, running = troubles(console)
    for test in parsed.tests:
        if test["name"] not in planned:
            # What init tests in a debug kernel.
            if test["result"] == "pass":
                continue
            outcome.problem = f"{test['name']}: {test['reason']}"
            return outcome
        outcome.tests[test["name"]] = verdict_of(test,
                                                 found.get(test["name"]))
    outcome.rest = [name for name in planned if name not in outcome.tests]
    panic = verdicts.PANIC.search("\n".join(
        line for line in console.splitlines()
        if not line.startswith(("guest|", "test|"))))
    if early:
        outcome.problem = f"before any test: {early}"
    elif not parsed.begin:
        outcome.problem = "the host never reached init" + (
            f": {panic[0]}" if panic else "")
    elif parsed.ended and outcome.rest:
        outcome.problem = f"no verdict of {', '.join(outcome.rest)}"
    elif parsed.status != "pass" and parsed.ended:
        outcome.problem = parsed.reason
    elif not parsed.ended:
        _blame(outcome, running, panic, stopped, found)
    return outcome


def _blame(outcome, running, panic, stopped, found):
    """The boot ended too early: whose fault was it?"""
    if not outcome.rest:
        return
    guilty = running if running in outcome.rest else outcome.rest[0]
    if stopped == "time-out" and outcome.tests:
        return      # the boot's time was up, the test's was not: again
    kind = "host-crash" if panic or stopped == "exited" else stopped
    reason = panic[0] if panic else found.get(guilty) or {
        "exited": "the host went down", "stall": "virtual time stood still",
        "time-out": "not done in the real time of one boot"}[stopped]
    outcome.tests[guilty] = {"verdict": kind, "reason": reason, "seconds": 0.0}
    outcome.rest.remove(guilty)


def count(tests):
    found = [test["verdict"] for test in tests.values()]
    return ", ".join(f"{found.count(v)} {v}" for v in VERDICTS
                     if found.count(v) or v in ("pass", "fail", "skip"))
