"""Every new row is the mean of all source rows (Hewitt 2021, "Initializing New Word Embeddings", without its noise)."""

from nemo_adapt.resize.plan import Materials, RowPlan, strategy


@strategy("mean")
def mean(materials: Materials) -> RowPlan:
    """Make all new rows the same row: only training makes them differ."""
    return RowPlan(materials.empty_combination(), mean_share=1.0)
