"""What the runs of a study found: a row of measures for each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_adapt.config import Config
from nemo_adapt.study.cells import Cell

TARGET, REFERENCE, LOST = "bits/byte, target", "bits/byte, reference", "bits/byte, reference, less the base's"
TOKENS = "tokens against reference"
SECONDS = "training seconds"
DIGITS = {TOKENS: 3, SECONDS: 0}
"""Decimals of a measure; others have ``USUAL``."""
USUAL = 4


@dataclass(frozen=True)
class Row:
    """One run."""

    values: Mapping[str, str]
    """Axis -> value."""
    seed: int
    measures: Mapping[str, float]
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Bytes of text seen, and bits per byte of the target's held-out text then; empty where it was not scored."""

    def others(self, *axes: str) -> tuple[str, ...]:
        """Its values but for those of ``axes``."""
        return tuple(value for axis, value in self.values.items() if axis not in axes)


def read(cell: Cell, folder: Path, config: Config) -> Row:
    """The row of a run that is done."""
    report = _json(folder / "evaluate" / "report.json")
    target = config.evaluate.target or report["target"]
    reference = config.tokenizer.reference
    bits = report["bits_per_byte"]
    measures = {TARGET: bits["adapted"][target]}
    if reference in bits["adapted"] and reference != target:
        measures[REFERENCE] = bits["adapted"][reference]
        measures[LOST] = bits["adapted"][reference] - bits["base"][reference]
    for row in report.get("fertility") or []:
        if row.get("tokenizer") == "extended" and row.get("language") == target and row.get("tokens_vs_reference"):
            measures[TOKENS] = row["tokens_vs_reference"]
    measures |= report.get("tasks", {}).get("adapted", {})
    measures[SECONDS] = report["training"]["seconds"]
    return Row(cell.values, cell.seed, measures, _curve(folder / "train", target))


def _curve(train: Path, target: str) -> list[tuple[float, float]]:
    """The held-out scores of a training with the bytes that it had seen."""
    seen = {record["step"]: record["bytes"] for record in _lines(train / "metrics.jsonl")}
    scores = ((record["step"], record["bits_per_byte"].get(target)) for record in _lines(train / "held_out.jsonl"))
    return [(seen[step], bits) for step, bits in scores if step in seen and bits is not None]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _lines(path: Path) -> list[Any]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
