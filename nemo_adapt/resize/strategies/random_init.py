"""New rows are drawn like those of a new model ("Random-Init" in arXiv 2406.14670, section 3)."""

from nemo_adapt.resize.plan import Materials, Noise, RowPlan, strategy


@strategy("random_init")
def random_init(materials: Materials) -> RowPlan:
    """Draw from N(0, s^2) in every column, s the ``initializer_range`` of the base model's config.json."""
    return RowPlan(materials.empty_combination(), noise=Noise("unit", materials.initializer_range))
