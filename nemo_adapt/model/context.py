"""Context parallelism in our attention: each rank gathers the keys and values of the whole sequence.

A sequence is cut into 2 x CP chunks, and rank r has chunks r and 2 x CP - 1 - r, which balances causal attention (as in
megatron/core/utils.py, ``get_batch_on_this_cp_rank``). Queries stay local; keys and values, which are smaller for
grouped heads, are gathered (Llama 3, arXiv 2407.21783, section 3.3.2).
"""

from collections.abc import Iterator

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region


def own_part(values: torch.Tensor) -> torch.Tensor:
    """Return this rank's two chunks of ``values`` [batch, seq]: [batch, seq / CP]."""
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()
    if size == 1:
        return values
    of_all = values.chunk(2 * size, dim=1)
    return torch.cat([of_all[rank], of_all[-1 - rank]], dim=1)


def gather_keys(key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gather ``key`` and ``value`` [seq / CP, batch, heads, dim] of all ranks into the whole sequence, in its order.

    In the backward pass each rank gets the sum of all ranks' gradients of its part.
    """
    group = parallel_state.get_context_parallel_group()
    both = gather_from_sequence_parallel_region(torch.cat([key, value], dim=-1), group=group)
    parts = both.chunk(2 * group.size())  # rank by rank: its first chunk, then its second
    whole = torch.cat([*parts[::2], *parts[1::2][::-1]])
    key, value = whole.split([key.shape[-1], value.shape[-1]], dim=-1)
    return key, value


def chunks(length: int) -> Iterator[tuple[slice, int]]:
    """Yield this rank's two chunks: their slice of the ``length`` positions, and their end in the whole sequence."""
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()
    half = length // 2
    for place, number in ((slice(0, half), rank), (slice(half, length), 2 * size - 1 - rank)):
        yield place, (number + 1) * half
