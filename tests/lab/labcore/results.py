# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of one scenario, merged into the report's boot.json."""

import json
import os


def merge(scenario, host, boots, results):
    first = results[0]
    runs = []
    for boot, result in zip(boots, results):
        runs.append({"name": boot.run, "phases": result.phases,
                     "digests": result.digests,
                     "batches": result.batches,
                     "status": result.status, "reason": result.reason,
                     "tests": result.tests,
                     "seconds": round(boot.seconds, 1),
                     "cpu_seconds": round(boot.cpu_seconds, 1)})
    return {"scenario": scenario.name,
            "description": scenario.description,
            "size": scenario.size,
            "huge_pages": scenario.huge_pages,
            "host": {"vendor": first.begin.get("vendor", ""),
                     "kernel": first.begin.get("kernel", ""),
                     "emulator": host.emulator,
                     "deterministic": host.deterministic},
            "runs": runs}


def differences(results):
    """What two guests saw differently: (digest, [value of each run])."""
    keys = sorted(set().union(*(result.digests for result in results)))
    found = []
    for key in keys:
        values = [result.digests.get(key, "absent") for result in results]
        if len(set(values)) > 1:
            found.append((key, values))
    return found


def save(path, data):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1)
        f.write("\n")
    os.replace(path + ".part", path)
