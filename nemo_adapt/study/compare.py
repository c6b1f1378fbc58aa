"""Statistics of a study: means over seeds, and paired differences tested against the noise between seeds.

Two values of an axis are compared within pairs of runs that are otherwise equal, including the seed. The effect may
differ between combinations of the other axes. Noise is what differs between seeds: all combinations share them, with
the order of the text and the draws that a seed decides, so the seed is the unit, and k combinations of n seeds are no
k * n independent runs. With m the mean of a seed's differences over all combinations, the effect is the mean of m, and
its interval Student's t of the n values m, with n - 1 degrees of freedom. For several values of an axis, p-values are
corrected by Holm's method (1979).

Of an unfinished study, combinations have different seeds. Each difference r, less the mean of its combination of c
seeds, then counts as ``r * sqrt(c / (c - 1))``, as in cluster-robust errors (Bell and McCaffrey 2002, CR2); the error
is the root mean square over seeds of their means of these, times that of the weights of the seeds in the effect.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nemo_adapt.study.results import DIGITS, Row

LEVEL = 0.05
"""Significance level: a difference with a smaller p-value is larger than noise."""
ROUNDING = 1e-9
"""Smaller differences are rounding errors of sums in another order, and never larger than noise."""
Groups = Sequence[Mapping[int, float]]
"""Seed -> value, for each combination of the axes."""
Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True)
class Mean:
    """A mean with the half width of its 95% interval, which is NaN if no combination has two seeds, and for a task
    on which all seeds agree."""

    value: float
    half: float
    runs: int


@dataclass(frozen=True)
class Difference:
    """The effect of a value of an axis on one measure, relative to the axis's first value."""

    value: str
    mean: Mean
    p: float
    """p-value under noise between seeds alone, Holm-corrected; NaN if there is no interval."""

    @property
    def is_larger_than_noise(self) -> bool:
        """Whether it is significant at ``LEVEL``."""
        return self.p < LEVEL


def summary(rows: Sequence[Row], measure: str) -> dict[tuple[str, ...], Mean]:
    """Return the mean over seeds of each combination of all axes."""
    coarse = is_coarse(measure)
    return {
        values: effect([found], coarse) for values, found in grouped(rows, measure, lambda row: row.others()).items()
    }


def by_value(rows: Sequence[Row], axis: str, measure: str, *also: str) -> dict[tuple[str, ...], Mean]:
    """Return the mean of each value of ``axis`` (and of the axes ``also``) over the other axes' combinations that were
    run with all these values; if there are none, over the value's own combinations."""
    coarse = is_coarse(measure)
    return {key: effect(list(of.values()), coarse) for key, of in _balanced(rows, axis, measure, *also).items()}


def differences(rows: Sequence[Row], axis: str, values: Sequence[str], measure: str) -> list[Difference]:
    """Compare each of the ``values`` of ``axis`` with the first of them; those without a pair are left out."""
    return list(_tested(_pairs(rows, axis, values, measure), measure).values())


def differences_within(
    rows: Sequence[Row], axis: str, values: Sequence[str], measure: str, other: str
) -> dict[tuple[str, str], Difference]:
    """Compare them for each value of the axis ``other`` separately: (value of ``other``, value of ``axis``) ->
    difference. Holm's correction is over all of them."""
    groups: dict[tuple[str, str], Groups] = {}
    for held in dict.fromkeys(row.values[other] for row in rows):
        own = [row for row in rows if row.values[other] == held]
        groups |= {(held, value): found for value, found in _pairs(own, axis, values, measure).items()}
    return _tested(groups, measure)


def against_base(rows: Sequence[Row], axis: str, values: Sequence[str], measure: str) -> dict[str, Difference]:
    """Return the effect of adaptation by value of ``axis``: runs minus their bases, over the combinations of the other
    axes that were run with all ``values``."""
    less = [
        Row(row.values, row.seed, {measure: row.measures[measure] - row.base[measure]})
        for row in rows
        if row.values[axis] in values and measure in row.measures and measure in row.base
    ]
    groups = {key[0]: list(of.values()) for key, of in _balanced(less, axis, measure).items()}
    return _tested(groups, measure)


def _balanced(
    rows: Sequence[Row], axis: str, measure: str, *also: str
) -> dict[tuple[str, ...], dict[tuple[str, ...], dict[int, float]]]:
    """Group values by (``axis``, ``also``), then by combination of the other axes: those that all values of the former
    have or, if there are none, all."""
    split = {
        key: grouped(found, measure, lambda row: row.others(axis, *also))
        for key, found in _rows_by(rows, measure, lambda row: tuple(row.values[name] for name in (axis, *also))).items()
    }
    common = set.intersection(*(set(found) for found in split.values())) if split else set()
    return {
        key: {others: values for others, values in found.items() if others in common or not common}
        for key, found in split.items()
    }


