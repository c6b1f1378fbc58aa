"""A study's plots: a measure over the values of an axis, and bits per byte over the bytes seen."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nemo_adapt.evaluate.plots import DPI, new_figure
from nemo_adapt.study.compare import by_value
from nemo_adapt.study.results import REFERENCE, TARGET, TOKENS, Row

Numbers = NDArray[np.float64]
DRAWN = {TARGET: "target", REFERENCE: "reference", TOKENS: "tokens"}
"""Measures that are drawn, and what their files are called."""
SIZE_INCHES = (6.4, 3.6)
POINTS = 60
"""Of a curve: runs that were scored after other bytes are brought to the same ones."""


def draw(axes: Mapping[str, Sequence[str]], rows: Sequence[Row], out: Path) -> list[Path]:
    """All plots of a study, as PNG files in ``out``."""
    out.mkdir(exist_ok=True)
    drawn = []
    for axis in axes:
        values = [value for value in axes[axis] if any(row.values[axis] == value for row in rows)]
        if len(values) < 2:
            continue
        lines = next((name for name in axes if name != axis and len({row.values[name] for row in rows}) > 1), "")
        for measure, file in DRAWN.items():
            if _changes(rows, axis, measure):
                drawn.append(out / f"{axis}-{file}.png")
                over(rows, axis, values, measure, lines, drawn[-1])
        if all(len(row.curve) > 1 for row in rows):
            drawn.append(out / f"{axis}-curves.png")
            curves(rows, axis, values, drawn[-1])
    return drawn


def over(rows: Sequence[Row], axis: str, values: Sequence[str], measure: str, lines: str, path: Path) -> None:
    """``measure`` over the values of ``axis``, a line for each value of the axis ``lines``, with intervals."""
    figure, axes = new_figure(measure, axis, SIZE_INCHES)
    numbers = _numbers(values)
    means = by_value(rows, axis, measure, *([lines] if lines else []))
    for name in dict.fromkeys(key[1] if lines else "" for key in means):
        found = [(value, means.get((value, name) if lines else (value,))) for value in values]
        points = [(numbers[value] if numbers else values.index(value), mean) for value, mean in found if mean]
        halves = [0.0 if math.isnan(mean.half) else mean.half for _, mean in points]
        style = "o-" if numbers else "o"
        places, heights = [place for place, _ in points], [mean.value for _, mean in points]
        axes.errorbar(places, heights, halves, fmt=style, markersize=4, linewidth=1.4, capsize=2, label=name)
    if numbers:
        if max(numbers.values()) > 20 * min((number for number in numbers.values() if number > 0), default=1.0):
            axes.set_xscale("symlog", linthresh=min(number for number in numbers.values() if number > 0))
        axes.set_xticks(list(numbers.values()), values)
    else:
        turned = max(map(len, values)) > 8
        axes.set_xticks(range(len(values)), values, rotation=30 if turned else 0, ha="right" if turned else "center")
    if lines:
        axes.legend(frameon=False, fontsize=8, title=lines, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=DPI)


def curves(rows: Sequence[Row], axis: str, values: Sequence[str], path: Path) -> None:
    """The target's bits per byte over the bytes seen, by the values of ``axis``: the mean over what all of them have
    been run with."""
    figure, axes = new_figure(TARGET, "MB of text seen", SIZE_INCHES)
    own = [{row.others(axis) for row in rows if row.values[axis] == value} for value in values]
    common = set.intersection(*own) or set.union(*own)
    for value in values:
        found = [row.curve for row in rows if row.values[axis] == value and row.others(axis) in common]
        if not found:
            continue
        seen, means = _mean_curve(found)
        axes.plot(seen / 1e6, means, linewidth=1.4, label=value)
    axes.legend(frameon=False, fontsize=8, title=axis, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=DPI)


def _mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[Numbers, Numbers]:
    """The mean of curves, over what all of them have seen."""
    begin, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    seen = np.linspace(begin, end, POINTS)
    columns = (np.array(curve, dtype=np.float64).T for curve in curves)
    return seen, np.mean([np.interp(seen, bytes_seen, bits) for bytes_seen, bits in columns], axis=0)


def _changes(rows: Sequence[Row], axis: str, measure: str) -> bool:
    """Whether a measure is another for another value of the axis, anywhere."""
    return any(len(set(found)) > 1 for found in _by_rest(rows, axis, measure))


def _by_rest(rows: Sequence[Row], axis: str, measure: str) -> Iterator[list[float]]:
    groups: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        if measure in row.measures:
            groups.setdefault((*row.others(axis), row.seed), []).append(row.measures[measure])
    yield from groups.values()


def _numbers(values: Sequence[str]) -> dict[str, float]:
    """The values as numbers, or nothing where one is none."""
    try:
        return {value: float(value.lower().replace("k", "e3").replace("m", "e6")) for value in values}
    except ValueError:
        return {}
