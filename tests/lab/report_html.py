# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as one HTML file that needs nothing else: chart first, every number below it."""

from html import escape

import report_chart
import report_model as model

STYLE = """
:root { color-scheme: light dark; --font: system-ui, sans-serif;
  --bg: #fcfcfa; --fg: #1c1d22; --muted: #5c6068; --grid: #e3e4e6; --link: #b9bec6;
  --run0: #b3541e; --run1: #1f5fa8; --run2: #2d7d46; --run3: #7a4a9e;
  --run4: #8a6d00; --run5: #b0305c; --run6: #00757a; --run7: #5c6068; --on-run: #fff; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #16181c; --fg: #e8e8e6; --muted: #a0a5ae; --grid: #2e3238; --link: #565c66;
  --run0: #f0955a; --run1: #79b4f5; --run2: #74c88e; --run3: #c49be6;
  --run4: #d9bd4d; --run5: #f08aab; --run6: #5fc8cc; --run7: #a0a5ae; --on-run: #16181c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 68rem; background: var(--bg);
  color: var(--fg); font: 1rem/1.5 var(--font); }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 0 0 .2rem; }
p { margin: .3rem 0; max-width: 46rem; }
.muted, .note, caption, td small { color: var(--muted); }
.lead { font-size: 1.1rem; margin: 1rem 0; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .8rem 0;
  list-style: none; }
.key svg { width: .9rem; height: .9rem; vertical-align: -.1rem; margin-right: .4rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr));
  gap: 1.5rem 2.5rem; margin: 1rem 0 2rem; }
.charts figure { margin: 0; max-width: 34rem; }
.charts svg { display: block; width: 100%; height: auto; }
section { margin: 2rem 0 0; }
.scroll { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .25rem 0 .25rem 1.2rem; text-align: right; border-bottom: 1px solid var(--grid);
  vertical-align: top; white-space: nowrap; }
th:first-child { padding-left: 0; text-align: left; font-weight: normal; white-space: normal;
  min-width: 9rem; }
thead th { font-weight: 600; } thead th:first-child { font-weight: 600; }
th small { display: block; color: var(--muted); overflow-wrap: anywhere; }
b, strong { white-space: nowrap; }
@media (max-width: 30rem) { body { padding: 1rem .8rem 2rem; }
  table { font-size: .85rem; } th, td { padding-left: .6rem; }
  thead th { white-space: normal; vertical-align: bottom; }
  th:first-child { min-width: 7rem; max-width: 11rem; } }
"""
SHAPES = ('<circle cx="5" cy="5" r="5"/>', '<path d="M5 0 10 5 5 10 0 5z"/>',
          '<path d="M0 0h10v10H0z"/>', '<path d="M5 0 10 10H0z"/>',
          '<path d="M0 0h10L5 10z"/>', '<path d="M10 0v10L0 5z"/>',
          '<path d="M0 0 10 5 0 10z"/>', '<path d="M3 0h4v10H3z"/>')


def _list(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _key(report):
    items = []
    for i, run in enumerate(report.runs):
        items.append(f'<li><svg viewBox="0 0 10 10" aria-hidden="true" '
                     f'fill="var(--run{i % len(SHAPES)})">{SHAPES[i % len(SHAPES)]}</svg>'
                     f"{escape(run.name)}</li>")
    return f'<ul class="key" aria-label="runs">{"".join(items)}</ul>'


def _machines(report):
    lines = [f"{report.vendor} host, Linux {report.kernel}, {report.emulator}"] \
        if report.emulator else []
    return "".join(f'<p class="muted">{escape(line)}</p>\n'
                   for line in [*lines, *report.machines])


def _lead(report):
    """The sentence to read if only one is read: what each phase was spared most of."""
    first = report.runs[0].name
    sentences = []
    for phase in report.phase_names:
        best = None
        for key, label, _, values in model.counter_rows(report, phase):
            spared = values[0] - values[-1]
            if spared > (best[0] if best else 0):
                best = (spared, label, values)
        if best:
            sentences.append(f"<b>{escape(phase)}</b>: {escape(best[1])} from "
                             f"{best[2][0]:,} to <strong>{best[2][-1]:,}</strong>")
        times = model.guest_times(report, phase)
        if times and (best or report.native):
            sentences += [] if best else [f"<b>{escape(phase)}</b>"]
            sentences[-1] += (f"{',' if best else ':'} guest time from "
                              f"{model.seconds(times[0])} to "
                              f"<strong>{model.seconds(times[-1])}</strong>")
    if len(report.runs) < 2 or not sentences:
        return ""
    return (f'<p class="lead">From {escape(first)} to {escape(report.runs[-1].name)}. '
            + ". ".join(sentences) + ".</p>")


def _table(caption, heads, rows):
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>'
                   + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>\n"
                   for row in rows)
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>'
            f"<caption>{caption}</caption><thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}</tbody></table></div>\n")


