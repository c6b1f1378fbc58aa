"""Orthogonal matching pursuit over an auxiliary table (arXiv 2506.06607, mergekit's ``tokensurgeon``).

A new token's auxiliary vector is written as a combination of few base tokens' auxiliary vectors; the same coefficients
then combine the base tokens' rows in the model. The auxiliary table is that of another model in the paper; here it is
any table with a vector for each target id (``nemo_adapt.auxiliary.vectors``).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nemo_adapt.resize.combine import Row
from nemo_adapt.resize.plan import Indices, Materials, strategy_by_rows
from nemo_adapt.resize.similarity import SCALE, Vectors, fixed_point, nonzero_rows, rows_in_block

Numbers = npt.NDArray[np.float64]
DEPENDENT = 1e-6
"""An atom gets no weight if at most this share of its norm is outside the span of the atoms chosen before."""
EXPLAINED = 1e-9
"""A target is done when its residual is at most this share of its norm: the rest is rounding."""


@strategy_by_rows("omp", needs=("vectors",))
def omp(materials: Materials, wanted: Indices) -> Iterator[tuple[int, Row]]:
    """Combine ``resize.omp_pieces`` base tokens, at most as many as the vectors have dimensions.

    The weights need not sum to 1. A new token without a vector is the mean of its pieces.
    """
    vectors = materials.auxiliary["vectors"]["vectors"]
    base, new = vectors[: materials.token_map.source_vocab], vectors[materials.token_map.source_vocab :]
    there, asked = nonzero_rows(base), wanted[nonzero_rows(new[wanted])]
    atoms = base[there]
    fixed = _fixed(atoms)
    most = min(materials.settings.omp_pieces, vectors.shape[1], len(there))
    step = rows_in_block(max(len(there), most * vectors.shape[1]))
    for start in range(0, len(asked), step):
        part = asked[start : start + step]
        chosen, weights = pursue(new[part].astype(np.float64), atoms, fixed, most)
        for index, places, values in zip(part, chosen, weights, strict=True):
            used = values != 0.0
            if used.any():
                yield index, (there[places[used]], values[used])


def pursue(targets: Numbers, atoms: Vectors, fixed: Numbers, most: int) -> tuple[npt.NDArray[np.int64], Numbers]:
    """Return for each target [m, d] the ``most`` atoms [n, d] chosen for it, [m, most], and their coefficients.

    Each step takes the atom with the largest inner product (in magnitude) with the residual (Pati et al. 1993; like the
    tool, without normalizing the atoms), then makes the residual orthogonal to all chosen ones. Inner products are
    integers (``similarity``; ``fixed`` [d, n] are the atoms), everything else is summed in a fixed order, so the choice
    does not depend on threads.
    """
    count, dims = targets.shape
    chosen = np.zeros((count, most), dtype=np.int64)
    basis, upper, heights = np.zeros((count, most, dims)), np.zeros((count, most, most)), np.zeros((count, most))
    left, sizes, everyone = targets.copy(), _norms(targets), np.arange(count)
    for step in range(most):
        scores = fixed_point(left) @ fixed
        np.abs(scores, out=scores)
        scores[everyone[:, None], chosen[:, :step]] = -1.0
        chosen[:, step] = scores.argmax(axis=1)
        atom = atoms[chosen[:, step]].astype(np.float64)
        outside = atom.copy()
        for _ in range(2):  # twice, because rounding leaves a part inside the span
            inside = np.einsum("mkd,md->mk", basis[:, :step], outside)
            outside -= np.einsum("mkd,mk->md", basis[:, :step], inside)
            upper[:, :step, step] += inside
        length, whole = _norms(outside), _norms(atom)
        new = length > DEPENDENT * whole
        upper[:, step, step] = np.where(new, length, 1.0)
        basis[:, step] = np.where(new[:, None], outside / np.where(new, length, 1.0)[:, None], 0.0)
        heights[:, step] = np.einsum("md,md->m", basis[:, step], left)
        left -= heights[:, step, None] * basis[:, step]
        left[_norms(left) <= EXPLAINED * sizes] = 0.0
    return chosen, _back_substitute(upper, heights)


def _fixed(atoms: Vectors) -> Numbers:
    """Return the atoms as integers, all on one scale, [d, n]."""
    largest = max(float(atoms.max(initial=0.0)), -float(atoms.min(initial=0.0))) * np.sqrt(atoms.shape[1])
    wide = atoms.astype(np.float64)  # the only copy
    wide *= SCALE / largest if largest else 1.0
    return np.rint(wide, out=wide).T


def _back_substitute(upper: Numbers, heights: Numbers) -> Numbers:
    """Solve ``upper @ x = heights`` for each target."""
    found = np.zeros_like(heights)
    for step in reversed(range(heights.shape[1])):
        rest = np.einsum("mk,mk->m", upper[:, step, step + 1 :], found[:, step + 1 :])
        found[:, step] = (heights[:, step] - rest) / upper[:, step, step]
    return found


def _norms(vectors: Numbers) -> Numbers:
    return np.sqrt(np.einsum("md,md->m", vectors, vectors))
