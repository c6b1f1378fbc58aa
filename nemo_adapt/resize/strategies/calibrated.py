"""The best combination in arXiv 2608.03494 ("Beyond Initialization Loss", over 20 strategies on Hindi)."""

import numpy as np
import numpy.typing as npt

from nemo_adapt.families.family import INPUT
from nemo_adapt.resize.combine import from_pieces
from nemo_adapt.resize.plan import Materials, RowPlan, strategy
from nemo_adapt.resize.strategies.subword_weighted import subword_weighted
from nemo_adapt.tokens.token_map import TokenMap


@strategy("calibrated", needs=("piece_bytes",))
def calibrated(materials: Materials) -> RowPlan:
    """Use ``subword_mean`` for input (and tied) rows, scaled to the norm that base rows have in the target language.

    Output rows: ``subword_weighted``. The norm is the mean of the base rows' norms, each weighted by how often the base
    used that piece to spell the new tokens in the text; rows that are only averaged are shorter.
    """
    if materials.table != INPUT:
        return subword_weighted(materials)
    return RowPlan(from_pieces(materials.token_map), norm_of=piece_counts(materials.token_map))


def piece_counts(token_map: TokenMap) -> npt.NDArray[np.float64]:
    """Return by base id how often it spells target text: each new token adds its count per occurrence of the piece.

    A map without counts counts each token once.
    """
    counted = any(token.count for token in token_map.tokens)
    counts = np.zeros(token_map.source_vocab)
    for token in token_map.tokens:
        np.add.at(counts, token.source_ids, token.count if counted else 1)
    return counts