def _ratio_cells(values):
    return [model.ratio_text(values[0], value).replace("x", "×") for value in values[1:]]


def _number(value):
    return "–" if value is None else f"{value:,}"


def _counter_table(report, phase):
    first, *others = [escape(run.name) for run in report.runs]
    heads = ["counted", first] + others + [f"{first} ÷ {name}" for name in others]
    rows = [[f"{escape(label)}<small>{escape(source)}</small>"]
            + [_number(value) for value in values] + _ratio_cells(values)
            for _, label, source, values in model.counter_rows(report, phase)]
    times = model.guest_times(report, phase)
    if times:
        what = "real time, the median" if report.native else "virtual time of the emulated host"
        rows.append([f"guest time<small>{what}</small>"]
                    + [model.seconds(time) for time in times] + _ratio_cells(times))
    rows += [[f"<small>{label}</small>"] + [model.seconds(time) for time in times]
             + [""] * (len(times) - 1) for label, times in model.spread_rows(report, phase)]
    what = f"not counted by tracing: {escape(report.uncounted)}" if report.uncounted else \
        "what the host kernel's tracing counted"
    return _table(f"{escape(phase)}: {what}", heads, rows)


def _role_table(report, phase):
    rows = model.role_rows(report, phase)
    if not rows:
        return ""
    heads = [head for _, head in model.ROLE_COUNTS[:3]]
    heads += [f"pages {head}" for _, head in model.ROLE_COUNTS[3:]]
    cells = []
    for word, by_run in rows:
        for run, counts in zip(report.runs, by_run):
            counts = counts or (None,) * len(heads)
            cells.append([f"{escape(model.role_words(word))}<small>0x{word:08x}</small>",
                          escape(run.name)] + [_number(count) for count in counts])
    return _table(f"{escape(phase)}: TDP roots by role (pages of 4 KiB)",
                  ["role", "run"] + heads, cells)


def _stat_table(report, phase):
    rows = model.stat_rows(report, phase)
    if not rows:
        return ""
    return _table(f"{escape(phase)}: KVM's own statistics",
                  ["statistic"] + [escape(run.name) for run in report.runs],
                  [[escape(name)] + [_number(value) for value in values]
                   for name, values in rows])


def _how(report):
    counted = any(phase.counters for run in report.runs for phase in run.phases.values())
    texts = ["How often each thing happened, on a logarithmic scale: a step of the grid is\n"
             "ten times. Left is less work."] if counted else []
    if any(model.spread_rows(report, phase) for phase in report.phase_names):
        texts.append("Bars of time end at the median; lines go from the shortest to the "
                     "longest\nrepetition.")
    return " ".join(texts)


def _chart(report, phase, prefix):
    names = _list([escape(run.name) for run in report.runs])
    title = f"{escape(phase)}: what {names} cost"
    desc = "; ".join(f"{escape(label)}: " + ", ".join(
        f"{escape(run.name)} {value:,}" for run, value in zip(report.runs, values))
        for _, label, _, values in model.counter_rows(report, phase))
    svg = report_chart.draw(report, phase, prefix, title,
                            f"Counts on a logarithmic scale. {desc}.")
    return f"<figure><h2>{escape(phase)}</h2>\n{svg}</figure>\n"


def render(report):
    """The whole page as a string."""
    title = f"{escape(report.scenario)}: {_list([escape(run.name) for run in report.runs])}"
    charts = "".join(_chart(report, phase, f"c{i}")
                     for i, phase in enumerate(report.phase_names))
    tables = "".join(f"<section>\n<h2>{escape(phase)}, in numbers</h2>\n"
                     + _counter_table(report, phase) + _role_table(report, phase)
                     + _stat_table(report, phase) + "</section>\n"
                     for phase in report.phase_names)
    first = escape(report.runs[0].name)
    note = ("" if len(report.runs) < 2 else
            f"<p class=\"note\">{first} ÷ other: how many times as much {first} did. "
            f"“-”: both are 0. “all gone”: the other run has 0 where {first} has some.</p>\n")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(report.scenario)}</h1>
{_machines(report)}{_lead(report)}
{_key(report)}
<p class="muted">{_how(report)}</p>
<div class="charts">
{charts}</div>
{tables}{note}</body>
</html>
"""
