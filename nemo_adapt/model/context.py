"""Sequences that context-parallel ranks share, in our attention: each gathers the keys and values of all.

A sequence is cut into 2 x CP chunks, of which rank r has chunk r and chunk 2 x CP - 1 - r, so that all see as much of
what is before them (as in megatron/core/utils.py, ``get_batch_on_this_cp_rank``). Queries stay where they are; keys and
values, which are fewer where heads are grouped, are gathered (Llama 3, arXiv 2407.21783, section 3.3.2).
"""

from collections.abc import Iterator

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region


def own_part(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of tensors [batch, seq] this rank's chunks; of ``documents`` all: keys are those of the whole sequence."""
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()
    if size == 1:
        return batch

    def own(values: torch.Tensor) -> torch.Tensor:
        of_all = values.chunk(2 * size, dim=1)
        return torch.cat([of_all[rank], of_all[-1 - rank]], dim=1)

    return {name: values if name == "documents" else own(values) for name, values in batch.items()}


def gathered(key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """This rank's ``key`` and ``value`` [seq / CP, batch, heads, dim] -> those of the sequence, in its order.

    Going back, each rank gets the sum of all ranks' gradients of its part.
    """
    group = parallel_state.get_context_parallel_group()
    both = gather_from_sequence_parallel_region(torch.cat([key, value], dim=-1), group=group)
    held = both.chunk(2 * group.size())  # of rank after rank its first chunk and its last
    whole = torch.cat([*held[::2], *held[1::2][::-1]])
    key, value = whole.split([key.shape[-1], value.shape[-1]], dim=-1)
    return key, value


def chunks(length: int) -> Iterator[tuple[slice, int]]:
    """Of this rank's ``length`` positions: each chunk's place among them, and where it ends in the whole sequence."""
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()
    half = length // 2
    for place, number in ((slice(0, half), rank), (slice(half, length), 2 * size - 1 - rank)):
        yield place, (number + 1) * half
