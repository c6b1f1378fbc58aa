"""New rows are zero (NVIDIA's developer blog "Training Localized Multilingual LLMs with NVIDIA NeMo", 2024, Thai).

For comparison. An untied output row of zeros gives its token a logit of 0, which may be far above the others.
"""

from nemo_adapt.resize.plan import Materials, RowPlan, strategy


@strategy("zero")
def zero(materials: Materials) -> RowPlan:
    """Make all new rows zero."""
    return RowPlan(materials.empty_combination())
