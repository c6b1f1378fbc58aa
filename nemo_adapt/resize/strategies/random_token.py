"""New rows are copies of existing rows, drawn at random ("Random-Tok-Emb" in arXiv 2406.14670, section 3)."""

import numpy as np

from nemo_adapt.resize.combine import combination
from nemo_adapt.resize.plan import Materials, RowPlan, strategy


@strategy("random_token")
def random_token(materials: Materials) -> RowPlan:
    """Copy a base row drawn uniformly; the draw depends only on the seed and the new token's id."""
    source_vocab = materials.token_map.source_vocab

    def draw(token_id: int) -> int:
        return int(np.random.Generator(np.random.Philox(key=[materials.seed, token_id])).integers(source_vocab))

    rows = ((np.array([draw(token.id)]), np.ones(1)) for token in materials.token_map.tokens)
    return RowPlan(combination(rows, source_vocab))
