"""95% bootstrap confidence intervals of measures, and of paired differences, where both sides use the same resamples.

Every measure is a function of sums over examples: bits per byte of nats and bytes, accuracy of hits and ones, BLEU of
n-gram counts. An example is therefore a row of numbers, and a resample is a sum of rows drawn with replacement.

Intervals are expanded percentiles (Hesterberg 2015, arXiv 1411.5279): resamples of n examples spread too little by
sqrt((n - 1) / n), and a normal distribution has thinner tails than Student's.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
LEAST = 5
"""Fewest examples with an interval: it ends within what resamples reach, and those of two to four do not reach far."""
AT_ONCE = 50
"""Resamples per matrix product."""
Sums = NDArray[np.float64]
Combine = Callable[[Sums], float]
"""Sums over examples -> the measure."""
Ends = tuple[float, float] | None
"""Low and high end of an interval, if there is one."""


def ratio(sums: Sums) -> float:
    """Return the first sum divided by the second (accuracy, a share of tokens); 0 where the second is 0."""
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def bits(sums: Sums) -> float:
    """Return bits per byte from the sums (nats, bytes)."""
    return ratio(sums) / float(np.log(2))


def difference(now: float, before: float) -> float:
    """Return the difference ``now - before``."""
    return now - before


def quotient(now: float, before: float) -> float:
    """Return the ratio ``now / before``; 0 where ``before`` is 0."""
    return now / before if before else 0.0


def value(rows: ArrayLike, combine: Combine = ratio) -> float:
    """Return the measure over all examples; ``rows`` is [examples, numbers]."""
    return combine(np.asarray(rows, dtype=np.float64).sum(axis=0))


def interval(rows: ArrayLike, combine: Combine = ratio) -> Ends:
    """Return the 95% interval of the measure from 1000 resamples of the examples; the seed is fixed. ``None`` for fewer
    than ``LEAST`` examples."""
    given = np.asarray(rows, dtype=np.float64)
    return _ends([combine(sums) for sums in _resampled(given)], len(given))


def paired(
    first: ArrayLike,
    second: ArrayLike,
    combine: Combine = ratio,
    between: Callable[[float, float], float] = difference,
) -> Ends:
    """Return the interval of ``between(second, first)`` (``difference`` or ``quotient``) over the same resamples, as
    ``interval`` does.

    Row i of both is the same example; ``ValueError`` where they have different lengths.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} examples are no pairs")
    sums = _resampled(np.hstack([one, other]))
    cut = one.shape[1]
    return _ends([between(combine(both[cut:]), combine(both[:cut])) for both in sums], len(one))


def in_blocks(rows: ArrayLike, most: int) -> Sums:
    """Sum neighbouring rows so that at most ``most`` remain: resampling very many examples is slow."""
    given = np.asarray(rows, dtype=np.float64)
    starts = np.linspace(0, len(given), min(most, len(given)), endpoint=False).astype(np.int64)
    return np.add.reduceat(given, starts, axis=0)


def _resampled(rows: Sums) -> Iterator[Sums]:
    """Yield the sums of each resample; none of fewer than ``LEAST`` examples."""
    if len(rows) < LEAST:
        return
    generator, count = np.random.default_rng(0), len(rows)
    for _ in range(0, RESAMPLES, AT_ONCE):
        drawn = (np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(AT_ONCE))
        yield from np.stack(list(drawn)).astype(np.float64) @ rows


def _ends(values: list[float], examples: int) -> Ends:
    """Return the expanded percentiles 2.5 and 97.5 of ``values`` (formula in the module's docstring)."""
    from scipy import stats

    if not values:
        return None
    reach = stats.t.ppf(0.975, examples - 1) * math.sqrt(examples / (examples - 1))
    low, high = np.percentile(values, 100 * stats.norm.cdf([-reach, reach]))
    return float(low), float(high)
