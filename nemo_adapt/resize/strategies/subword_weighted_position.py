"""Weight the pieces of a token by position: exponential initialization of AdaptiVocab (arXiv 2503.19693, 3.3)."""

import numpy as np

from nemo_adapt.families.family import INPUT
from nemo_adapt.resize.combine import Row, from_pieces, pieces
from nemo_adapt.resize.plan import Materials, RowPlan, strategy
from nemo_adapt.tokens.token_map import NewToken

DECAY = 2.0
"""Each position weighs e^2 times the one before (input) or after (output), as two other programs that name the paper
have it. The authors' own (``exp_avrg`` of change_embeddings_in_model.py) has a factor of 2 instead."""


@strategy("subword_weighted_position")
def subword_weighted_position(materials: Materials) -> RowPlan:
    """Weight piece i of 1, 2, ... in proportion to exp(2 i) for input rows and exp(-2 i) for output rows.

    After a token is read, text goes on from its last piece; its prediction begins with the first. Tied tables are input
    tables.
    """
    sign = 1.0 if materials.table == INPUT else -1.0

    def row(token: NewToken) -> Row:
        places = sign * DECAY * np.arange(len(token.source_ids))
        return pieces(token, np.exp(places - places.max(initial=0.0)))

    return RowPlan(from_pieces(materials.token_map, row))
