# SPDX-License-Identifier: GPL-2.0-or-later
"""The report's charts: one SVG per phase, to stand inline in a page.

Each is drawn narrow enough for a phone; a wide page sets them beside each other. Colours are
CSS variables of the page, so that the charts follow its light and dark themes.
"""

import io
import math
import re

import matplotlib

matplotlib.use("Agg")
# pylint: disable=wrong-import-position
from matplotlib.figure import Figure

import report_model as model

# Drawn in colours that stand for CSS variables; _inline() swaps them.
FG, MUTED, GRID, LINK = "#010203", "#020304", "#030405", "#040506"
RUN_COLOURS = ("#0a0101", "#0a0202", "#0a0303", "#0a0404",
               "#0a0505", "#0a0606", "#0a0707", "#0a0808")
CSS = {FG: "--fg", MUTED: "--muted", GRID: "--grid", LINK: "--link"}
CSS.update({colour: f"--run{i}" for i, colour in enumerate(RUN_COLOURS)})
# Shapes too, since colour alone does not tell runs apart for everybody.
MARKERS = ("o", "D", "s", "^", "v", "<", ">", "|")

WIDTH = 4.6                      # inches at 72 per inch: about the width of a phone
ROW, TIME_ROW = 0.47, 0.27
ZERO = -0.75                     # where 0 stands, in decades left of 1
WORDS = 3                        # runs, up to which there is room for the ratios


def _colour(i):
    return RUN_COLOURS[i % len(RUN_COLOURS)]


def _marker(i):
    return MARKERS[i % len(MARKERS)]


def _position(value):
    return math.log10(value) if value else ZERO


def _power(decade):
    value = 10 ** decade
    for size, unit in ((10 ** 9, "G"), (10 ** 6, "M"), (10 ** 3, "k")):
        if value >= size:
            return f"{value // size}{unit}"
    return str(value)


def _verdict(values):
    """What the rows of dots come down to, in words as short as the ratios of the tables."""
    texts = []
    for value in values[1:]:
        number = model.ratio(values[0], value)
        if number is None:
            texts.append("none")
        elif values[0] == value:
            texts.append("same")
        elif number == float("inf"):
            texts.append("all gone")
        elif number >= 1:
            texts.append(model.ratio_text(values[0], value)[:-1] + "× fewer")
        elif number == 0:
            texts.append("new")
        else:
            texts.append(model.ratio_text(value, values[0])[:-1] + "× more")
    return ", ".join(texts)


def _draw_counters(axes, rows, right):
    axes.set_xlim(ZERO - 0.25, right)
    axes.set_ylim(len(rows) - 0.35, -0.75)
    decades = range(0, math.ceil(right))
    ticks = [ZERO] + list(decades)
    axes.set_xticks(ticks, ["0"] + [_power(decade) for decade in decades])
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, labelcolor=MUTED, labelsize=10)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    left = axes.get_xlim()[0]
    for y, (_, label, _, values) in enumerate(rows):
        axes.text(left, y - 0.36, label, color=FG, fontsize=11.5, va="center")
        if len(values) <= WORDS:
            axes.text(right, y - 0.36, _verdict(values), color=FG, fontsize=11.5,
                      va="center", ha="right", fontweight="bold")
        dots = [_position(value) for value in values]
        axes.plot([min(dots), max(dots)], [y, y], color=LINK, linewidth=3,
                  solid_capstyle="round", zorder=2)
        # The first run is drawn larger and below, so that equal values show as a ring.
        for i, dot in enumerate(dots):
            axes.plot([dot], [y], marker=_marker(i), color=_colour(i), zorder=3 + i,
                      markersize=(11 if i == 0 else 6.5), linestyle="none")


def _draw_times(axes, report, phase, times):
    spread = model.spread_rows(report, phase)
    longest = max(times + [time for _, row in spread for time in row]) or 1
    axes.set_xlim(0, longest)
    axes.set_ylim(len(times) - 0.5, -1.2)
    axes.axis("off")
    axes.text(0, -0.85, "guest time, seconds", color=FG, fontsize=11.5, va="center")
    faster = []
    for time in times[1:]:
        number = model.ratio(times[0], time)
        if number in (None, float("inf"), 0) or 0.995 < number < 1.005:
            faster.append("same" if time == times[0] or number and number != float("inf")
                          else "")
        else:
            faster.append(f"{number:.3g}× as fast" if number > 1
                          else f"{1 / number:.3g}× as slow")
    if len(times) <= WORDS:
        axes.text(longest, -0.85, ", ".join(faster), color=FG, fontsize=11.5, va="center",
                  ha="right", fontweight="bold")
    for i, time in enumerate(times):
        axes.barh(i, time, color=_colour(i), height=0.62)
        if spread:
            axes.plot([row[i] for _, row in spread], [i + 0.36] * 2, color=FG, linewidth=1.2)
        inside = time > longest * 0.25
        axes.text(time - longest * 0.015 if inside else time + longest * 0.015, i,
                  f"{time / 1e9:,.2f}", color="#fffffe" if inside else FG, fontsize=10,
                  va="center", ha="right" if inside else "left")


def _inline(svg, prefix, title, desc):
    """Make matplotlib's file a part of a page: no prolog, own ids, CSS colours, a name."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", svg)
    for colour, variable in CSS.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = svg.replace("#fffffe", "var(--on-run)")
    # Let the page's own font and CSS size decide.
    svg = re.sub(r"font: ((?:[\w.]+ )*?)([\d.]+)px [^;\"]*", r"font: \1\2px var(--font)", svg)
    head = re.match(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', svg)
    return (f'<svg viewBox="{head[1]}" role="img" aria-labelledby="{prefix}-title '
            f'{prefix}-desc"><title id="{prefix}-title">{title}</title>'
            f'<desc id="{prefix}-desc">{desc}</desc>' + svg[head.end():])


def draw(report, phase, prefix, title, desc):
    """The chart of one phase as an <svg> element; title and desc are HTML already."""
    rows = model.counter_rows(report, phase)
    times = model.guest_times(report, phase)
    # One scale for all phases, or the eye compares lengths that mean different things.
    top = max((value for name in report.phase_names
               for _, _, _, values in model.counter_rows(report, name) for value in values),
              default=0)
    right = max(1.0, _position(top)) + 0.2
    heights = [ROW * (len(rows) + 0.7) if rows else 0.3]
    if times:
        heights.append(TIME_ROW * (len(times) + 1.4))
    total = sum(heights) + 0.1
    settings = {"svg.fonttype": "none", "svg.hashsalt": prefix, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(WIDTH, total))
        bottom = total
        for i, height in enumerate(heights):
            bottom -= height
            axes = figure.add_axes([0.01, (bottom + (0.22 if i == 0 else 0)) / total, 0.98,
                                    (height - (0.22 if i == 0 else 0)) / total])
            axes.patch.set_visible(False)
            if i:
                _draw_times(axes, report, phase, times)
            elif rows:
                _draw_counters(axes, rows, right)
            else:
                axes.axis("off")
        figure.patch.set_visible(False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _inline(stream.getvalue(), prefix, title, desc)
