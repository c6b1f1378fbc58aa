"""The results of a study's runs: a row of measures for each run, and the same measures of its base."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_adapt.config import Config
from nemo_adapt.evaluate import tables
from nemo_adapt.study.cells import Cell
from nemo_adapt.training_files import HELD_OUT, records

TARGET, REFERENCE, LOST = "bits/byte, target", "bits/byte, reference", "bits/byte, reference, less the base's"
TOKENS, PER_SENTENCE = "tokens against reference", "tokens per sentence"
NEW_SHARE, LENGTH, SPEED = "new tokens written (%Gen)", "tokens per text written", "texts written per second"
SECONDS = "training seconds"
EFFICIENCY = (TOKENS, PER_SENTENCE, NEW_SHARE, LENGTH, SPEED)
"""Measures of efficiency (the cost of text) rather than quality."""
DIGITS = {
    **{TARGET: 4, REFERENCE: 4, LOST: 4},
    **{TOKENS: 3, PER_SENTENCE: 1, NEW_SHARE: 1, LENGTH: 1, SPEED: 2, SECONDS: 0},
}
"""Decimals shown of a measure; those of tasks have ``USUAL``."""
USUAL = 1


@dataclass(frozen=True)
class Row:
    """The measures of one run."""

    values: Mapping[str, str]
    """Axis -> value."""
    seed: int
    measures: Mapping[str, float]
    curve: list[tuple[float, float]] = field(default_factory=list)
    """(Bytes of text seen, bits per byte of the target's held-out text) during training; empty if not scored."""
    base: Mapping[str, float] = field(default_factory=dict)
    """The same measures of the unmodified base, as far as it has them."""

    def others(self, *axes: str) -> tuple[str, ...]:
        """Return its values on all axes except ``axes``."""
        return tuple(value for axis, value in self.values.items() if axis not in axes)


def read(cell: Cell, folder: Path, config: Config) -> Row:
    """Read the row of a finished run in ``folder``."""
    report = _json(folder / "evaluate" / "report.json")
    target = config.evaluate.target or report["target"]
    reference = config.tokenizer.reference
    base, adapted = (_measures(report, name, target, reference) for name in ("base", "adapted"))
    if REFERENCE in adapted:
        adapted[LOST] = adapted[REFERENCE] - base[REFERENCE]
    adapted[SECONDS] = report["training"]["seconds"]
    return Row(cell.values, cell.seed, adapted, _curve(folder / "train", target), base)


def _measures(report: Mapping[str, Any], model: str, target: str, reference: str) -> dict[str, float]:
    """Return the measures of one model; accuracies and the share of new tokens are in percent."""
    bits = report["bits_per_byte"][model]
    found = {TARGET: bits[target]}
    if reference in bits and reference != target:
        found[REFERENCE] = bits[reference]
    for task, score in report["tasks"].get(model, {}).items():
        metric = report["task_scores"][model][task]["metric"]
        title = f"{tables.task_name(task, report['task_list'][task])}, {tables.METRICS[metric]}"
        found[title] = tables.scale(metric) * score
    for row in report["fertility"]:
        if (row["tokenizer"], row["language"]) == (report["tokenizers"][model], target):
            found[PER_SENTENCE] = row["tokens"] / row["sentences"]
            if row["tokens_vs_reference"]:
                found[TOKENS] = row["tokens_vs_reference"]
    written = report["generation"].get(model, {}).get(target)
    if written:
        found[NEW_SHARE] = 100 * written["new_share"]
        found[LENGTH] = written["tokens"] / written["examples"]
        found[SPEED] = written["examples_per_second"]
    return found


def _curve(train: Path, target: str) -> list[tuple[float, float]]:
    """Return the held-out scores of a training with the bytes seen so far (``Row.curve``)."""
    scores = ((score["bytes"], score["bits_per_byte"].get(target)) for score in records(train / HELD_OUT, whole=True))
    return [(size, bits) for size, bits in scores if bits is not None]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
