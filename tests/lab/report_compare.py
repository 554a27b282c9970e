# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of several machines or versions side by side, as one report.  Pure."""

import dataclasses

import report_model as model

MAX_RUNS = 8            # as many colours and shapes as the page has


def _check(label, report, first_label, first):
    """Would a comparison with the first say anything?"""
    for what, mine, wanted in (
            ("scenario", report.scenario, first.scenario),
            ("phases", ", ".join(report.phase_names), ", ".join(first.phase_names)),
            # The lab's boot.json does not say all of them.
            *((key, report.options[key], first.options[key]) for key in model.OPTIONS
              if key in report.options and key in first.options)):
        if mine != wanted:
            raise model.ReportError(f"{label}: {what} {mine}, but {first_label} has {wanted}; "
                                    "compare results of the same options")


def _machine(label, report):
    if report.native:
        return [f"{label}: {line}" for line in report.machines]
    return [f"{label}: {report.vendor}, Linux {report.kernel}, {report.emulator}, virtual time"]


def side_by_side(labelled):
    """One report of [(label, report)], its runs LABEL:RUN, with what all have counted."""
    first_label, first = labelled[0]
    labels = [label for label, _ in labelled]
    runs = []
    for label, report in labelled:
        if labels.count(label) > 1:
            raise model.ReportError(f"{label}: two files have this name; rename one of them")
        _check(label, report, first_label, first)
        runs += [dataclasses.replace(run, name=f"{label}:{run.name}") for run in report.runs]
    if len(runs) > MAX_RUNS:
        raise model.ReportError(f"{len(runs)} runs; at most {MAX_RUNS} stand side by side")
    for phase in first.phase_names:
        common = set.intersection(*(set(run.phases[phase].counters) for run in runs))
        for i, run in enumerate(runs):
            counters = {key: value for key, value in run.phases[phase].counters.items()
                        if key in common}
            runs[i] = dataclasses.replace(run, phases=run.phases | {
                phase: dataclasses.replace(run.phases[phase], counters=counters)})
    whys = [f"{label}: {report.uncounted}" for label, report in labelled if report.uncounted]
    return dataclasses.replace(
        first, runs=tuple(runs), emulator="", native=any(r.native for _, r in labelled),
        uncounted="; ".join(whys),
        machines=tuple(line for label, report in labelled for line in _machine(label, report)))
