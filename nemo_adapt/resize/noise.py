"""Noise of new rows: normal numbers that depend only on a seed and a token id, given the source table's spread."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from nemo_adapt.families.family import OUTPUT
from nemo_adapt.resize import statistics
from nemo_adapt.resize.plan import Noise
from nemo_adapt.resize.statistics import Moments
from nemo_adapt.resize.threads import one_thread

LARGEST_DRAW = 8.0
"""Standard normal numbers beyond this (one in 10**15) are cut off."""


def noise_seed(seed: int, table: str) -> int:
    """The seed of a table's noise: input and output rows of a token are drawn independently."""
    return (2 * seed + (table == OUTPUT)) % 2**64


def gaussian(seed: int, ids: Sequence[int], columns: int) -> torch.Tensor:
    """Standard normal numbers [len(ids), columns], float32; a row depends only on ``seed`` and its token id."""
    rows = [np.random.Generator(np.random.Philox(key=[seed, token])).standard_normal(columns) for token in ids]
    return torch.from_numpy(np.array(rows, dtype=np.float32).reshape(len(ids), columns))


class Spread:
    """What turns standard normal numbers into a plan's noise; made once a table (a collective)."""

    def __init__(self, noise: Noise, moments: Moments) -> None:
        self.noise = noise
        self._std: torch.Tensor | float = 1.0
        if noise.kind == "diagonal":
            self._std = moments.std.float()
        if noise.kind == "covariance":
            root = square_root(moments.covariance())
            # Products of integers of so few bits that a float64 product of a row and a column is exact.
            self._bits = (statistics.FLOAT64_BITS - math.ceil(math.log2(len(root)))) // 2
            self._root, scale = statistics.on_grid(root, root.abs().amax(1, keepdim=True), self._bits)
            self._scale = scale[:, 0]

    def rows(self, seed: int, ids: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """The noise of the tokens ``ids``: [len(ids), columns], float32."""
        drawn = gaussian(seed, ids, like.shape[1]).to(like.device)
        if self.noise.kind != "covariance":
            return self.noise.scale * self._std * drawn
        bound = torch.full((1,), LARGEST_DRAW, dtype=torch.float64, device=like.device)
        # LARGEST_DRAW is a power of two: the bound of the grid is twice as large, which costs a bit and no harm.
        steps, scale = statistics.on_grid(drawn.double().clamp_(-LARGEST_DRAW, LARGEST_DRAW), bound, self._bits)
        return self.noise.scale * (steps @ self._root.T).div_(scale * self._scale).float()


def square_root(covariance: torch.Tensor) -> torch.Tensor:
    """A matrix A with ``A @ A.T == covariance``: Cholesky's, or, where the matrix is singular, from its eigenvectors.

    On the CPU with one thread, so that every rank of every layout has the same bits.
    """
    matrix = covariance.cpu()
    with one_thread():
        root, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            values, vectors = torch.linalg.eigh(matrix)
            root = vectors * values.clamp_min(0.0).sqrt()
    return root.to(covariance.device)
