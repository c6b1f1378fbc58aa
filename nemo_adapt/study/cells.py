"""The cells of a study: every combination of the axes' values, with every seed."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from omegaconf import DictConfig

from nemo_adapt import recipes
from nemo_adapt.config import Config, StudyConfig
from nemo_adapt.errors import UserError
from nemo_adapt.phases import BUDGETS
from nemo_adapt.registry import nearest

CONDITION = re.compile(r"([^!=\s]+)(!?=)(\S+)")
SEEDS = ("train.seed", "resize.seed")
"""What a seed is added to."""


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    values: Mapping[str, str]
    """Axis -> value."""
    seed: int
    words: tuple[str, ...]
    """What the axes add to the recipe's words; the last word of a key counts."""

    @property
    def values_key(self) -> tuple[str, ...]:
        """Its combination of values."""
        return tuple(self.values.values())

    @property
    def name(self) -> str:
        """The name of its folder."""
        parts = [*self.values.values(), f"seed{self.seed}"]
        return "-".join(re.sub(r"[^\w.+]", "_", part) for part in parts)


def cells(study: StudyConfig) -> list[Cell]:
    """All cells, without those that are left out; all with the first seed come first, so that a study that is stopped
    has them all rather than some with all seeds.

    ``UserError`` for a study without axes, and for conditions that name no axis or value.
    """
    if not study.axes or not all(study.axes.values()):
        raise UserError("study.axes is empty: say what is varied, as study.axes={AXIS: {VALUE: [key=value]}}")
    if study.seeds < 1 or study.processes < 1:
        raise UserError(f"study.seeds={study.seeds} and study.processes={study.processes} must be at least 1")
    if study.array < 0:
        raise UserError(f"study.array={study.array} must be a number of tasks, or 0: no array")
    left_out = [_conditions(text, study) for text in study.leave_out]
    found = []
    for seed, chosen in itertools.product(range(study.seeds), list(itertools.product(*study.axes.values()))):
        values = dict(zip(study.axes, chosen, strict=True))
        if any(all((values[axis] == value) == same for axis, same, value in rule) for rule in left_out):
            continue
        words = tuple(word for axis, value in values.items() for word in study.axes[axis][value])
        found.append(Cell(values, seed, words))
    if len({cell.name for cell in found}) < len(found):
        raise UserError("study.axes: two cells would have the same folder: give their values clearly different names")
    return found


def check(cell: Cell, config: Config, match: str) -> None:
    """``UserError`` unless the cell's training has its budget in what all cells share."""
    if match not in ("bytes", "tokens"):
        raise UserError(f"study.match={match!r} is neither bytes nor tokens")
    for phase in config.train.phases:
        given = [name for name in BUDGETS if getattr(phase, name)]
        if given != [match]:
            budget = " and ".join(given) or "nothing"
            raise UserError(
                f"study.match={match}, but {cell.name} has a phase with a budget in {budget}: "
                f"write train.phases=[{{train: {phase.train}, {match}: ..., lr: ...}}]"
            )


class Composed(NamedTuple):
    """The configuration of a combination of values, also before its interpolations are resolved."""

    config: Config
    tree: DictConfig


def configuration(cell: Cell, recipe: str, words: list[str]) -> Composed:
    """The configuration of the cells that have a cell's values."""
    try:
        tree = recipes.composed(recipe, [*words, *cell.words])
        return Composed(recipes.with_values(tree, {}), tree)
    except UserError as error:
        raise UserError(f"study: cell {cell.name}: {error}") from None


def seeded(cell: Cell, config: Config) -> dict[str, int]:
    """The keys and values that give a run its seed."""
    given = {"train.seed": config.train.seed, "resize.seed": config.resize.seed}
    return {key: given[key] + cell.seed for key in SEEDS}


def _conditions(text: str, study: StudyConfig) -> list[tuple[str, bool, str]]:
    """``axis=value axis!=value`` as axis, whether it must be the value, and the value."""
    found = []
    for part in text.split():
        match = CONDITION.fullmatch(part)
        if not match:
            raise UserError(f"study.leave_out: {part!r} is not of the form axis=value or axis!=value")
        axis, sign, value = match.groups()
        if axis not in study.axes:
            raise UserError(f"study.leave_out: {axis!r} is no axis.{nearest(axis, study.axes)}")
        if value not in study.axes[axis]:
            raise UserError(f"study.leave_out: {value!r} is no value of {axis}.{nearest(value, study.axes[axis])}")
        found.append((axis, sign == "=", value))
    return found
