"""Every new row is the mean of all source rows (Hewitt 2021, "Initializing New Word Embeddings", without its noise)."""

from nemo_adapt.resize.plan import RowPlan, nothing_from_rows, strategies
from nemo_adapt.token_map import TokenMap


@strategies.register("mean")
def mean(token_map: TokenMap) -> RowPlan:
    """All new rows are the same row: they part only by training."""
    return RowPlan(nothing_from_rows(token_map), mean_share=1.0)
