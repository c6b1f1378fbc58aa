"""Cosine similarities of new tokens to base tokens in an auxiliary space, a block of tokens at a time.

Ranks and the offline path must find the same plan, and matrix products are not the same bits for every number of
threads. Unit vectors are therefore rounded to multiples of 2^-24: products and their sums are whole numbers below 2^53
then, which float64 holds exactly, in whatever order they are added.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

SCALE = 2.0**24
"""Unit vectors in fixed point. A sum of products is at most SCALE squared, and cosines are right to 1e-7 or so."""
BLOCK_BYTES = 64 << 20
"""Memory of one block of similarities."""

Vectors = npt.NDArray[np.floating]


def fixed_point(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Rows of ``vectors`` as unit vectors times ``SCALE``, rounded to whole numbers; zero rows stay zero."""
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("rd,rd->r", wide, wide))
    return np.rint(wide * (SCALE / np.where(norms, norms, 1.0))[:, None])


def cosines(new: Vectors, base: Vectors) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Cosines of blocks of ``new`` [m, d] to all ``base`` [n, d]: the block's first row, and [rows, n]."""
    left, right = fixed_point(new), fixed_point(base).T
    step = rows_in_block(len(base))
    for start in range(0, len(new), step):
        yield start, left[start : start + step] @ right / SCALE**2


def rows_in_block(width: int) -> int:
    """How many rows of ``width`` float64 numbers fit into a block."""
    return max(1, BLOCK_BYTES // (8 * max(1, width)))


def known(vectors: Vectors) -> npt.NDArray[np.int64]:
    """Which rows are vectors at all: a zero row stands for a token that has none."""
    return np.flatnonzero(vectors.any(axis=1))
