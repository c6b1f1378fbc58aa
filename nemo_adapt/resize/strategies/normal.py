"""New rows are drawn around the mean of all source rows, with each column's own spread."""

from nemo_adapt.resize.plan import Materials, Noise, RowPlan, strategy


@strategy("normal")
def normal(materials: Materials) -> RowPlan:
    """Add diagonal Gaussian noise with the source table's standard deviation to the mean."""
    return RowPlan(materials.empty_combination(), mean_share=1.0, noise=Noise("diagonal"))
