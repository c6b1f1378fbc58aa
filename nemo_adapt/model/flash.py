"""Flash attention with windows, and for packed documents: torch's kernel for GPUs, which needs no masks.

``scaled_dot_product_attention`` has neither; with a mask it uses no flash kernel, and for grouped heads (GQA) one that
stores all scores. ``torch.nn.attention.varlen`` has both, but not yet in torch 2.10: this is the operator beneath it
(aten/src/ATen/native/transformers/cuda/attention.cu).
"""

import functools
from collections.abc import Sequence

import torch
from torch.backends import cuda

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Queries, keys and values."""


def fits(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Return whether the kernel takes these tensors [seq, batch, heads, dim]: on a GPU, in bf16, by its ``dim``."""
    if not query.is_cuda or query.shape[3] % 8:
        return False
    query, key, value = query.permute(1, 2, 0, 3), key.permute(1, 2, 0, 3), value.permute(1, 2, 0, 3)
    return bool(cuda.can_use_flash_attention(cuda.SDPAParams(query, key, value, None, 0.0, False, True)))


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int, scale: float | None
) -> torch.Tensor:
    """Attend causally to the last ``window`` positions (0: all), a query's own included; the queries are at the last of
    the keys' positions. [seq, batch, heads, dim] -> [seq, batch, heads * dim]."""
    batch_first = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
    return _kernel(batch_first, (None, None), (len(query), len(key)), window, scale).transpose(0, 1).flatten(2)


def attend_packed(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Sequence[int],
    keys: Sequence[int],
    window: int,
    scale: float | None,
) -> torch.Tensor:
    """Do the same within each document of one sample, [seq, 1, heads, dim] -> [seq, 1, heads * dim].

    ``queries`` and ``keys``: how many each document has, at least one.
    """
    packed = query.squeeze(1), key.squeeze(1), value.squeeze(1)
    ends = _ends(tuple(queries), query.device), _ends(tuple(keys), query.device)
    return _kernel(packed, ends, (max(queries), max(keys)), window, scale).flatten(1)[:, None]


@functools.lru_cache(maxsize=64)  # all layers share them: a copy to a GPU waits for all that it has still to do
def _ends(counts: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return 0 and the positions at which documents end, int32."""
    return torch.tensor([0, *counts]).cumsum(0).to(device, torch.int32)


def _kernel(
    tensors: Tensors,
    ends: tuple[torch.Tensor | None, torch.Tensor | None],
    most: tuple[int, int],
    window: int,
    scale: float | None,
) -> torch.Tensor:
    """[batch, seq, heads, dim], or with the ``ends`` of queries and keys [positions, heads, dim] -> the same shape.

    ``most``: the most queries and keys of a sequence.
    """
    sides = {"window_size_left": window - 1, "window_size_right": 0} if window else {}  # without its own position
    operator = torch.ops.aten._flash_attention_forward
    out: torch.Tensor = operator(*tensors, *ends, *most, 0.0, not window, False, scale=scale, **sides)[0]
    return out
