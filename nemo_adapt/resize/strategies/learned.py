"""Rows that are trained alone before the rest is (Learned-Emb and the warm start of arXiv 2406.14670).

Here is only what they start from. That the tables are trained first, for a share of the steps, is said in
``nemo_adapt.phases``.
"""

from nemo_adapt.resize.plan import Materials, RowPlan, strategy
from nemo_adapt.resize.strategies.random_init import random_init
from nemo_adapt.resize.strategies.subword import subword_mean


@strategy("learned")
def learned(materials: Materials) -> RowPlan:
    """Random rows, as the paper's Learned-Emb starts from."""
    return random_init(materials)


@strategy("warm_start")
def warm_start(materials: Materials) -> RowPlan:
    """The mean of the pieces, the paper's best initialization."""
    return subword_mean(materials)
