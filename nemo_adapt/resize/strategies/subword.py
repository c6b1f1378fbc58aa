"""New rows from the rows of the source pieces that spell the token ("Mean" in arXiv 2406.14670, section 3)."""

import numpy as np
from scipy.sparse import csr_matrix

from nemo_adapt.resize.plan import Materials, RowPlan, strategy


@strategy("subword_mean")
def subword_mean(materials: Materials) -> RowPlan:
    """The plain average of the pieces; a piece that occurs twice counts twice."""
    token_map = materials.token_map
    counts = np.array([len(token.source_ids) for token in token_map.tokens], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(counts)])
    columns = np.array([piece for token in token_map.tokens for piece in token.source_ids], dtype=np.int64)
    weights = np.repeat(1.0 / np.maximum(counts, 1), counts).astype(np.float32)
    size = (len(token_map.tokens), token_map.source_vocab)
    return RowPlan(csr_matrix((weights, columns, ends), shape=size))
