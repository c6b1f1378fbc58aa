"""The cells of a study: every combination of the axes' values, times every seed."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from omegaconf import DictConfig

from nemo_adapt.config import Config, StudyConfig, recipes
from nemo_adapt.config.bounds import check_numbers
from nemo_adapt.config.phases import BUDGETS
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

CONDITION = re.compile(r"([^!=\s]+)(!?=)(\S+)")
SEEDS = ("train.seed", "resize.seed")
"""Config keys to which a cell's seed is added."""
NOT_OF_CELLS = ("recipe=", "run.", "run=", "study.", "study=")
"""Prefixes of words that all cells of a study share: a cell is a run of the study's recipe, in the study's folder."""


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    values: Mapping[str, str]
    """Axis -> value."""
    seed: int
    words: tuple[str, ...]
    """``key=value`` words that the cell's values add to the recipe's; the last word for a key wins."""

    @property
    def values_key(self) -> tuple[str, ...]:
        """The combination of values, without the seed."""
        return tuple(self.values.values())

    @property
    def name(self) -> str:
        """The name of the cell's folder."""
        parts = [*self.values.values(), f"seed{self.seed}"]
        return "-".join(re.sub(r"[^\w.+]", "_", part) for part in parts)


def cells(study: StudyConfig) -> list[Cell]:
    """Return all cells except those in ``leave_out``, ordered by seed.

    A study that is stopped early then has all combinations with the first seed rather than some with all seeds. Raises
    ``UserError`` for invalid counts, a study without axes, and conditions on unknown axes or values.
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
        if of_all := [word for word in words if word.startswith(NOT_OF_CELLS)]:
            raise UserError(f"study.axes: {of_all[0]} cannot differ between cells: name the keys that do, one by one")
        found.append(Cell(values, seed, words))
    if len({cell.name for cell in found}) < len(found):
        raise UserError("study.axes: two cells would have the same folder: give their values clearly different names")
    return found


def check(cell: Cell, config: Config, match: str) -> None:
    """Raise ``UserError`` unless all phases of the cell's training have their budget in ``match`` (bytes or tokens)."""
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
    """The configuration of a combination of values, and its tree before interpolations are resolved."""

    config: Config
    tree: DictConfig


def configuration(cell: Cell, recipe: str, words: list[str]) -> Composed:
    """Compose the configuration of all cells with this cell's values; ``UserError``, also for a number out of its
    bounds, names the cell."""
    try:
        tree = recipes.composed(recipe, [*words, *cell.words])
        config = recipes.with_values(tree, {})
        check_numbers(config)
        return Composed(config, tree)
    except UserError as error:
        raise UserError(f"study: cell {cell.name}: {error}") from None


def seeded(cell: Cell, config: Config) -> dict[str, int]:
    """Return the config keys and values that set the seed of a cell's run."""
    given = {"train.seed": config.train.seed, "resize.seed": config.resize.seed}
    return {key: given[key] + cell.seed for key in SEEDS}


def _conditions(text: str, study: StudyConfig) -> list[tuple[str, bool, str]]:
    """Parse ``axis=value axis!=value`` into (axis, whether it must equal the value, value)."""
    found = []
    for part in text.split():
        match = CONDITION.fullmatch(part)
        if not match:
            raise UserError(f"study.leave_out: {part!r} is not of the form axis=value or axis!=value")
        axis, sign, value = match.groups()
        if axis not in study.axes:
            raise UserError(f"study.leave_out: {axis!r} is not an axis.{nearest(axis, study.axes)}")
        if value not in study.axes[axis]:
            raise UserError(f"study.leave_out: {value!r} is not a value of {axis}.{nearest(value, study.axes[axis])}")
        found.append((axis, sign == "=", value))
    return found
