"""The report of a study: study.json, study.csv, plots, study.md and the page study.html."""

import csv
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nemo_adapt.evaluate import pages
from nemo_adapt.evaluate.tables import Table
from nemo_adapt.files import write_json
from nemo_adapt.machine.facts import versions
from nemo_adapt.study import plots, tables
from nemo_adapt.study.compare import differences
from nemo_adapt.study.plots import Picture
from nemo_adapt.study.results import LOST, SECONDS, TARGET, TOKENS, Row
from nemo_adapt.study.tables import Axes

ABOUT_TWO = (TARGET, TOKENS, LOST)
"""Measures with a table for each pair of axes; except for ``TARGET``, only if both axes change the measure."""


@dataclass(frozen=True)
class Section:
    """A heading, a note, plots, and tables with their titles."""

    title: str
    note: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[tuple[str, Table]] = field(default_factory=list)


def write(
    name: str,
    axes: Axes,
    rows: Sequence[Row],
    cells: int,
    match: str,
    out: Path,
    failed: Mapping[str, str] | None = None,
) -> str:
    """Write all files into ``out`` and return the Markdown. ``cells`` is the number of cells in the whole study;
    ``failed``: cell -> error."""
    measures, among = tables.measures_of(rows), tables.varied(axes, rows)
    found = {
        axis: {measure: list(map(asdict, differences(rows, axis, axes[axis], measure))) for measure in measures}
        for axis in among
    }
    about = {"name": name, "axes": axes, "cells": cells, "match": match, "failed": failed or {}, "versions": versions()}
    write_json(out / "study.json", {**about, "rows": list(map(asdict, rows)), "differences": found})
    with (out / "study.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*axes, "seed", *measures])
        writer.writerows([*row.values.values(), row.seed, *map(row.measures.get, measures)] for row in rows)
    view = {
        **about,
        "runs": len(rows),
        "hours": sum(row.measures.get(SECONDS, 0.0) for row in rows) / 3600,
        "verdicts": tables.verdicts(axes, rows),
        "sections": list(sections(axes, rows, out)),
    }
    return pages.write("study", "nemo_adapt.study", view, out)["study.md"]


def sections(axes: Axes, rows: Sequence[Row], out: Path) -> Iterator[Section]:
    """Yield all sections below the verdicts, in order; draw their plots into ``out / plots``."""
    among, folder = tables.varied(axes, rows), out / plots.FOLDER
    shutil.rmtree(folder, ignore_errors=True)  # an earlier report may have had other axes
    folder.mkdir()
    gains = tables.gains(axes, rows)
    if gains.rows:
        yield Section("Against the base", "Each run less its base, before anything was done to it.", (), [("", gains)])
    for axis in among:
        shown = {"": tables.quality(axes, rows, axis), "What text costs": tables.efficiency(axes, rows, axis)}
        drawn = plots.of_axis(axes, rows, axis, folder)
        yield Section(axis, "", drawn, [(title, table) for title, table in shown.items() if table.rows])
    for one, other in itertools.combinations(among, 2):
        both = [
            (measure, tables.two_axes(axes, rows, one, other, measure))
            for measure in ABOUT_TWO
            if measure == TARGET or all(tables.changes(rows, axis, measure) for axis in (one, other))
        ]
        note = f"Marked is what differs from the first {other} of its line."
        yield Section(f"{one} and {other}", note, plots.of_two(axes, rows, one, other, folder), both)
    yield Section("All cells", "", (), [("", tables.all_cells(axes, rows))])
