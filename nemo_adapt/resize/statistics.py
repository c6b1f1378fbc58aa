"""Statistics of a source table's first rows: the same bits for any sharding and any order of summation.

Every number is first rounded to a grid (a power of two) so coarse that no float64 sum of all of them has to round: then
sums, matrix products and all-reduces are exact, and exact sums do not depend on the order (Demmel and Nguyen 2013,
"Fast Reproducible Floating-Point Summation", with one bin). Up to eight million rows, rounding changes a number by at
most 2**-30 of its column's largest magnitude for a mean, and 2**-15 of that plus the mean's magnitude for a covariance.
"""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from nemo_adapt.resize.table import EXCHANGE_BYTES, Source

FLOAT64_BITS = 53
"""Integers up to 2**53 are exact in float64."""
PRODUCT_BYTES = 8 << 20
"""Bytes of rows that enter a covariance at once: with smaller blocks, most time goes into reading the sum."""


class Moments:
    """Mean and spread of the columns over the first ``count`` rows, float64, each computed on first access.

    Access is a collective: every rank must access the same ones in the same order.
    """

    def __init__(self, source: Source, count: int) -> None:
        self.source, self.count = source, count

    @cached_property
    def largest(self) -> torch.Tensor:
        """Largest magnitude in each column."""
        found = self.source.like.new_zeros(self.source.like.shape[1])
        for _, rows in self.source.local_blocks(self.count):
            low, high = torch.aminmax(rows, dim=0)
            found = torch.maximum(found, torch.maximum(low.abs(), high.abs()))
        return self.source.all_reduce(found.double(), maximum=True)

    @cached_property
    def mean(self) -> torch.Tensor:
        """Mean of each column."""
        return self._sums(self.largest, lambda rows: rows) / self.count

    @cached_property
    def std(self) -> torch.Tensor:
        """Standard deviation of each column (over ``count``, not ``count - 1``)."""
        squares = self._sums((self.largest + self.mean.abs()) ** 2, lambda rows: (rows - self.mean) ** 2)
        return (squares / self.count).sqrt()

    def covariance(self) -> torch.Tensor:
        """Covariance of the columns (over ``count``), [columns, columns]."""
        scale = _scale(self.largest + self.mean.abs(), _bits(self.count) // 2)
        products = self.mean.new_zeros((len(self.mean), len(self.mean)))
        for _, rows in self.source.local_blocks(self.count, PRODUCT_BYTES):
            steps = rows.double().sub_(self.mean).mul_(scale).round_()
            products.addmm_(steps.T, steps)
        panel = max(1, EXCHANGE_BYTES // (8 * len(self.mean)))
        for begin in range(0, len(self.mean), panel):  # in panels, to bound what an all-reduce copies
            self.source.all_reduce(products[begin : begin + panel])
        return products.div_(scale[:, None]).div_(scale * self.count)

    def _sums(self, bound: torch.Tensor, value: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return the column sums of ``value(rows)``, of magnitude at most ``bound``."""
        scale = _scale(bound, _bits(self.count))
        sums = torch.zeros_like(bound)
        for _, rows in self.source.local_blocks(self.count):
            sums += torch.round(value(rows.double()) * scale).sum(0)
        return self.source.all_reduce(sums) / scale


def weighted_norm(source: Source, count: int, weights: npt.NDArray[np.float64]) -> float:
    """Return the weighted mean of the Euclidean norms of the first ``count`` rows."""
    found = [torch.zeros(0, dtype=torch.float64)]
    for first, rows in source.local_blocks(count):
        share = torch.from_numpy(weights[first : first + len(rows)])
        found.append(share * norms(rows).cpu())
    parts = torch.cat(found)[:, None].to(source.like.device)
    own = parts.abs().sum(1).amax(0, keepdim=True) if len(parts) else parts.new_zeros(1)
    largest = source.all_reduce(own, maximum=True)
    scale = _scale(largest, _bits(count))
    return float(source.all_reduce(torch.round(parts * scale).sum(0)) / scale) / math.fsum(weights)


def norms(rows: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of each row, float64. Squares are summed in a fixed order, as a tree."""
    squares = rows.double() ** 2
    width = squares.shape[1]
    while width > 1:
        half = (width + 1) // 2
        squares[:, : width - half] += squares[:, half:width]
        width = half
    return squares[:, 0].sqrt()


def on_grid(values: torch.Tensor, bound: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Round ``values`` (float64, at most ``bound``) in place to ``bits``-bit integers; return them and their scale."""
    scale = _scale(bound, bits)
    return values.mul_(scale).round_(), scale


def _bits(count: int) -> int:
    """Return how many bits integers may have so that ``count`` of them add up exactly in float64."""
    return FLOAT64_BITS - math.ceil(math.log2(max(count, 1)))


def _scale(bound: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the powers of two that scale numbers of at most ``bound`` to at most ``2**bits``."""
    exponents = np.frexp(bound.cpu().numpy())[1]
    return torch.from_numpy(np.ldexp(1.0, bits - exponents)).to(bound.device)
