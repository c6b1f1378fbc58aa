"""Hand-made row plans of every kind."""

import numpy as np
import torch
from scipy.sparse import csr_matrix

from nemo_adapt.resize.plan import Noise, RowPlan

SOURCE, KEPT, NEW, COLUMNS = 50, 46, 20, 8
"""Sizes: source rows, those kept (the last four are the base model's padding), new rows, columns."""


def source_table(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Make a table with strongly correlated columns of different scales, and huge padded rows.

    The padded rows would show in any statistic that included them.
    """
    draw = torch.Generator().manual_seed(3)
    mix = torch.randn(COLUMNS, COLUMNS, generator=draw) * torch.logspace(-2, 1, COLUMNS)
    rows = torch.randn(SOURCE, COLUMNS, generator=draw) @ mix + 0.5
    rows[KEPT:] = 1e6
    return rows.to(dtype)


def mixture(new: int = NEW, source: int = KEPT, most: int = 6, seed: int = 0) -> csr_matrix:
    """Make random combinations of one to ``most`` unsorted source rows, some of them repeated; [new, source]."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, most + 1, new)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    weights = draw.standard_normal(ends[-1]).astype(np.float32)
    return csr_matrix((weights, draw.integers(0, source, ends[-1]), ends), shape=(new, source))


def nothing(new: int = NEW, source: int = KEPT) -> csr_matrix:
    """Make a combination without terms."""
    return csr_matrix((new, source), dtype=np.float32)


NORM_OF = np.random.default_rng(1).integers(0, 5, KEPT).astype(float)
SHARES = np.where(np.arange(NEW) % 3 == 0, 1.0, 0.0).astype(np.float32)
PLANS = {
    "combination": RowPlan(mixture()),
    "mean": RowPlan(nothing(), mean_share=1.0),
    "a share of the mean for some": RowPlan(mixture(), mean_share=SHARES),
    "unit noise": RowPlan(nothing(), noise=Noise("unit", 0.02)),
    "diagonal noise": RowPlan(nothing(), mean_share=1.0, noise=Noise("diagonal")),
    "covariance noise": RowPlan(nothing(), mean_share=1.0, noise=Noise("covariance", 0.5)),
    "norm": RowPlan(mixture(), norm_of=NORM_OF),
    "everything": RowPlan(mixture(), 0.25, Noise("covariance", 0.1), NORM_OF),
    "long rows": RowPlan(mixture(most=60)),
}
