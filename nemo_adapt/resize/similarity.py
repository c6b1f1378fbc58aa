"""Cosine similarities of new tokens to base tokens in an auxiliary space, one block of tokens at a time.

Ranks and the offline command must make the same plan, but the bits of a matrix product depend on the number of threads.
Unit vectors are therefore rounded to multiples of 2^-24: products and their sums are then integers below 2^53, which
float64 holds exactly in any order of addition.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nemo_adapt.partition import rows_in

SCALE = 2.0**24
"""Fixed-point scale of unit vectors. A sum of products is at most SCALE squared; cosines are accurate to about 1e-7."""
BLOCK_BYTES = 64 << 20
"""Memory of one block of similarities."""

Vectors = npt.NDArray[np.floating]


def fixed_point(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Return the rows of ``vectors`` as unit vectors times ``SCALE``, rounded to integers; zero rows stay zero."""
    wide = vectors.astype(np.float64)  # the only copy: all base vectors are many
    norms = np.sqrt(np.einsum("rd,rd->r", wide, wide))
    wide *= (SCALE / np.where(norms, norms, 1.0))[:, None]
    return np.rint(wide, out=wide)


def cosines(new: Vectors, base: Vectors) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Yield cosines of blocks of ``new`` [m, d] to all ``base`` [n, d]: the block's first row, and [rows, n]."""
    left, right = fixed_point(new), fixed_point(base).T
    step = rows_in_block(len(base))
    for start in range(0, len(new), step):
        yield start, left[start : start + step] @ right / SCALE**2


def rows_in_block(width: int) -> int:
    """Return how many rows of ``width`` float64 numbers fit into a block."""
    return rows_in(BLOCK_BYTES, 8 * width)


def nonzero_rows(vectors: Vectors) -> npt.NDArray[np.int64]:
    """Return the indices of rows that are not zero: a zero row stands for a token without a vector."""
    return np.flatnonzero(vectors.any(axis=1))