def _pairs(rows: Sequence[Row], axis: str, values: Sequence[str], measure: str) -> dict[str, Groups]:
    """Return, for each of the ``values`` but the first, its differences to the first by combination of other axes."""
    places = {(row.values[axis], row.others(axis), row.seed): row for row in rows if measure in row.measures}
    found: dict[str, Groups] = {}
    for value in values[1:]:
        pairs: dict[tuple[str, ...], dict[int, float]] = defaultdict(dict)
        for (_, others, seed), row in ((key, row) for key, row in places.items() if key[0] == value):
            first = places.get((values[0], others, seed))
            if first:
                pairs[others][seed] = row.measures[measure] - first.measures[measure]
        if pairs:
            found[value] = list(pairs.values())
    return found


def _tested(groups: Mapping[Key, Groups], measure: str) -> dict[Key, Difference]:
    """Return the effect of each group and its p-value, corrected for their number."""
    coarse = is_coarse(measure)
    corrected = holm([p_value(each, coarse) for each in groups.values()])
    return {
        key: Difference(key if isinstance(key, str) else key[-1], effect(each, coarse), p)
        for (key, each), p in zip(groups.items(), corrected, strict=True)
    }


def is_coarse(measure: str) -> bool:
    """Return whether a measure is a task's: a multiple of one example's share, so that few seeds may agree by chance.
    Of others, seeds that agree say that nothing depends on the seed."""
    return measure not in DIGITS


def effect(groups: Groups, coarse: bool = False) -> Mean:
    """Return the mean of the groups' means with its interval (formula in the module's docstring).

    If ``coarse``, it has none where all seeds agree."""
    from scipy import stats

    mean, error, freedom = _estimate(groups, coarse)
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error if freedom else math.nan
    return Mean(mean, half, sum(map(len, groups)))


def p_value(groups: Groups, coarse: bool = False) -> float:
    """Return the two-sided p-value of the hypothesis that the effect is zero; NaN where there is no interval."""
    from scipy import stats

    mean, error, freedom = _estimate(groups, coarse)
    if not freedom:
        return math.nan
    if abs(mean) < ROUNDING:
        return 1.0
    if not error:
        return 0.0
    return float(2 * stats.t.sf(abs(mean) / error, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for multiple comparisons (Holm 1979); NaN, which is no comparison, stays NaN."""
    count = len(p_values) - sum(map(math.isnan, p_values))
    order, corrected, largest = np.argsort(p_values), [math.nan] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (count - place) * p_values[index]))
        corrected[index] = math.nan if math.isnan(p_values[index]) else largest
    return corrected


def grouped(
    rows: Sequence[Row], measure: str, key: Callable[[Row], tuple[str, ...]]
) -> dict[tuple[str, ...], dict[int, float]]:
    """Return seed -> value of a measure, grouped by ``key``, in order."""
    return {name: {row.seed: row.measures[measure] for row in of} for name, of in _rows_by(rows, measure, key).items()}


def _rows_by(
    rows: Sequence[Row], measure: str, key: Callable[[Row], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Row]]:
    """Return the rows that have a measure, grouped by ``key``, in order."""
    found: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if measure in row.measures:
            found[key(row)].append(row)
    return found


def _estimate(groups: Groups, coarse: bool) -> tuple[float, float, int]:
    """Return the mean of the groups' means, its standard error (NaN if unknown) and its degrees of freedom."""
    means = [float(np.mean(list(group.values()))) for group in groups]
    weights: dict[int, float] = defaultdict(float)  # of each seed in the mean
    away: dict[int, list[float]] = defaultdict(list)
    for group, mean in zip(groups, means, strict=True):
        count = len(group)
        for seed, value in group.items():
            weights[seed] += 1 / (count * len(groups))
            if count > 1:
                away[seed].append((value - mean) * math.sqrt(count / (count - 1)))
    variance = np.mean([np.mean(each) ** 2 for each in away.values()]) if away else math.nan
    error = math.sqrt(variance * sum(weight**2 for weight in weights.values()))
    if error < ROUNDING:
        error = 0.0
    return float(np.mean(means)), error, 0 if coarse and not error else max(0, len(away) - 1)
