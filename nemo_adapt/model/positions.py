"""Positions that megatron-core has no block for: linear biases of the scores, and sinusoidal rows."""

import math

import torch
import torch.nn.functional as F

OFFSET = 2
"""The first position is this row of the sinusoidal table (fairseq's, and so XGLM's)."""
EXACT = 256
"""Whole numbers up to this are exact in bfloat16."""
ALIGNED = 8
"""Kernels want heads of a multiple of so many columns."""


def alibi_slopes(heads: int, device: torch.device) -> torch.Tensor:
    """By how much a head's scores grow from one key to the next: [heads], float32 (ALiBi, arXiv 2108.12409).

    A geometric sequence from 2^(-8/n) to 2^-8 where there are n = 2^k heads; more heads than the largest such n take
    every second of the sequence for 2n.
    """
    power = 2 ** math.floor(math.log2(heads))
    exponents = [8 / power * (head + 1) for head in range(power)]
    exponents += [4 / power * (2 * head + 1) for head in range(heads - power)]
    return torch.exp2(-torch.tensor(exponents, dtype=torch.float64, device=device)).float()


def with_alibi(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slopes: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three, each [batch, heads, seq, dim], with more columns, so that slope * j is added to the score of key j.

    It is added by the product of queries and keys, so that any kernel of causal attention does, and no mask has to be
    built. Softmax does not see that j is counted from the middle, where numbers stay smallest, and not from the query.
    Both factors are split into parts that are exact in bfloat16 (the slope's, up to 2^-17 of it). ``scale`` is what
    scores are multiplied by; values get columns of zeros, which the caller cuts off.
    """
    exact = slopes.double() / scale
    large = exact.to(query.dtype)
    small = (exact - large).to(query.dtype)
    places = torch.arange(key.shape[2], device=key.device) - key.shape[2] // 2
    low = places % EXACT
    by_query = torch.stack([large, large, small, small], dim=-1)[:, None, :]
    by_key = torch.stack([places - low, low, places - low, low], dim=-1).to(key.dtype)
    more = by_query.shape[-1] + -(query.shape[-1] + by_query.shape[-1]) % ALIGNED
    padding = (0, more - by_query.shape[-1])
    return (
        torch.cat([query, F.pad(by_query, padding).expand(*query.shape[:-1], more)], dim=-1),
        torch.cat([key, F.pad(by_key, padding).expand(*key.shape[:-1], more)], dim=-1),
        F.pad(value, (0, more)),
    )


class Sinusoidal(torch.nn.Module):
    """Sinusoidal rows as XGLM adds them to embeddings: sines in the first half of the columns, cosines in the other.

    They are computed at the positions asked for (transformers/models/xglm/modeling_xglm.py keeps a table of the same
    numbers), so that there is no longest sequence.
    """

    def __init__(self, hidden_size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.hidden_size, self.dtype = hidden_size, dtype

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Position ids [...] -> [..., hidden], computed in float32."""
        half = self.hidden_size // 2
        step = -math.log(10000) / (half - 1)
        frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=positions.device) * step)
        angles = (positions + OFFSET).float().unsqueeze(-1) * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.dtype)
