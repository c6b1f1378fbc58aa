"""Positions that megatron-core does not implement: ALiBi and sinusoidal embeddings."""

import functools
import math

import torch
import torch.nn.functional as F

OFFSET = 2
"""Row of the sinusoidal table that the first position uses (fairseq's, and so XGLM's)."""
EXACT = 256
"""Integers up to this are exact in bfloat16."""
ALIGNED = 8
"""Attention kernels need a head size that is a multiple of this."""


@functools.cache  # all layers share them: a copy to a GPU waits for all that it has still to do
def alibi_slopes(heads: int, device: torch.device) -> torch.Tensor:
    """Return how much each head's scores grow from one key to the next: [heads], float32 (ALiBi, arXiv 2108.12409).

    A geometric sequence from 2^(-8/n) to 2^-8 for n = 2^k heads; heads beyond the largest such n take every second
    value of the sequence for 2n.
    """
    power = 2 ** math.floor(math.log2(heads))
    exponents = [8 / power * (head + 1) for head in range(power)]
    exponents += [4 / power * (2 * head + 1) for head in range(heads - power)]
    return torch.exp2(-torch.tensor(exponents, dtype=torch.float64, device=device)).float()


def with_alibi(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slopes: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the three, each [batch, heads, seq, dim], with extra columns that add slope * j to the score of key j.

    The product of queries and keys adds it, so that any causal attention kernel works and no mask is built. j is
    counted from the middle, where numbers stay smallest, instead of from the query: softmax ignores the constant. Both
    factors are split into parts that are exact in bfloat16 (the slope's, up to 2^-17 of it). ``scale`` is the factor on
    scores; values get zero columns, which the caller cuts off.
    """
    exact = slopes.double() / scale
    large = exact.to(query.dtype)
    small = (exact - large).to(query.dtype)
    positions = torch.arange(key.shape[2], device=key.device) - key.shape[2] // 2
    low = positions % EXACT
    by_query = torch.stack([large, large, small, small], dim=-1)[:, None, :]
    by_key = torch.stack([positions - low, low, positions - low, low], dim=-1).to(key.dtype)
    more = by_query.shape[-1] + -(query.shape[-1] + by_query.shape[-1]) % ALIGNED
    padding = (0, more - by_query.shape[-1])
    return (
        torch.cat([query, F.pad(by_query, padding).expand(*query.shape[:-1], more)], dim=-1),
        torch.cat([key, F.pad(by_key, padding).expand(*key.shape[:-1], more)], dim=-1),
        F.pad(value, (0, more)),
    )


class Sinusoidal(torch.nn.Module):
    """Sinusoidal embeddings of positions as in XGLM: sines in the first half of the columns, cosines in the other.

    They are computed for the positions asked for (transformers/models/xglm/modeling_xglm.py keeps a table of the same
    numbers), so the sequence length is not limited.
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
