"""Norms, neighbours and a 2D projection of rows. Memory holds one block of rows (``tables``) and the drawn samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nemo_adapt.checkpoint.tables import Table

USUAL = (1.0, 99.0)
"""Percentiles of the base rows' norms that bound usual norms: 2% of the base's own rows are outside."""
SAMPLE = 1000
"""Rows of each kind that are drawn for the projection."""


@dataclass(frozen=True)
class Norms:
    """Statistics of the Euclidean norms of some rows."""

    rows: int
    low: float
    """The first percentile."""
    median: float
    high: float
    """The 99th percentile."""
    least: float
    most: float
    unusual: float
    """Share of the rows with a norm outside the base's percentiles ``USUAL``."""
    outside: float
    """Share of the rows with a norm below the base's smallest or above its largest."""


def norms(table: Table, start: int, stop: int) -> NDArray[np.float64]:
    """Return the Euclidean norms of rows ``start`` to ``stop``: [stop - start]."""
    parts = [block.double().norm(dim=1).numpy() for _, block in table.blocks(start, stop)]
    return np.concatenate(parts) if parts else np.zeros(0)


def describe(values: NDArray[np.float64], base: NDArray[np.float64]) -> Norms:
    """Return statistics of norms, compared with the base's; neither array may be empty."""
    low, high = np.percentile(base, USUAL)
    own_low, median, own_high = np.percentile(values, [USUAL[0], 50.0, USUAL[1]])
    return Norms(
        len(values),
        float(own_low),
        float(median),
        float(own_high),
        float(values.min()),
        float(values.max()),
        float(np.mean((values < low) | (values > high))),
        float(np.mean((values < base.min()) | (values > base.max()))),
    )


def neighbours(table: Table, kept: int, ids: Sequence[int], count: int) -> list[list[tuple[int, float]]]:
    """Return, for each of ``ids``, the ``count`` nearest of the first ``kept`` rows as (row, cosine), nearest first.

    A row of zeros has cosine 0 with every row.
    """
    wanted = torch.nn.functional.normalize(table.pick(list(ids)), dim=1)
    best = torch.full((len(ids), 0), 0.0)
    where = torch.zeros((len(ids), 0), dtype=torch.long)
    for first, block in table.blocks(0, kept):
        cosines = wanted @ torch.nn.functional.normalize(block, dim=1).T
        numbers = torch.arange(first, first + len(block)).expand(len(ids), -1)
        best, order = torch.cat([best, cosines], 1).topk(min(count, best.shape[1] + len(block)), dim=1)
        where = torch.cat([where, numbers], 1).gather(1, order)
    return [list(zip(rows, values, strict=True)) for rows, values in zip(where.tolist(), best.tolist(), strict=True)]


def projection(table: Table, kept: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Project a sample of kept rows and of new rows (``kept`` to ``stop``) onto their two principal components.

    Return the points [n, 2] of both, and the share of the variance that the two components explain. At most ``SAMPLE``
    rows of each kind are drawn, uniformly without replacement, always the same ones.
    """
    generator = np.random.default_rng(0)
    drawn = [
        np.sort(generator.choice(np.arange(start, end), min(SAMPLE, end - start), replace=False))
        for start, end in ((0, kept), (kept, stop))
    ]
    base, new = (table.pick(rows.tolist()).double().numpy() for rows in drawn)
    rows = np.concatenate([base, new])
    centred = rows - rows.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * sizes[:2]
    total = float((sizes**2).sum())
    return points[: len(base)], points[len(base) :], float((sizes[:2] ** 2).sum()) / total if total else 0.0
