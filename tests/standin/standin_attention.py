"""Attention in plain operations for simulated GPUs, and torch's flash kernel over it.

The kernel has the rules of the real one (FlashAttention 2 in torch): bf16, at most 256 columns, a multiple of 8, which
lie together; queries are at the last of the keys' positions.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.backends import cuda

Tensor = torch.Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, unseen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp of each query's scores [batch, heads, seq, 1] in fp32.

    ``query`` is [batch, heads, seq, dim], ``key`` and ``value`` have the same or fewer heads; ``unseen`` is the mask.
    """
    scores = _scores(query, key, scale, unseen)
    out = scores.softmax(-1) @ _wide(value, query)
    return out.to(query.dtype), scores.logsumexp(-1, keepdim=True)


def gradients(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, grad: Tensor, sums: Tensor, scale: float, unseen: Tensor
) -> list[Tensor]:
    """Return the gradients of query, key and value; ``sums`` is the log-sum-exp over all keys, also over those that are
    not among ``key``."""
    weights, wide, given = (_scores(query, key, scale, unseen) - sums).exp(), _wide(value, query), grad.float()
    inner = weights * (given @ wide.transpose(2, 3) - (given * out.float()).sum(-1, keepdim=True)) * scale
    grads = [inner @ _wide(key, query), inner.transpose(2, 3) @ query.float(), weights.transpose(2, 3) @ given]
    grads[1:] = [each.unflatten(1, (key.shape[1], -1)).sum(2) for each in grads[1:]]
    return [each.to(query.dtype) for each in grads]


def _wide(heads: Tensor, query: Tensor) -> Tensor:
    return heads.float().repeat_interleave(query.shape[1] // heads.shape[1], 1)


def _scores(query: Tensor, key: Tensor, scale: float, unseen: Tensor) -> Tensor:
    return (query.float() @ _wide(key, query).transpose(2, 3) * scale).masked_fill(unseen, -math.inf)


def install() -> None:
    """Register the flash kernel for simulated GPUs, and let torch find it."""
    import torch.nn.attention.bias  # its masks keep torch's own function: another kernel would take them

    kernels = torch.library.Library("aten", "IMPL")
    kernels.impl("_flash_attention_forward", _forward, "CUDA")
    kernels.impl("_flash_attention_backward", _backward, "CUDA")
    cuda.can_use_flash_attention = lambda asked, debug=False: _takes(asked.query) and asked.attn_mask is None
    install.kept = kernels  # type: ignore[attr-defined]  # it unregisters them when it is freed


def _takes(query: Tensor) -> bool:
    return query.is_cuda and query.dtype == torch.bfloat16 and query.shape[-1] <= 256


def _sequences(tensors: list[Tensor], keys: tuple[int, ...], ends: tuple[Any, Any]) -> Iterator[list[Tensor]]:
    """Yield the part of each of ``tensors`` in each sequence as [1, heads, seq, dim]; those numbered ``keys`` have the
    keys' ends."""
    for number in range(len(ends[0]) - 1 if ends[0] is not None else len(tensors[0])):
        parts = []
        for place, tensor in enumerate(tensors):
            own = ends[place in keys]
            part = tensor[number] if own is None else tensor[int(own[number]) : int(own[number + 1])]
            parts.append(part.transpose(0, 1)[None])
        yield parts


def _checked(query: Tensor, key: Tensor, value: Tensor, ends: tuple[Any, Any], most: tuple[int, int]) -> None:
    assert all(_takes(each) and each.shape[-1] % 8 == 0 and each.stride(-1) == 1 for each in (query, key, value))
    assert query.dim() == (4 if ends[0] is None else 3)
    for each, tensor, longest in zip(ends, (query, key), most, strict=True):
        if each is not None:
            assert each.dtype == torch.int32 and each.is_cuda and int(each[-1]) == len(tensor)
            assert int(each.diff().min()) > 0 and int(each.diff().max()) == longest


def _hidden(query: Tensor, key: Tensor, causal: bool, left: int | None, right: int | None) -> Tensor:
    rows, columns = query.shape[2], key.shape[2]
    every = torch.ones(rows, columns, dtype=torch.bool, device=query.device)
    right, left = 0 if causal else -1 if right is None else right, -1 if left is None else left
    unseen = every.triu(columns - rows + right + 1) if right >= 0 else ~every
    return unseen | every.tril(columns - rows - left - 1) if left >= 0 else unseen


def _forward(
    query: Tensor, key: Tensor, value: Tensor, query_ends: Any, key_ends: Any, most_queries: int, most_keys: int,
    dropout: float, causal: bool, debug: bool, *, scale: float | None = None, window_size_left: int | None = None,
    window_size_right: int | None = None, **unused: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    assert not dropout and not debug
    ends, out, sums = (query_ends, key_ends), torch.empty_like(query), []
    _checked(query, key, value, ends, (most_queries, most_keys))
    for q, k, v, part in _sequences([query, key, value, out], (1, 2), ends):
        unseen = _hidden(q, k, causal, window_size_left, window_size_right)
        found, of_scores = attend(q, k, v, scale or query.shape[-1] ** -0.5, unseen)
        part.copy_(found)
        sums.append(of_scores[0, :, :, 0])
    none = torch.empty(0, device=query.device)
    return out, torch.stack(sums) if query_ends is None else torch.cat(sums, dim=1), none, none, none


def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, sums: Tensor, query_ends: Any, key_ends: Any,
    most_queries: int, most_keys: int, dropout: float, causal: bool, state: Tensor, unused: Tensor, *,
    scale: float | None = None, window_size_left: int | None = None, window_size_right: int | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    ends = (query_ends, key_ends)
    grads = [torch.empty_like(each) for each in (query, key, value)]
    # [seq, heads, 1] or with the batch in front, like the others
    like = sums.transpose(-1, -2)[..., None]
    tensors = [query, key, value, out, grad, like, *grads]
    for q, k, v, o, g, s, *parts in _sequences(tensors, (1, 2, 7, 8), ends):
        unseen = _hidden(q, k, causal, window_size_left, window_size_right)
        for part, found in zip(
            parts, gradients(q, k, v, o, g, s, scale or query.shape[-1] ** -0.5, unseen), strict=True
        ):
            part.copy_(found)
    return tuple(grads)
