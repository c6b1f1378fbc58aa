"""New rows from the rows of the source pieces that spell the token ("Mean" in arXiv 2406.14670, section 3)."""

from nemo_adapt.resize.combine import from_pieces
from nemo_adapt.resize.plan import Materials, RowPlan, strategy


@strategy("subword_mean")
def subword_mean(materials: Materials) -> RowPlan:
    """Average the pieces; a piece that occurs twice counts twice."""
    return RowPlan(from_pieces(materials.token_map))
