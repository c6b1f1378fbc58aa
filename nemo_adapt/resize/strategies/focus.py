"""FOCUS (Dobler and de Melo 2023, arXiv 2305.14481): base rows mixed by similarity in an auxiliary space.

The auxiliary space has one vector for each target token: fastText trained on the target text as the extended tokenizer
cuts it (``nemo_adapt.auxiliary.vectors``). The paper copies the rows of tokens that both vocabularies have and mixes
them for the others. An extended tokenizer keeps every base token, so all base rows are copied. Of them those are mixed
that the target text uses often enough to have a vector; the authors' program likewise leaves tokens of an extended base
out that the target language's own tokenizer has not.
"""

import numpy as np
import numpy.typing as npt

from nemo_adapt.resize.combine import Row, combination, pieces
from nemo_adapt.resize.plan import Materials, RowPlan, strategy
from nemo_adapt.resize.similarity import cosines, known


@strategy("focus", needs=("vectors",))
def focus(materials: Materials) -> RowPlan:
    """Weights: sparsemax of the cosines between the new token's vector and those of base tokens.

    A new token without a vector is the mean of its pieces (the paper draws a random row for it).
    """
    token_map = materials.token_map
    vectors = materials.auxiliary["vectors"]["vectors"]
    base, new = vectors[: token_map.source_vocab], vectors[token_map.source_vocab :]
    overlap, asked = known(base), known(new)
    rows: list[Row] = [pieces(token) for token in token_map.tokens]
    if len(overlap):
        for start, block in cosines(new[asked], base[overlap]):
            for index, similar in zip(asked[start : start + len(block)], block, strict=True):
                columns, weights = sparsemax(similar)
                rows[index] = overlap[columns], weights
    return RowPlan(combination(rows, token_map.source_vocab))


FIRST_TRY = 1024
"""How many of the largest entries sparsemax looks at first; it takes more where they do not settle it."""


def sparsemax(scores: npt.NDArray[np.float64]) -> Row:
    """The nearest point of the probability simplex (Martins and Astudillo 2016, arXiv 1602.02068, algorithm 1).

    Returns the places and values of its positive entries, places ascending.
    """
    size = min(FIRST_TRY, len(scores))
    while True:
        cut = np.partition(scores, len(scores) - size)[len(scores) - size]
        ordered = np.sort(scores[scores >= cut])[::-1]
        sums = np.cumsum(ordered) - 1.0
        counts = np.arange(1, len(ordered) + 1)
        support = int(np.flatnonzero(counts * ordered > sums)[-1]) + 1
        if support < len(ordered) or len(ordered) == len(scores):
            break
        size = min(4 * size, len(scores))
    values = np.maximum(scores - sums[support - 1] / support, 0.0)
    places = np.flatnonzero(values)
    return places, values[places] / values[places].sum()
