"""A study's tables: means with intervals, and differences, as cells of text."""

import math
from collections.abc import Mapping, Sequence

from nemo_adapt.evaluate.tables import NOTHING, Table
from nemo_adapt.study.compare import Difference, Mean, against_base, by_value, differences, differences_within, summary
from nemo_adapt.study.results import DIGITS, EFFICIENCY, SECONDS, TARGET, TOKENS, USUAL, Row

Axes = Mapping[str, Sequence[str]]
"""Axis -> its values, in order."""
BEFORE = "before"
"""The base, as it was."""


def measures_of(rows: Sequence[Row]) -> list[str]:
    """All that was measured of any run."""
    return list(dict.fromkeys(measure for row in rows for measure in row.measures))


def varied(axes: Axes, rows: Sequence[Row]) -> list[str]:
    """The axes of which at least two values have been run."""
    return [axis for axis in axes if len(run(axes, rows, axis)) > 1]


def run(axes: Axes, rows: Sequence[Row], axis: str) -> list[str]:
    """The values of an axis that have been run, in order."""
    return [value for value in axes[axis] if any(row.values[axis] == value for row in rows)]


def gains(axes: Axes, rows: Sequence[Row]) -> Table:
    """What adaptation did to each measure that the base has too, by the values of all axes."""
    measures = [measure for measure in measures_of(rows) if any(measure in row.base for row in rows)]
    if not measures:
        return Table([], [])
    lines = []
    for axis in varied(axes, rows) or list(axes)[:1]:
        values = run(axes, rows, axis)
        found = {measure: against_base(rows, axis, values, measure) for measure in measures}
        lines += [
            [f"{axis} {value}", *(_difference(found[measure].get(value), measure) for measure in measures)]
            for value in values
        ]
    return Table(["", *measures], lines)


def quality(axes: Axes, rows: Sequence[Row], axis: str) -> Table:
    """How well the models know target and reference, by the values of an axis."""
    left_out = {*EFFICIENCY, SECONDS}
    return _by_axis(axes, rows, axis, [measure for measure in measures_of(rows) if measure not in left_out])


def efficiency(axes: Axes, rows: Sequence[Row], axis: str) -> Table:
    """What text costs, by the values of an axis; empty for an axis that leaves the tokenizers as they are."""
    measures = [measure for measure in EFFICIENCY if measure in measures_of(rows)]
    if TOKENS in measures and not changes(rows, axis, TOKENS):
        return Table([], [])
    return _by_axis(axes, rows, axis, measures)


def changes(rows: Sequence[Row], axis: str, measure: str) -> bool:
    """Whether a measure is another for another value of the axis, anywhere."""
    groups: dict[tuple[object, ...], set[float]] = {}
    for row in rows:
        if measure in row.measures:
            groups.setdefault((*row.others(axis), row.seed), set()).add(row.measures[measure])
    return any(len(found) > 1 for found in groups.values())


def two_axes(axes: Axes, rows: Sequence[Row], one: str, other: str, measure: str) -> Table:
    """Means by the values of ``one`` (rows) and ``other`` (columns); marked are differences to a row's first column."""
    means = by_value(rows, one, measure, other)
    columns = run(axes, rows, other)
    found = differences_within(rows, other, columns, measure, one)
    lines = [
        [
            value,
            *(shown(means.get((value, column)), measure) + _mark(found.get((value, column))) for column in columns),
        ]
        for value in run(axes, rows, one)
    ]
    return Table([f"{one} \\ {other}", *columns], lines)


def all_cells(axes: Axes, rows: Sequence[Row]) -> Table:
    """Every combination of values, the mean over its seeds."""
    measures = measures_of(rows)
    means = {measure: summary(rows, measure) for measure in measures}
    lines = [
        [*values, *(shown(of.get(values), measure) for measure, of in means.items())]
        for values in dict.fromkeys(row.others() for row in rows)
    ]
    return Table([*axes, *measures], lines)


def verdicts(axes: Axes, rows: Sequence[Row]) -> list[str]:
    """A sentence for each value of each axis: what it did to the target's bits per byte."""
    return [
        f"{axis} {found.value} against {axes[axis][0]}: {signed(found.mean, TARGET)} {TARGET} ({judged(found)})"
        for axis in varied(axes, rows)
        for found in differences(rows, axis, axes[axis], TARGET)
    ]


def judged(found: Difference) -> str:
    """Whether a difference is more than noise, in words."""
    if math.isnan(found.p):
        return "one seed: no telling"
    chance = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return f"larger than noise, {chance}" if found.is_larger_than_noise else f"within noise, {chance}"


def shown(mean: Mean | None, measure: str) -> str:
    """A mean with its interval."""
    if mean is None:
        return NOTHING
    digits = DIGITS.get(measure, USUAL)
    half = "" if math.isnan(mean.half) else f" ± {mean.half:,.{digits}f}"
    return f"{mean.value:,.{digits}f}{half}"


def signed(mean: Mean, measure: str) -> str:
    """A difference with its interval."""
    text = shown(mean, measure)
    return text if text.startswith("-") else f"+{text}"


def _by_axis(axes: Axes, rows: Sequence[Row], axis: str, measures: Sequence[str]) -> Table:
    """The bases' means where they are known, the runs' means by value, and below them the differences to the first."""
    values = run(axes, rows, axis)
    lines = [*_before(rows, axis, values, measures)]
    means = {measure: by_value(rows, axis, measure) for measure in measures}
    lines += [[value, *(shown(means[measure].get((value,)), measure) for measure in measures)] for value in values]
    found = {measure: {each.value: each for each in differences(rows, axis, values, measure)} for measure in measures}
    for value in values[1:]:
        cells = [_difference(found[measure].get(value), measure) for measure in measures]
        lines.append([f"{value} less {values[0]}", *cells])
    return Table([axis, *measures], lines)


def _before(rows: Sequence[Row], axis: str, values: Sequence[str], measures: Sequence[str]) -> list[list[str]]:
    """A line for the base, or for each value's where values of the axis have other bases or texts."""
    bases = [Row(row.values, row.seed, row.base) for row in rows]
    if not any(measure in row.base for row in rows for measure in measures):
        return []
    means = {measure: by_value(bases, axis, measure) for measure in measures}
    lines = [[_plain(means[measure].get((value,)), measure) for measure in measures] for value in values]
    if all(line == lines[0] for line in lines):
        return [[BEFORE, *lines[0]]]
    return [[f"{value}, {BEFORE}", *line] for value, line in zip(values, lines, strict=True)]


def _plain(mean: Mean | None, measure: str) -> str:
    """A mean that no seed has a part in."""
    return NOTHING if mean is None else f"{mean.value:,.{DIGITS.get(measure, USUAL)}f}"


def _difference(found: Difference | None, measure: str) -> str:
    return NOTHING if found is None else signed(found.mean, measure) + _mark(found)


def _mark(found: Difference | None) -> str:
    return "*" if found and found.is_larger_than_noise else ""
