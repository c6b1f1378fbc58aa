"""New rows are drawn around the mean of all source rows, with each column's own spread."""

from nemo_adapt.resize.plan import RowPlan, nothing_from_rows, strategies
from nemo_adapt.token_map import TokenMap


@strategies.register("normal")
def normal(token_map: TokenMap) -> RowPlan:
    """Mean plus diagonal Gaussian noise of the source table's standard deviation."""
    return RowPlan(nothing_from_rows(token_map), mean_share=1.0, noise=1.0)
