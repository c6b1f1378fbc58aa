"""Results of a probe: means and spreads over seeds, as a printed table, JSON, CSV, Markdown and a plot."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nemo_adapt.console.printed import print_table
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json

Result = dict[str, Any]


def collect(runs: Sequence[Result], points: Sequence[int], language: str, size: int) -> Result:
    """Return the content of probe.json: rows by strategy, best first, the runs, and the ``chosen`` strategy.

    A row's ``mean`` and ``spread`` (sample standard deviation over seeds, 0 for one seed) map steps to bits per byte,
    ``None`` if a seed's training diverged before. The best row has the lowest mean after the last step; ``UserError``
    if no row has one. ``size``: bytes of the held-out text.
    """
    rows = []
    for name in dict.fromkeys(run["strategy"] for run in runs):
        own = [run["bits_per_byte"] for run in runs if run["strategy"] == name]
        values = {str(at): [run[str(at)] for run in own] for at in points}
        whole = {at: None not in found for at, found in values.items()}
        rows.append(
            {
                "strategy": name,
                "seeds": len(own),
                "mean": {at: float(np.mean(found)) if whole[at] else None for at, found in values.items()},
                "spread": {at: _spread(found) if whole[at] else None for at, found in values.items()},
            }
        )
    last = str(points[-1])
    rows.sort(key=lambda row: np.inf if row["mean"][last] is None else row["mean"][last])
    if not rows or rows[0]["mean"][last] is None:
        raise UserError("probe: no strategy reached the last step with a finite loss; lower the learning rate")
    facts = {"language": language, "bytes": size, "points": list(points), "chosen": rows[0]["strategy"]}
    return {**facts, "rows": rows, "runs": list(runs)}


def write(result: Result, out: Path) -> None:
    """Write ``probe.json``, ``probe.csv``, ``probe.md`` and ``probe.png`` into ``out``."""
    from nemo_adapt.probe.plot import curves

    write_json(out / "probe.json", result)
    with (out / "probe.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["strategy", "seed", *(f"step {at}" for at in result["points"])])
        for run in result["runs"]:
            writer.writerow([run["strategy"], run["seed"], *(run["bits_per_byte"][str(at)] for at in result["points"])])
    (out / "probe.md").write_text(markdown(result), encoding="utf-8")
    curves(result, out / "probe.png")


def markdown(result: Result) -> str:
    """Return the table in Markdown."""
    headings = ["strategy", *(f"after {at} steps" for at in result["points"])]
    lines = [headings, ["---", *("---:" for _ in result["points"])], *_cells(result)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(result: Result) -> None:
    """Print the table and the choice."""
    print_table(["strategy", *(f"after {at}" for at in result["points"])], _cells(result), texts=1)
    print(f"bits per byte on {result['bytes']:,} held-out bytes ({result['language']}); best: {result['chosen']}")


def _cells(result: Result) -> list[list[str]]:
    """Return the table's cells: a row per strategy with its name, then mean and spread by step."""
    return [
        [row["strategy"], *(_shown(row["mean"][str(at)], row["spread"][str(at)]) for at in result["points"])]
        for row in result["rows"]
    ]


def _shown(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.3f} ± {spread:.3f}" if spread else f"{mean:.3f}"


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
