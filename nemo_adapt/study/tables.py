"""Tables of a study: means and differences with intervals, as cells of text."""

import math
from collections.abc import Mapping, Sequence

from nemo_adapt.evaluate.tables import NOTHING, Table
from nemo_adapt.study.compare import Difference, Mean, against_base, by_value, differences, differences_within, summary
from nemo_adapt.study.results import DIGITS, EFFICIENCY, SECONDS, TARGET, TOKENS, USUAL, Row

Axes = Mapping[str, Sequence[str]]
"""Axis -> its values, in order."""
BEFORE = "before"
"""Label of the unmodified base."""


def measures_of(rows: Sequence[Row]) -> list[str]:
    """Return all measures that any run has."""
    return list(dict.fromkeys(measure for row in rows for measure in row.measures))


def varied(axes: Axes, rows: Sequence[Row]) -> list[str]:
    """Return the axes of which at least two values have been run."""
    return [axis for axis in axes if len(values_run(axes, rows, axis)) > 1]


def values_run(axes: Axes, rows: Sequence[Row], axis: str) -> list[str]:
    """Return the values of an axis that have been run, in order."""
    return [value for value in axes[axis] if any(row.values[axis] == value for row in rows)]


def gains(axes: Axes, rows: Sequence[Row]) -> Table:
    """Return the effect of adaptation on each measure that the base has too, by the values of all axes."""
    measures = [measure for measure in measures_of(rows) if any(measure in row.base for row in rows)]
    if not measures:
        return Table([], [])
    lines = []
    for axis in varied(axes, rows) or list(axes)[:1]:
        values = values_run(axes, rows, axis)
        found = {measure: against_base(rows, axis, values, measure) for measure in measures}
        lines += [
            [f"{axis} {value}", *(_difference(found[measure].get(value), measure) for measure in measures)]
            for value in values
        ]
    return Table(["", *measures], lines)


def quality(axes: Axes, rows: Sequence[Row], axis: str) -> Table:
    """Return the quality measures (bits per byte, tasks) by the values of an axis."""
    left_out = {*EFFICIENCY, SECONDS}
    return _by_axis(axes, rows, axis, [measure for measure in measures_of(rows) if measure not in left_out])


def efficiency(axes: Axes, rows: Sequence[Row], axis: str) -> Table:
    """Return the efficiency measures by the values of an axis; empty if the axis does not change the tokenizers."""
    measures = [measure for measure in EFFICIENCY if measure in measures_of(rows)]
    if TOKENS in measures and not changes(rows, axis, TOKENS):
        return Table([], [])
    return _by_axis(axes, rows, axis, measures)


def changes(rows: Sequence[Row], axis: str, measure: str) -> bool:
    """Return whether a measure differs between values of the axis in any otherwise equal runs."""
    groups: dict[tuple[object, ...], set[float]] = {}
    for row in rows:
        if measure in row.measures:
            groups.setdefault((*row.others(axis), row.seed), set()).add(row.measures[measure])
    return any(len(found) > 1 for found in groups.values())


def two_axes(axes: Axes, rows: Sequence[Row], one: str, other: str, measure: str) -> Table:
    """Return means by the values of ``one`` (lines) and ``other`` (columns).

    Marked are values that differ from their line's first column by more than noise.
    """
    means = by_value(rows, one, measure, other)
    columns = values_run(axes, rows, other)
    found = differences_within(rows, other, columns, measure, one)
    lines = [
        [
            value,
            *(shown(means.get((value, column)), measure) + _mark(found.get((value, column))) for column in columns),
        ]
        for value in values_run(axes, rows, one)
    ]
    return Table([f"{one} \\ {other}", *columns], lines)


def all_cells(axes: Axes, rows: Sequence[Row]) -> Table:
    """Return the mean over seeds of every combination of values."""
    measures = measures_of(rows)
    means = {measure: summary(rows, measure) for measure in measures}
    lines = [
        [*values, *(shown(of.get(values), measure) for measure, of in means.items())]
        for values in dict.fromkeys(row.others() for row in rows)
    ]
    return Table([*axes, *measures], lines)


def verdicts(axes: Axes, rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each value of each axis: its effect on the target's bits per byte."""
    return [
        f"{axis} {found.value} against {axes[axis][0]}: {signed(found.mean, TARGET)} {TARGET} ({significance(found)})"
        for axis in varied(axes, rows)
        for found in differences(rows, axis, axes[axis], TARGET)
    ]


def significance(found: Difference) -> str:
    """Say whether a difference is larger than noise, with its p-value."""
    if math.isnan(found.p):
        return "one seed: not tested"
    chance = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return f"larger than noise, {chance}" if found.is_larger_than_noise else f"within noise, {chance}"


def shown(mean: Mean | None, measure: str) -> str:
    """Format a mean with its interval."""
    if mean is None:
        return NOTHING
    digits = DIGITS.get(measure, USUAL)
    half = "" if math.isnan(mean.half) else f" ± {mean.half:,.{digits}f}"
    return f"{mean.value:,.{digits}f}{half}"


def signed(mean: Mean, measure: str) -> str:
    """Format a difference with its sign and interval."""
    text = shown(mean, measure)
    return text if text.startswith("-") else f"+{text}"


def _by_axis(axes: Axes, rows: Sequence[Row], axis: str, measures: Sequence[str]) -> Table:
    """Return the bases' means if known, the runs' means by value, and the differences to the first value."""
    values = values_run(axes, rows, axis)
    lines = [*_before(rows, axis, values, measures)]
    means = {measure: by_value(rows, axis, measure) for measure in measures}
    lines += [[value, *(shown(means[measure].get((value,)), measure) for measure in measures)] for value in values]
    found = {measure: {each.value: each for each in differences(rows, axis, values, measure)} for measure in measures}
    for value in values[1:]:
        cells = [_difference(found[measure].get(value), measure) for measure in measures]
        lines.append([f"{value} less {values[0]}", *cells])
    return Table([axis, *measures], lines)


def _before(rows: Sequence[Row], axis: str, values: Sequence[str], measures: Sequence[str]) -> list[list[str]]:
    """Return one line for the base, or one per value if bases or texts differ between the values of the axis."""
    bases = [Row(row.values, row.seed, row.base) for row in rows]
    if not any(measure in row.base for row in rows for measure in measures):
        return []
    means = {measure: by_value(bases, axis, measure) for measure in measures}
    lines = [[_plain(means[measure].get((value,)), measure) for measure in measures] for value in values]
    if all(line == lines[0] for line in lines):
        return [[BEFORE, *lines[0]]]
    return [[f"{value}, {BEFORE}", *line] for value, line in zip(values, lines, strict=True)]


def _plain(mean: Mean | None, measure: str) -> str:
    """Format a base's mean without interval, as it does not depend on the seed."""
    return NOTHING if mean is None else f"{mean.value:,.{DIGITS.get(measure, USUAL)}f}"


def _difference(found: Difference | None, measure: str) -> str:
    return NOTHING if found is None else signed(found.mean, measure) + _mark(found)


def _mark(found: Difference | None) -> str:
    return "*" if found and found.is_larger_than_noise else ""
