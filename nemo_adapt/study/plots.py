"""Plots of a study: measures over the values of an axis, and bits per byte over the bytes seen."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes as Plot
from numpy.typing import NDArray

from nemo_adapt.evaluate.plots import Bar, horizontal_bars
from nemo_adapt.figures import DPI, new_figure
from nemo_adapt.study.compare import by_value
from nemo_adapt.study.results import DIGITS, LOST, TARGET, TOKENS, Row
from nemo_adapt.study.tables import BEFORE, Axes, changes, measures_of, values_run, varied

Numbers = NDArray[np.float64]
FOLDER = "plots"
DRAWN = {TARGET: "target", LOST: "lost", TOKENS: "tokens"}
"""Measure -> the name of its plot's file."""
SIZE_INCHES = (6.4, 3.6)
POINTS = 60
"""Points of a mean curve: runs scored after different numbers of bytes are interpolated to the same ones."""
SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts that the plots' font has and that need no text shaping."""


@dataclass(frozen=True)
class Picture:
    """A plot's path relative to the report, and what it shows."""

    path: str
    shows: str


def of_axis(axes: Axes, rows: Sequence[Row], axis: str, out: Path) -> list[Picture]:
    """Draw the plots of one axis: the measures that it changes, tasks before and after, curves over the text seen."""
    drawn = []
    for measure, file in DRAWN.items():
        if changes(rows, axis, measure):
            others = (name for name in varied(axes, rows) if name != axis and changes(rows, name, measure))
            lines = next(others, "") if measure == TOKENS else ""
            shows = f"{measure}, by {axis}" + (f" and {lines}" if lines else "")
            drawn.append(_picture(out, f"{axis}-{file}", shows))
            over(axes, rows, axis, lines, measure, out.parent / drawn[-1].path)
    picture = _picture(out, f"{axis}-tasks", f"Bars: score of each task before adaptation, and by {axis}")
    if tasks(axes, rows, axis, out.parent / picture.path):
        drawn.append(picture)
    if all(len(row.curve) > 1 for row in rows):
        drawn.append(_picture(out, f"{axis}-curves", f"Curves: {TARGET}, over megabytes of text seen, by {axis}"))
        curves(axes, rows, axis, out.parent / drawn[-1].path)
    return drawn


def of_two(axes: Axes, rows: Sequence[Row], one: str, other: str, out: Path) -> list[Picture]:
    """Draw the target's bits per byte by two axes. The one with the larger numbers is the x axis: the amount of text,
    if the other is the number of new tokens."""
    along, lines = sorted(
        (one, other), key=lambda axis: -max(numbers(values_run(axes, rows, axis)).values(), default=-1.0)
    )
    picture = _picture(out, f"{one}-{other}", f"{TARGET}, by {along} and {lines}")
    over(axes, rows, along, lines, TARGET, out.parent / picture.path)
    return [picture]


def over(axes: Axes, rows: Sequence[Row], axis: str, lines: str, measure: str, path: Path) -> None:
    """Draw ``measure`` over the values of ``axis`` with intervals, a line for each value of the axis ``lines`` (one
    line if it is empty)."""
    figure, plot = new_figure(measure, axis, SIZE_INCHES)
    values = values_run(axes, rows, axis)
    places = numbers(values) or {value: float(place) for place, value in enumerate(values)}
    means = by_value(rows, axis, measure, *([lines] if lines else []))
    style = "o-" if numbers(values) else "o"
    names = labels(lines, values_run(axes, rows, lines)) if lines else {"": ""}
    for shift, (name, label) in zip(_shifts(len(names), bool(numbers(values))), names.items(), strict=True):
        found = [(value, means.get((value, name) if lines else (value,))) for value in values]
        points = [(places[value] + shift, mean) for value, mean in found if mean]
        points.sort(key=lambda point: point[0])  # a value that was added later may be a smaller number
        halves = [0.0 if math.isnan(mean.half) else mean.half for _, mean in points]
        across, heights = [place for place, _ in points], [mean.value for _, mean in points]
        plot.errorbar(across, heights, halves, fmt=style, markersize=4, linewidth=1.4, capsize=2, label=label)
    _ticks(plot, axis, values, places)
    if lines:
        plot.legend(frameon=False, fontsize=8, title=lines, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=DPI)


