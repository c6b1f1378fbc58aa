"""Noise of new rows: normal numbers that depend only on a seed and a token id, with the source table's spread."""

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
"""Standard normal numbers beyond this (one in 10**15) are clipped, for noise with full covariance."""


def noise_seed(seed: int, table: str) -> int:
    """Return the seed of a table's noise: input and output rows of a token are drawn independently."""
    return (2 * seed + (table == OUTPUT)) % 2**64


def gaussian(seed: int, ids: Sequence[int], columns: int) -> torch.Tensor:
    """Return standard normal numbers [len(ids), columns], float32; a row depends only on ``seed`` and its token id."""
    rows = [np.random.Generator(np.random.Philox(key=[seed, token])).standard_normal(columns) for token in ids]
    return torch.from_numpy(np.array(rows, dtype=np.float32).reshape(len(ids), columns))


class Spread:
    """Scales standard normal numbers to a plan's noise; made once per table (a collective)."""

    def __init__(self, noise: Noise, moments: Moments) -> None:
        self.noise = noise
        self._std: torch.Tensor | float = 1.0
        if noise.kind == "diagonal":
            self._std = moments.std.float()
        if noise.kind == "covariance":
            root = square_root(moments.covariance())
            # Integers with so few bits that the float64 product of a row and a column is exact.
            self._bits = (statistics.FLOAT64_BITS - math.ceil(math.log2(len(root)))) // 2
            self._root, scale = statistics.on_grid(root, root.abs().amax(1, keepdim=True), self._bits)
            self._scale = scale[:, 0]

    def rows(self, seed: int, ids: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """Return the noise of the tokens ``ids``: [len(ids), columns], float32, on the device of ``like``."""
        drawn = gaussian(seed, ids, like.shape[1]).to(like.device)
        if self.noise.kind != "covariance":
            return self.noise.scale * self._std * drawn
        bound = torch.full((1,), LARGEST_DRAW, dtype=torch.float64, device=like.device)
        # LARGEST_DRAW is a power of two, so the grid's bound is twice as large: one bit less, which is harmless.
        steps, scale = statistics.on_grid(drawn.double().clamp_(-LARGEST_DRAW, LARGEST_DRAW), bound, self._bits)
        return self.noise.scale * (steps @ self._root.T).div_(scale * self._scale).float()


def square_root(covariance: torch.Tensor) -> torch.Tensor:
    """Return a matrix A with ``A @ A.T == covariance``: by Cholesky, or from eigenvectors if the matrix is singular.

    Runs on the CPU with one thread, so that every rank of every layout gets the same bits.
    """
    matrix = covariance.cpu()
    with one_thread():
        root, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            values, vectors = torch.linalg.eigh(matrix)
            root = vectors * values.clamp_min(0.0).sqrt()
    return root.to(covariance.device)
