"""Combine the rows of the base pieces that occur in real text where the new token occurs.

After "Align" of Yamaguchi et al. 2024 (arXiv 2406.11477), who look up which base pieces lie under each occurrence of a
new token. The text is encoded by both tokenizers; an occurrence of a new token and one of a base piece *overlap* when
they share at least one byte. The paper averages the pieces of an occurrence and then the occurrences; here the weights
are plain counts. In context, base pieces often cross the new token's ends, which its spelling alone does not show; the
authors count a piece only if it contains the token or the token contains it.
"""

import numpy as np
from scipy.sparse import csr_matrix

from nemo_adapt.resize.combine import Row, combination, pieces
from nemo_adapt.resize.plan import Materials, RowPlan, strategy


@strategy("frequency_weighted", needs=("overlaps",))
def frequency_weighted(materials: Materials) -> RowPlan:
    """Weight each piece by how often it and the token overlap, as a share of all the token's overlaps."""
    return RowPlan(_shares(materials, "count"))


@strategy("align", needs=("overlaps",))
def align(materials: Materials) -> RowPlan:
    """Weight each piece by the bytes that it shares with the token in all their overlaps, as a share of the token's."""
    return RowPlan(_shares(materials, "bytes"))


def _shares(materials: Materials, counted: str) -> csr_matrix:
    """Return rows in proportion to the counts; tokens that do not occur in the text are the mean of their pieces."""
    token_map, found = materials.token_map, materials.auxiliary["overlaps"]
    ends = np.searchsorted(found["new"], np.arange(len(token_map.tokens) + 1))

    def row(index: int) -> Row:
        own = slice(ends[index], ends[index + 1])
        counts = found[counted][own].astype(np.float64)
        if not counts.sum():
            return pieces(token_map.tokens[index])
        return found["piece"][own].astype(np.int64), counts / counts.sum()

    return combination((row(index) for index in range(len(token_map.tokens))), token_map.source_vocab)
