# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as a table for a terminal. Plain ASCII, so that any terminal and log takes it."""

import report_model as model

LABEL_WIDTH = 28


def _row(label, cells, widths):
    return (label.ljust(LABEL_WIDTH)
            + "".join(cell.rjust(width) for cell, width in zip(cells, widths))).rstrip()


def _value_width(report):
    return max([16] + [len(run.name) + 2 for run in report.runs])


def _ratios(values, text=model.ratio_text):
    return [text(values[0], value) for value in values[1:]]


def _counter_table(report, phase):
    first, *others = [run.name for run in report.runs]
    heads = [first] + others + [f"{first}/{name}" for name in others]
    widths = [_value_width(report)] * len(report.runs)
    widths += [max(12, len(head) + 2) for head in heads[len(report.runs):]]
    lines = [_row(f"{phase}", heads, widths)]
    for _, label, _, values in model.counter_rows(report, phase):
        lines.append(_row(f"  {label}", [f"{value:,}" for value in values]
                          + _ratios(values), widths))
    times = model.guest_times(report, phase)
    if times:
        lines.append(_row("  guest time", [model.seconds(time) for time in times]
                          + _ratios(times), widths))
    for label, times in model.spread_rows(report, phase):
        lines.append(_row(f"    {label}", [model.seconds(time) for time in times], widths))
    return lines


def _role_table(report, phase):
    rows = model.role_rows(report, phase)
    if not rows:
        return []
    widths = [10, 10, 11, 12, 9]
    blank = [""] * 3
    lines = ["", _row("", blank + ["pages", "pages"], widths),
             _row(f"{phase}: TDP roots by role", [head for _, head in model.ROLE_COUNTS],
                  widths)]
    for word, by_run in rows:
        lines.append(f"  0x{word:08x}  {model.role_words(word)}")
        for run, counts in zip(report.runs, by_run):
            cells = [f"{count:,}" for count in counts] if counts else ["-"] * len(widths)
            lines.append(_row(f"    {run.name}", cells, widths))
    return lines


def _stat_table(report, phase):
    rows = model.stat_rows(report, phase)
    if not rows:
        return []
    widths = [_value_width(report)] * len(report.runs)
    lines = ["", _row(f"{phase}: KVM statistics", [run.name for run in report.runs], widths)]
    for name, values in rows:
        lines.append(_row(f"  {name}", ["-" if value is None else f"{value:,}"
                                        for value in values], widths))
    return lines


def _notes(report):
    notes = [f"not counted by tracing: {report.uncounted}" if report.uncounted else
             "counted by the host kernel's tracing; a page is 4 KiB"]
    repeated = max(len(phase.times) for run in report.runs for phase in run.phases.values())
    if report.native:
        notes.append(f"guest time: real seconds, the median of {repeated}"
                     if repeated > 1 else "guest time: real seconds, of one boot")
    if len(report.runs) > 1:
        first = report.runs[0].name
        notes.append(f"{first}/other: how many times as much {first} did; '-': both are 0,")
        notes.append(f"'all gone': the other run has 0 where {first} has some")
    return notes


def render(report):
    """The whole report, one string that ends in a newline."""
    lines = [f"scenario {report.scenario}"]
    if report.emulator:
        lines.append(f"host     {report.vendor}, Linux {report.kernel}, {report.emulator}")
    lines += [f"machine  {line}" for line in report.machines]
    for phase in report.phase_names:
        lines += [""] + _counter_table(report, phase)
        lines += _role_table(report, phase)
        lines += _stat_table(report, phase)
    lines += [""] + _notes(report)
    return "\n".join(lines) + "\n"
