"""What a strategy is given and what it answers. It knows no device, process group or file of a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from nemo_adapt.config import ResizeConfig
from nemo_adapt.families.family import INPUT
from nemo_adapt.registry import Registry
from nemo_adapt.token_map import TokenMap

NOISE_KINDS = ("unit", "diagonal", "covariance")


@dataclass(frozen=True)
class Noise:
    """Normal noise in new rows: ``scale`` times numbers of unit variance (``unit``), of each column's standard
    deviation in the source table (``diagonal``), or of its full covariance (``covariance``)."""

    kind: str
    scale: float = 1.0


@dataclass(frozen=True)
class RowPlan:
    """New rows = ``combination @ source + mean_share * mean(source) + noise``, then scaled to a norm if one is set.

    ``combination`` is [new rows, source rows], float32; mean and covariance are taken over all source rows.
    ``mean_share`` is one number, or one for each new row. ``norm_of`` [source rows] are weights, none below zero: every
    new row gets the weighted mean of the source rows' Euclidean norms; a row of zeros has no direction and stays zero.
    """

    combination: csr_matrix
    mean_share: float | npt.NDArray[np.float32] = 0.0
    noise: Noise | None = None
    norm_of: npt.NDArray[np.float64] | None = None

    @property
    def new_rows(self) -> int:
        """Number of rows to be made."""
        return int(self.combination.shape[0])


@dataclass(frozen=True)
class Materials:
    """What a strategy may look at."""

    token_map: TokenMap
    table: str = INPUT
    """``input`` (also for tied models) or ``output``."""
    seed: int = 0
    initializer_range: float = 0.02
    """Standard deviation with which the base model's tables were initialized (``config.json``; 0.02 is Llama's)."""
    settings: ResizeConfig = field(default_factory=ResizeConfig)
    """Numbers that some strategies have a choice of."""
    auxiliary: Mapping[str, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)
    """What the strategy's ``needs`` stand for: name -> arrays (``nemo_adapt.auxiliary`` says which)."""

    def nothing_from_rows(self) -> csr_matrix:
        """The combination of a strategy that looks at no single source row."""
        return csr_matrix((len(self.token_map.tokens), self.token_map.source_vocab), dtype="float32")


MakePlan = Callable[[Materials], RowPlan]


@dataclass(frozen=True)
class Strategy:
    """A strategy's function, and the names of what it needs made from text or files beforehand."""

    plan: MakePlan
    needs: tuple[str, ...] = ()


strategies: Registry[Strategy] = Registry("resize strategy")


def strategy(name: str, needs: tuple[str, ...] = ()) -> Callable[[MakePlan], MakePlan]:
    """Decorator: enter a function as the strategy ``name``."""

    def enter(plan: MakePlan) -> MakePlan:
        strategies.register(name)(Strategy(plan, needs))
        return plan

    return enter


def needs_of(*names: str) -> list[str]:
    """Kinds of auxiliary data that the strategies ``names`` need; ``UserError`` for an unknown one."""
    return sorted({need for name in names for need in strategies.get(name).needs})