def tasks(axes: Axes, rows: Sequence[Row], axis: str, path: Path) -> bool:
    """Draw bars of all tasks, for the base and each value of an axis; return ``False`` if there are none."""
    named = [measure for measure in measures_of(rows) if measure not in DIGITS]
    values = values_run(axes, rows, axis)
    bars: dict[str, list[Bar]] = {}
    for task in named:
        bases = [row.base[task] for row in rows if task in row.base]
        means = by_value(rows, axis, task)
        if bases and len(means) == len(values):
            own = [(means[value,].value, means[value,].half) for value in values]
            bars[task.replace(", ", "\n", 1)] = [
                Bar(float(np.mean(bases))),
                *(Bar(at) if math.isnan(half) else Bar(at, at - half, at + half) for at, half in own),
            ]
    return horizontal_bars(path, bars, [BEFORE, *labels(axis, values).values()], "score")


def curves(axes: Axes, rows: Sequence[Row], axis: str, path: Path) -> None:
    """Draw the target's bits per byte over the bytes seen, by value of ``axis``: means over the combinations of the
    other axes that were run with all values."""
    figure, plot = new_figure(TARGET, "MB of text seen", SIZE_INCHES)
    values = values_run(axes, rows, axis)
    own = [{row.others(axis) for row in rows if row.values[axis] == value} for value in values]
    common = set.intersection(*own) or set.union(*own)
    for value, label in labels(axis, values).items():
        found = [row.curve for row in rows if row.values[axis] == value and row.others(axis) in common]
        if not found:
            continue
        seen, means = _mean_curve(found)
        plot.plot(seen / 1e6, means, linewidth=1.4, label=label)
    plot.legend(frameon=False, fontsize=8, title=axis, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=DPI)


def labels(axis: str, values: Sequence[str]) -> dict[str, str]:
    """Return value -> label: the value itself, or ``AXIS NUMBER`` if its script is not in ``SCRIPTS``."""
    return {
        value: value if all(map(_is_plain, value)) else f"{axis} {number}"
        for number, value in enumerate(values, start=1)
    }


def numbers(values: Sequence[str]) -> dict[str, float]:
    """Return the values as numbers (``1K`` and ``2M`` too); empty if one of them is not a number."""
    try:
        return {value: float(value.lower().replace("k", "e3").replace("m", "e6")) for value in values}
    except ValueError:
        return {}


def _picture(out: Path, name: str, shows: str) -> Picture:
    file = re.sub(r"[^\w.+-]", "_", name)  # an axis may have any name
    return Picture(f"{out.name}/{file}.png", shows)


def _ticks(plot: Plot, axis: str, values: Sequence[str], places: dict[str, float]) -> None:
    """Label the x axis with the values; numbers that are far apart get a logarithmic scale."""
    positive = [number for number in places.values() if number > 0]
    if numbers(values) and positive and max(positive) > 20 * min(positive):
        plot.set_xscale("symlog", linthresh=min(positive))
    names = list(labels(axis, values).values())
    slanted = not numbers(values) and max(map(len, names)) > 8
    plot.set_xticks(
        [places[value] for value in values], names, rotation=30 if slanted else 0, ha="right" if slanted else "center"
    )
    plot.minorticks_off()


def _shifts(count: int, on_a_scale: bool) -> list[float]:
    """Return the x offsets of the lines' points, so that they do not overlap; 0 on a numeric scale."""
    return [0.0 if on_a_scale else (place - (count - 1) / 2) * 0.5 / count for place in range(count)]


def _mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[Numbers, Numbers]:
    """Return bytes seen and the curves' mean there, over the range that all curves cover."""
    begin, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    seen = np.linspace(begin, end, POINTS)
    columns = (np.array(curve, dtype=np.float64).T for curve in curves)
    return seen, np.mean([np.interp(seen, bytes_seen, bits) for bytes_seen, bits in columns], axis=0)


def _is_plain(character: str) -> bool:
    return not character.isalpha() or unicodedata.name(character, "").startswith(SCRIPTS)
