# SPDX-License-Identifier: GPL-2.0-or-later
"""Repetitions of runs on real hardware, as one result.  Pure.

A run is booted once with tracing, which counts and is in the way of time, and
then as often as wanted without.  The result has the form of the lab's boot.json:
`guest_ns` of a phase is the median, `times` has that of each repetition.
"""

import statistics

NOT_COUNTERS = {"guest_ns", "roles", "stats"}


def _middle(values):
    """A median that is one of the values."""
    return statistics.median_low(values)


def _stats(phases):
    """Those that all repetitions have."""
    names = set(phases[0]["stats"]).intersection(*(p["stats"] for p in phases))
    return {name: _middle([p["stats"][name] for p in phases])
            for name in phases[0]["stats"] if name in names}


def phase(name, counted, timed):
    """Of one phase: COUNTED, a result or None, and the list of TIMED ones."""
    timed = [result.phases[name] for result in timed]
    merged = {}
    if counted:
        traced = counted.phases[name]
        merged.update((key, value) for key, value in traced.items()
                      if key not in NOT_COUNTERS)
        merged["roles"] = traced["roles"]
        timed = timed or [traced]
    times = [one["guest_ns"] for one in timed]
    return merged | {"stats": _stats(timed), "guest_ns": _middle(times),
                     "times": times}


def run(name, counted, timed):
    """COUNTED may be None, TIMED empty, not both; all of them have passed."""
    first = counted or timed[0]
    results = [result for result in (counted, *timed) if result]
    return {"name": name,
            "phases": {key: phase(key, counted, timed) for key in first.phases},
            "digests": first.digests, "status": "pass", "reason": "",
            "repetitions": len(timed),
            "tests": [test for result in results for test in result.tests]}


def equalize(runs):
    """Leave out counters that not all runs have: they go side by side."""
    for key in runs[0]["phases"]:
        phases = [one["phases"][key] for one in runs]
        common = set(phases[0]).intersection(*phases)
        for one in phases:
            for name in one.keys() - common:
                del one[name]
    return runs


def result(scenario, begin, facts, qemu, runs, uncounted):
    """The whole: RUNS as run() makes them, UNCOUNTED says why, or is None."""
    cpu = facts.get("cpu", "unknown processor")
    host = {"vendor": begin.get("vendor", ""),
            "kernel": begin.get("kernel", ""),
            "emulator": f"no emulator: {cpu}, {qemu.version}",
            "deterministic": False, "native": True}
    if uncounted:
        host["uncounted"] = uncounted
    return {"scenario": scenario.name, "description": scenario.description,
            "size": scenario.size, "rounds": scenario.rounds,
            "vcpus": scenario.vcpus, "huge_pages": scenario.huge_pages,
            "host": host,
            "machine": facts | {"qemu": qemu.version, "qemu_ours": qemu.ours},
            "runs": equalize(runs)}


def differences(runs):
    """[digest] that two runs, of one machine, do not share."""
    keys = sorted(set().union(*(one["digests"] for one in runs)))
    return [key for key in keys
            if len({one["digests"].get(key) for one in runs}) > 1]
