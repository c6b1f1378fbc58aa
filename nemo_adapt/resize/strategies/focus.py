"""FOCUS (Dobler and de Melo 2023, arXiv 2305.14481): combine base rows by similarity in an auxiliary space.

The auxiliary space has one vector per target token: fastText trained on the target text as the extended tokenizer
encodes it (``nemo_adapt.auxiliary.vectors``). The paper copies the rows of tokens that both vocabularies have and
combines them for the others. An extended tokenizer keeps every base token, so all base rows are copied, and those that
occur in the target text often enough to have a vector are combined; likewise the authors' program leaves out tokens of
an extended base that the target language's own tokenizer lacks.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nemo_adapt.resize.combine import Row
from nemo_adapt.resize.plan import Indices, Materials, strategy_by_rows
from nemo_adapt.resize.similarity import cosines, nonzero_rows

Numbers = npt.NDArray[np.float64]


@strategy_by_rows("focus", needs=("vectors",))
def focus(materials: Materials, wanted: Indices) -> Iterator[tuple[int, Row]]:
    """Weight base tokens by the sparsemax of the cosines between the new token's vector and theirs.

    A new token without a vector is the mean of its pieces (in the paper, a random row).
    """
    vectors = materials.auxiliary["vectors"]["vectors"]
    base, new = vectors[: materials.token_map.source_vocab], vectors[materials.token_map.source_vocab :]
    overlap, asked = nonzero_rows(base), wanted[nonzero_rows(new[wanted])]
    if not len(overlap):
        return
    for start, block in cosines(new[asked], base[overlap]):
        for index, similar in zip(asked[start : start + len(block)], block, strict=True):
            columns, weights = sparsemax(similar)
            yield index, (overlap[columns], weights)


SAMPLE = 64
"""One in this many scores is looked at first: their threshold is below that of all, and few scores are above it."""


def sparsemax(scores: Numbers) -> Row:
    """Project onto the probability simplex (Martins and Astudillo 2016, arXiv 1602.02068, algorithm 1).

    Returns the indices of the result's positive entries, ascending, and their values.
    """
    floor = max(_threshold(scores[::SAMPLE]), float(scores.max()) - 1.0)
    values = scores - _threshold(scores[scores > floor])
    places = np.flatnonzero(values > 0.0)
    return places, values[places] / values[places].sum()


def _threshold(scores: Numbers) -> float:
    """Return what to subtract from every score so that the positive results sum to 1."""
    ordered = np.sort(scores)[::-1]
    above = np.cumsum(ordered) - 1.0
    counts = np.arange(1, len(ordered) + 1)
    support = np.flatnonzero(counts * ordered > above)[-1]
    return float(above[support] / counts[support])
