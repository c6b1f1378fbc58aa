"""The pieces of a token weighted by their place: exponential initialization of AdaptiVocab (arXiv 2503.19693, 3.3)."""

import numpy as np

from nemo_adapt.families.family import INPUT
from nemo_adapt.resize.combine import Row, from_pieces, pieces
from nemo_adapt.resize.plan import Materials, RowPlan, strategy
from nemo_adapt.token_map import NewToken

DECAY = 2.0
"""The exponent's factor in the paper: each place weighs e^2 times the one before or after."""


@strategy("subword_weighted_position")
def subword_weighted_position(materials: Materials) -> RowPlan:
    """Weights proportional to exp(2 i) for input rows and exp(-2 i) for output rows, piece i of 1, 2, ...

    What is read goes on from the last piece, what is predicted begins with the first. Tied tables are input tables.
    """
    sign = 1.0 if materials.table == INPUT else -1.0

    def row(token: NewToken) -> Row:
        places = sign * DECAY * np.arange(len(token.source_ids))
        return pieces(token, np.exp(places - places.max(initial=0.0)))

    return RowPlan(from_pieces(materials.token_map, row))
