"""Rows that are trained before the rest of the model (Learned-Emb and the warm start of arXiv 2406.14670).

Only their initial values are set here. ``config.phases`` makes the first share of the steps train the tables alone.
"""

from nemo_adapt.resize.plan import Materials, RowPlan, strategy
from nemo_adapt.resize.strategies.random_init import random_init
from nemo_adapt.resize.strategies.subword import subword_mean


@strategy("learned")
def learned(materials: Materials) -> RowPlan:
    """Start from random rows, as the paper's Learned-Emb does."""
    return random_init(materials)


@strategy("warm_start")
def warm_start(materials: Materials) -> RowPlan:
    """Start from the mean of the pieces, the paper's best initialization."""
    return subword_mean(materials)
