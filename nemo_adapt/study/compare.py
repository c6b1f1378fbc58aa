"""Statistics of a study: means over seeds, and paired differences tested against the noise between seeds.

Two values of an axis are compared within pairs of runs that are otherwise equal, including the seed. The effect may
differ between combinations of the other axes; noise is the variance between the seeds of a combination, pooled over all
combinations. With d the differences of a combination, n their number, m their mean and k combinations: the effect is
the mean of m, its variance is ``sum((d - m)**2) / sum(n - 1) * sum(1 / n) / k**2``, and its interval is Student's t
with ``sum(n - 1)`` degrees of freedom. For several values of an axis, p-values are corrected by Holm's method (1979).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nemo_adapt.study.results import Row

LEVEL = 0.05
"""Significance level: a difference with a smaller p-value is larger than noise."""
ROUNDING = 1e-9
"""Smaller differences are rounding errors of sums in another order, and never larger than noise."""
Groups = Sequence[Sequence[float]]
"""One group of values per combination of the axes; within a group only the seed differs."""
Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True)
class Mean:
    """A mean with the half width of its 95% interval, which is NaN if no combination has two seeds."""

    value: float
    half: float
    runs: int


@dataclass(frozen=True)
class Difference:
    """The effect of a value of an axis on one measure, relative to the axis's first value."""

    value: str
    mean: Mean
    p: float
    """p-value under noise between seeds alone, Holm-corrected; NaN if there is only one seed."""

    @property
    def is_larger_than_noise(self) -> bool:
        """Whether it is significant at ``LEVEL``."""
        return self.p < LEVEL


def summary(rows: Sequence[Row], measure: str) -> dict[tuple[str, ...], Mean]:
    """Return the mean over seeds of each combination of all axes."""
    return {values: effect([found]) for values, found in grouped(rows, measure, lambda row: row.others()).items()}


def by_value(rows: Sequence[Row], axis: str, measure: str, *also: str) -> dict[tuple[str, ...], Mean]:
    """Return the mean of each value of ``axis`` (and of the axes ``also``) over the other axes' combinations that were
    run with all these values; if there are none, over the value's own combinations."""
    return {key: effect(list(of.values())) for key, of in _balanced(rows, axis, measure, *also).items()}


def differences(rows: Sequence[Row], axis: str, values: Sequence[str], measure: str) -> list[Difference]:
    """Compare each of the ``values`` of ``axis`` with the first of them; those without a pair are left out."""
    return list(_tested(_pairs(rows, axis, values, measure)).values())


def differences_within(
    rows: Sequence[Row], axis: str, values: Sequence[str], measure: str, other: str
) -> dict[tuple[str, str], Difference]:
    """Compare them for each value of the axis ``other`` separately: (value of ``other``, value of ``axis``) ->
    difference. Holm's correction is over all of them."""
    groups: dict[tuple[str, str], Groups] = {}
    for held in dict.fromkeys(row.values[other] for row in rows):
        own = [row for row in rows if row.values[other] == held]
        groups |= {(held, value): found for value, found in _pairs(own, axis, values, measure).items()}
    return _tested(groups)


def against_base(rows: Sequence[Row], axis: str, values: Sequence[str], measure: str) -> dict[str, Difference]:
    """Return the effect of adaptation by value of ``axis``: runs minus their bases, over the combinations of the other
    axes that were run with all ``values``."""
    less = [
        Row(row.values, row.seed, {measure: row.measures[measure] - row.base[measure]})
        for row in rows
        if row.values[axis] in values and measure in row.measures and measure in row.base
    ]
    groups = {key[0]: list(of.values()) for key, of in _balanced(less, axis, measure).items()}
    return _tested(groups)


def _balanced(
    rows: Sequence[Row], axis: str, measure: str, *also: str
) -> dict[tuple[str, ...], dict[tuple[str, ...], list[float]]]:
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
        pairs: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for (_, others, seed), row in ((key, row) for key, row in places.items() if key[0] == value):
            first = places.get((values[0], others, seed))
            if first:
                pairs[others].append(row.measures[measure] - first.measures[measure])
        if pairs:
            found[value] = list(pairs.values())
    return found


def _tested(groups: Mapping[Key, Groups]) -> dict[Key, Difference]:
    """Return the effect of each group and its p-value, corrected for their number."""
    corrected = holm([p_value(each) for each in groups.values()])
    return {
        key: Difference(key if isinstance(key, str) else key[-1], effect(each), p)
        for (key, each), p in zip(groups.items(), corrected, strict=True)
    }


def effect(groups: Groups) -> Mean:
    """Return the mean of the groups' means with its interval (formula in the module's docstring)."""
    from scipy import stats

    error, freedom = _error(groups)
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error if freedom else math.nan
    return Mean(float(np.mean([np.mean(group) for group in groups])), half, sum(map(len, groups)))


def p_value(groups: Groups) -> float:
    """Return the two-sided p-value of the hypothesis that the effect is zero; NaN without degrees of freedom."""
    from scipy import stats

    error, freedom = _error(groups)
    mean = float(np.mean([np.mean(group) for group in groups]))
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
) -> dict[tuple[str, ...], list[float]]:
    """Return the values of a measure grouped by ``key``, in order."""
    return {name: [row.measures[measure] for row in of] for name, of in _rows_by(rows, measure, key).items()}


def _rows_by(
    rows: Sequence[Row], measure: str, key: Callable[[Row], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Row]]:
    """Return the rows that have a measure, grouped by ``key``, in order."""
    found: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if measure in row.measures:
            found[key(row)].append(row)
    return found


def _error(groups: Groups) -> tuple[float, int]:
    """Return the standard error of the mean of means (NaN if unknown) and its degrees of freedom."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return math.nan, 0
    squares = sum(float(np.sum((np.asarray(group) - np.mean(group)) ** 2)) for group in groups)
    return math.sqrt(squares / freedom * sum(1 / len(group) for group in groups)) / len(groups), freedom
