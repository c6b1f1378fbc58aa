"""Input and output of a strategy, which knows no devices, process groups or model files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from nemo_adapt.config import ResizeConfig
from nemo_adapt.console.progress import OnProgress
from nemo_adapt.families.family import INPUT
from nemo_adapt.registry import Registry
from nemo_adapt.resize.combine import Row, combination, pieces
from nemo_adapt.tokens.token_map import TokenMap

NOISE_KINDS = ("unit", "diagonal", "covariance")


@dataclass(frozen=True)
class Noise:
    """Normal noise in new rows: ``scale`` times numbers with the variance of ``kind``.

    ``unit``: variance 1; ``diagonal``: that of each column of the source table; ``covariance``: its full covariance.
    """

    kind: str
    scale: float = 1.0


@dataclass(frozen=True)
class RowPlan:
    """New rows = ``combination @ source + mean_share * mean(source) + noise``, then scaled to a norm if one is set.

    ``combination`` is [new rows, source rows], float32; mean and covariance are over all kept source rows.
    ``mean_share`` is one number, or one per new row. ``norm_of`` [source rows] are weights, none negative: every new
    row gets the weighted mean of the source rows' Euclidean norms; a row of zeros has no direction and stays zero.
    """

    combination: csr_matrix
    mean_share: float | npt.NDArray[np.float32] = 0.0
    noise: Noise | None = None
    norm_of: npt.NDArray[np.float64] | None = None

    @property
    def new_rows(self) -> int:
        """Number of rows to make."""
        return int(self.combination.shape[0])


@dataclass(frozen=True)
class Materials:
    """The input of a strategy."""

    token_map: TokenMap
    table: str = INPUT
    """``input`` (also for tied models) or ``output``."""
    seed: int = 0
    initializer_range: float = 0.02
    """Standard deviation with which the base model's tables were initialized (``config.json``; 0.02 is Llama's)."""
    settings: ResizeConfig = field(default_factory=ResizeConfig)
    """Parameters of some strategies."""
    auxiliary: Mapping[str, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)
    """Each of the strategy's ``needs`` -> arrays (``nemo_adapt.auxiliary`` defines which)."""

    def empty_combination(self) -> csr_matrix:
        """Return the empty combination, for a strategy that uses no single source row."""
        return csr_matrix((len(self.token_map.tokens), self.token_map.source_vocab), dtype="float32")


MakePlan = Callable[[Materials], RowPlan]
Indices = npt.NDArray[np.int64]
MakeRows = Callable[[Materials, Indices], Iterable[tuple[int, Row]]]
"""Yields indices of new tokens among the given ones (ascending), each with its row."""


@dataclass(frozen=True)
class Strategy:
    """A strategy's function, and the kinds of auxiliary data that it needs, made beforehand from text or files."""

    plan: MakePlan
    needs: tuple[str, ...] = ()
    make_rows: MakeRows | None = None
    """For a plan that takes long: it depends neither on the table nor on the seed, and makes each row for itself, so
    that it is made once and ranks share the work."""


strategies: Registry[Strategy] = Registry("resize strategy")


def strategy(name: str, needs: tuple[str, ...] = ()) -> Callable[[MakePlan], MakePlan]:
    """Decorator: register a function as the strategy ``name``."""

    def enter(plan: MakePlan) -> MakePlan:
        strategies.register(name)(Strategy(plan, needs))
        return plan

    return enter


def strategy_by_rows(name: str, needs: tuple[str, ...] = ()) -> Callable[[MakeRows], MakeRows]:
    """Decorator: register a function as the strategy ``name`` whose rows are those of ``combine_rows``."""

    def enter(make_rows: MakeRows) -> MakeRows:
        @wraps(make_rows)
        def plan(materials: Materials) -> RowPlan:
            return RowPlan(combine_rows(make_rows, materials, np.arange(len(materials.token_map.tokens))))

        strategies.register(name)(Strategy(plan, needs, make_rows))
        return make_rows

    return enter


def combine_rows(
    make_rows: MakeRows, materials: Materials, wanted: Indices, made: OnProgress = lambda rows: None
) -> csr_matrix:
    """Return the combinations of the ``wanted`` new tokens (indices, ascending), [wanted, source rows].

    A token for which ``make_rows`` yields nothing is the mean of its pieces. ``made(1)`` is called after each row.
    """
    rows = {int(index): pieces(materials.token_map.tokens[index]) for index in wanted}
    for index, row in make_rows(materials, wanted):
        rows[int(index)] = row
        made(1)
    return combination(rows.values(), materials.token_map.source_vocab)


def needs_of(*names: str) -> list[str]:
    """Return the kinds of auxiliary data that the strategies ``names`` need; ``UserError`` for an unknown strategy."""
    return sorted({need for name in names for need in strategies.get(name).needs})
