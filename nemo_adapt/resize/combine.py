"""Sparse combinations of source rows, as several strategies build them."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from nemo_adapt.tokens.token_map import NewToken, TokenMap

Row = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""One new row: indices of the source rows that it combines, and their weights."""


def combination(rows: Iterable[Row], source_vocab: int) -> csr_matrix:
    """Return ``rows`` as a float32 matrix [new rows, source rows]; the order of terms within a row is kept."""
    rows = list(rows)
    ends = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows], dtype=np.int64)])
    columns = np.concatenate([columns for columns, _ in rows] or [np.empty(0, dtype=np.int64)])
    weights = np.concatenate([weights for _, weights in rows] or [np.empty(0)])
    return csr_matrix((weights.astype(np.float32), columns, ends), shape=(len(rows), source_vocab))


def pieces(token: NewToken, weights: Sequence[float] | npt.NDArray[np.float64] | None = None) -> Row:
    """Return the pieces that spell a token, weighted in proportion to ``weights``; equally if none or all zero.

    A piece that occurs twice counts twice.
    """
    columns = np.array(token.source_ids, dtype=np.int64)
    shares = np.ones(len(columns)) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares if shares.any() else np.ones(len(columns))
    return columns, shares / shares.sum()


def from_pieces(token_map: TokenMap, row: Callable[[NewToken], Row] = pieces) -> csr_matrix:
    """Return a combination with one row per new token."""
    return combination((row(token) for token in token_map.tokens), token_map.source_vocab)
