"""A study's tables: study.json, study.csv, study.md, and its plots."""

import csv
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from nemo_adapt.artifact import versions, write_json
from nemo_adapt.study.compare import Difference, Mean, by_value, differences, summary
from nemo_adapt.study.results import DIGITS, SECONDS, TARGET, USUAL, Row

Axes = Mapping[str, Sequence[str]]
"""Axis -> its values, in order."""


def write(name: str, axes: Axes, rows: Sequence[Row], cells: int, match: str, out: Path) -> str:
    """Write all files into ``out``; returns the Markdown. ``cells`` is how many runs the whole study has."""
    from nemo_adapt.study import plots

    measures = list(dict.fromkeys(measure for row in rows for measure in row.measures))
    write_json(
        out / "study.json",
        {
            "name": name,
            "axes": axes,
            "cells": cells,
            "match": match,
            "rows": [asdict(row) for row in rows],
            "differences": {
                axis: {measure: list(map(asdict, differences(rows, axis, axes[axis], measure))) for measure in measures}
                for axis in varied(axes, rows)
            },
            "versions": versions(),
        },
    )
    with (out / "study.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*axes, "seed", *measures])
        writer.writerows([*row.values.values(), row.seed, *map(row.measures.get, measures)] for row in rows)
    drawn = plots.draw(axes, rows, out / "plots")
    text = "\n\n".join(_sections(name, axes, rows, measures, cells, match, drawn)) + "\n"
    (out / "study.md").write_text(text, encoding="utf-8")
    return text


def varied(axes: Axes, rows: Sequence[Row]) -> list[str]:
    """The axes of which at least two values have been run."""
    return [axis for axis in axes if len({row.values[axis] for row in rows}) > 1]


def verdicts(axes: Axes, rows: Sequence[Row]) -> list[str]:
    """A sentence for each value of each axis: what it did to the target's bits per byte."""
    return [
        f"{axis} {found.value} against {axes[axis][0]}: {_signed(found.mean, TARGET)} {TARGET} ({judged(found)})"
        for axis in varied(axes, rows)
        for found in differences(rows, axis, axes[axis], TARGET)
    ]


def judged(found: Difference) -> str:
    """Whether a difference is more than noise, in words."""
    if math.isnan(found.p):
        return "one seed: no telling"
    chance = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return f"larger than noise, {chance}" if found.is_larger_than_noise else f"within noise, {chance}"


def _sections(
    name: str, axes: Axes, rows: Sequence[Row], measures: list[str], cells: int, match: str, drawn: Sequence[Path]
) -> Iterator[str]:
    yield f"# Study {name}"
    yield (
        f"{len(rows)} of {cells} runs. All are trained on as many {match}. Intervals are 95%, from the seeds alone; "
        "differences are between runs that differ in nothing else (docs/study.md)."
    )
    if found := verdicts(axes, rows):
        yield "\n".join(f"- {sentence}" for sentence in found)
    for path in drawn:
        yield f"![{path.stem}](plots/{path.name})"
    scores = [measure for measure in measures if measure != SECONDS]
    for axis in varied(axes, rows):
        yield f"## {axis}"
        yield _axis_table(rows, axis, axes[axis], scores)
    for one, other in itertools.combinations(varied(axes, rows), 2):
        yield f"## {one} and {other}: {TARGET}"
        yield _two_axes(rows, axes, one, other)
    yield "## All cells"
    yield table(
        [*axes, *measures],
        [
            [*values, *(shown(of.get(values), measure) for measure, of in _by_measure(rows, measures).items())]
            for values in dict.fromkeys(row.others() for row in rows)
        ],
    )


def _axis_table(rows: Sequence[Row], axis: str, values: Sequence[str], measures: Sequence[str]) -> str:
    """Means by value, and below them the differences to the first."""
    means = {measure: by_value(rows, axis, measure) for measure in measures}
    values = [value for value in values if any(row.values[axis] == value for row in rows)]
    lines = [[value, *(shown(means[measure].get((value,)), measure) for measure in measures)] for value in values]
    found = {measure: {each.value: each for each in differences(rows, axis, values, measure)} for measure in measures}
    for value in values[1:]:
        cells = [found[measure].get(value) for measure in measures]
        lines.append(
            [
                f"{value} less {values[0]}",
                *(
                    f"{_signed(each.mean, measure)}{'*' * each.is_larger_than_noise}" if each else "-"
                    for each, measure in zip(cells, measures, strict=True)
                ),
            ]
        )
    return table([axis, *measures], lines) + "\n\n\\* larger than noise (p < 0.05 after Holm)"


def _two_axes(rows: Sequence[Row], axes: Axes, one: str, other: str) -> str:
    means = by_value(rows, one, TARGET, other)
    columns = [value for value in axes[other] if any(key[1] == value for key in means)]
    lines = [
        [value, *(shown(means.get((value, column)), TARGET) for column in columns)]
        for value in axes[one]
        if any(key[0] == value for key in means)
    ]
    return table([f"{one} \\ {other}", *columns], lines)


def _by_measure(rows: Sequence[Row], measures: Sequence[str]) -> dict[str, Mapping[tuple[str, ...], Mean]]:
    return {measure: summary(rows, measure) for measure in measures}


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown(mean: Mean | None, measure: str) -> str:
    """A mean with its interval."""
    if mean is None:
        return "-"
    digits = DIGITS.get(measure, USUAL)
    half = "" if math.isnan(mean.half) else f" ± {mean.half:,.{digits}f}"
    return f"{mean.value:,.{digits}f}{half}"


def _signed(mean: Mean, measure: str) -> str:
    text = shown(mean, measure)
    return text if text.startswith("-") else f"+{text}"
