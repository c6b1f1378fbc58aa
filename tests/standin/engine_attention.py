"""Stand-ins for the Transformer Engine kernels that attention calls: rotary embedding and attention itself."""

from enum import IntEnum
from typing import Any

import standin_attention
import torch

Tensor = torch.Tensor


class Names(type):
    """Metaclass of stand-in enumerations: every attribute exists and equals its own name."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class DType(metaclass=Names):
    """Data types; ``TORCH`` maps them to torch's."""


TORCH = {DType.kFloat32: torch.float32, DType.kBFloat16: torch.bfloat16}


class NVTE_QKV_Layout(metaclass=Names):
    """Layouts of query, key and value; NVTE_SBHD_SBHD_SBHD: three tensors, each [seq, batch, heads, dim]."""


class NVTE_Mask_Type(metaclass=Names):
    """Kinds of attention masks."""


class NVTE_Fused_Attn_Backend(IntEnum):
    """cuDNN's attention backends."""

    NVTE_No_Backend = -1
    NVTE_F16_max512_seqlen = 0
    NVTE_F16_arbitrary_seqlen = 1
    NVTE_FP8 = 2


def _turned(tensor: Tensor, angles: Tensor, named: tuple[Any, ...], back: bool) -> Tensor:
    """Rotate [seq, batch, heads, dim] by ``angles`` [seq, 1, 1, rotated dims], radians in fp32; ``back``: inverse."""
    start_positions, _, interleaved, ends, cp_size, _ = named
    assert start_positions is None and ends is None and not interleaved and cp_size == 1
    assert angles.dtype == torch.float32 and angles.shape[:3] == (len(tensor), 1, 1) and angles.device == tensor.device
    turned, rest = tensor.float().split((angles.shape[3], tensor.shape[3] - angles.shape[3]), dim=3)
    first, second = turned.chunk(2, dim=3)
    across = torch.cat((second, -first) if back else (-second, first), dim=3)
    return torch.cat((turned * angles.cos() + across * angles.sin(), rest), dim=3).to(tensor.dtype)


def fused_rope_forward(tensor: Tensor, angles: Tensor, *named: Any) -> Tensor:
    return _turned(tensor, angles, named, back=False)


def fused_rope_backward(grad: Tensor, angles: Tensor, *named: Any) -> Tensor:
    return _turned(grad, angles, named, back=True)


def get_fused_attn_backend(training: bool, query: str, key: str, *unused: Any) -> NVTE_Fused_Attn_Backend:
    """Return the backend: none for fp32, like the real kernels."""
    fits = query == DType.kBFloat16
    return NVTE_Fused_Attn_Backend.NVTE_F16_arbitrary_seqlen if fits else NVTE_Fused_Attn_Backend.NVTE_No_Backend


def _unseen(query: Tensor, key: Tensor, mask: str, window: tuple[int, int]) -> Tensor:
    """Return which keys [.., seq, dim] each query does not see, by the kind of mask and the positions to its left."""
    rows, columns = query.shape[2], key.shape[2]
    every = torch.ones(rows, columns, dtype=torch.bool, device=query.device)
    if mask == NVTE_Mask_Type.NVTE_NO_MASK:
        assert window[0] == -1
        return ~every
    assert mask in (NVTE_Mask_Type.NVTE_CAUSAL_MASK, NVTE_Mask_Type.NVTE_CAUSAL_BOTTOM_RIGHT_MASK), mask
    assert window[1] <= 0 and (window[0] == -1 or rows == columns)
    unseen = every.triu(1 + (columns - rows if "BOTTOM_RIGHT" in mask else 0))
    return unseen | every.tril(-window[0] - 1) if window[0] >= 0 else unseen


ORDERS = {
    NVTE_QKV_Layout.NVTE_SBHD_SBHD_SBHD: ((1, 2, 0, 3), (2, 0, 1, 3)),
    NVTE_QKV_Layout.NVTE_BSHD_BSHD_BSHD: ((0, 2, 1, 3), (0, 2, 1, 3)),
}
"""Layout -> permutations of dimensions to [batch, heads, seq, dim] and back."""


def fused_attn_fwd(
    longest_query: int,
    longest_key: int,
    training: bool,
    scale: float,
    dropout: float,
    set_zero: bool,
    layout: str,
    bias_type: str,
    mask: str,
    softmax: str,
    window: tuple[int, int],
    query_ends: Tensor,
    key_ends: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *unused: Any,
) -> list[Tensor]:
    """Return the output, the log-sum-exp of each query's scores [batch, heads, seq, 1], and a generator's state."""
    assert not dropout
    there, back = ORDERS[layout]
    q, k, v = (tensor.permute(there) for tensor in (query, key, value))
    out, sums = standin_attention.attend(q, k, v, scale, _unseen(q, k, mask, window))
    out = out.permute(back).contiguous()
    return [out, sums, torch.zeros(2, dtype=torch.int64, device=query.device)]


def fused_attn_bwd(
    longest_query: int,
    longest_key: int,
    scale: float,
    dropout: float,
    set_zero: bool,
    layout: str,
    bias_type: str,
    mask: str,
    softmax: str,
    window: tuple[int, int],
    deterministic: bool,
    query_ends: Tensor,
    key_ends: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    grad: Tensor,
    dtype: torch.dtype,
    dtype_name: str,
    kept: list[Tensor],
    *unused: Any,
) -> list[Tensor | None]:
    """Return the gradients of query, key and value, and ``None`` for the bias.

    ``kept[0]`` is the log-sum-exp over the keys of all CP ranks.
    """
    there, back = ORDERS[layout]
    q, k, v, o, d = (tensor.permute(there) for tensor in (query, key, value, out, grad))
    grads = standin_attention.gradients(q, k, v, o, d, kept[0], scale, _unseen(q, k, mask, window))
    return [*(each.permute(back).contiguous() for each in grads), None]
