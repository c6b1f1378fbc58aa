"""The kernels of Transformer Engine that training in fp32 and bf16 calls, in torch's operations.

All that is Python there (layers and what their ranks send, Adam, which attention is taken) is the real one; this stands
where its compiled extension would. Arguments and results are those of transformer_engine_torch 2.11 (csrc/extensions).
"""

import math
from enum import IntEnum
from typing import Any

import torch

Tensor = torch.Tensor


class _Names(type):
    """A class any attribute of which is there, and is its own name: what enumerations are good for here."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class DType(metaclass=_Names):
    """Types of numbers; TORCH has torch's."""


TORCH = {DType.kFloat32: torch.float32, DType.kBFloat16: torch.bfloat16}


class NVTE_QKV_Layout(metaclass=_Names):
    """Which dimension is which; NVTE_SBHD_SBHD_SBHD is [seq, batch, heads, dim], each of the three by itself."""


class NVTE_Mask_Type(metaclass=_Names):
    """Causal or not."""


class _Other(metaclass=_Names):
    """Enumerations that nothing here looks at."""


class NVTE_Fused_Attn_Backend(IntEnum):
    """Which of cuDNN's attentions."""

    NVTE_No_Backend = -1
    NVTE_F16_max512_seqlen = 0
    NVTE_F16_arbitrary_seqlen = 1
    NVTE_FP8 = 2


NVTE_QKV_Format = NVTE_Bias_Type = NVTE_Softmax_Type = CommOverlapType = _Other
CommOverlap = CommOverlapP2P = CommOverlapHelper = Float8BlockScaleTensorFormat = _Other
FP8FwdTensors = FP8BwdTensors = FP8TensorMeta = _Other


def generic_gemm(
    a: Tensor,
    a_turned: bool,
    b: Tensor,
    b_turned: bool,
    out: Tensor | None,
    quantizer: None,
    dtype: str | None,
    bias: Tensor | None,
    bias_dtype: str,
    gelu: bool,
    gelu_in: Tensor | None,
    grad: bool,
    workspace: Tensor,
    workspace_size: int,
    accumulate: bool,
    *unused: Any,
    **named: Any,
) -> tuple[Tensor, Tensor | None, None, None]:
    """``b @ a``, each turned where it says so (cuBLAS counts columns first); with ``grad`` also the sum of ``b``."""
    assert quantizer is None and not gelu and workspace.device == a.device
    flat_a, flat_b = a.flatten(0, -2), b.flatten(0, -2)
    product = (flat_b.T if b_turned else flat_b) @ (flat_a.T if a_turned else flat_a)
    if not b_turned:
        product = product.view(*b.shape[:-1], -1)
    bias_grad = flat_b.sum(0) if grad and bias is not None else None
    if bias is not None and not grad:
        product = product + bias
    if out is None:
        return product.to(TORCH[dtype]) if dtype else product, bias_grad, None, None
    return (out.add_(product) if accumulate else out.copy_(product)), bias_grad, None, None


def _scaled(weight: Tensor, zero_centered: bool) -> Tensor:
    return weight.float() + (1.0 if zero_centered else 0.0)


def rmsnorm_fwd(
    hidden: Tensor, weight: Tensor, eps: float, out: None, quantizer: None, dtype: str, margin: int, zero_centered: bool
) -> tuple[Tensor, None, Tensor]:
    assert out is None and quantizer is None
    rsigma = torch.rsqrt(hidden.float().square().mean(-1) + eps)
    normed = hidden.float() * rsigma[:, None] * _scaled(weight, zero_centered)
    return normed.to(TORCH[dtype]), None, rsigma


def rmsnorm_bwd(
    grad: Tensor, hidden: Tensor, rsigma: Tensor, weight: Tensor, margin: int, zero_centered: bool
) -> tuple[Tensor, Tensor]:
    plain = hidden.float() * rsigma[:, None]
    inner = grad.float() * _scaled(weight, zero_centered)
    back = rsigma[:, None] * (inner - plain * (inner * plain).mean(-1, keepdim=True))
    return back.to(hidden.dtype), (grad.float() * plain).sum(0).to(weight.dtype)


def layernorm_fwd(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    out: None,
    quantizer: None,
    dtype: str,
    margin: int,
    zero_centered: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    assert out is None and quantizer is None
    mean, variance = hidden.float().mean(-1), hidden.float().var(-1, unbiased=False)
    rsigma = torch.rsqrt(variance + eps)
    normed = (hidden.float() - mean[:, None]) * rsigma[:, None] * _scaled(weight, zero_centered) + bias.float()
    return normed.to(TORCH[dtype]), mean, rsigma


def layernorm_bwd(
    grad: Tensor, hidden: Tensor, mean: Tensor, rsigma: Tensor, weight: Tensor, margin: int, zero_centered: bool
) -> tuple[Tensor, Tensor, Tensor]:
    plain = (hidden.float() - mean[:, None]) * rsigma[:, None]
    inner = grad.float() * _scaled(weight, zero_centered)
    back = inner - inner.mean(-1, keepdim=True) - plain * (inner * plain).mean(-1, keepdim=True)
    sums = (grad.float() * plain).sum(0).to(weight.dtype), grad.float().sum(0).to(weight.dtype)
    return (rsigma[:, None] * back).to(hidden.dtype), *sums


def get_fused_attn_backend(training: bool, query: str, key: str, *unused: Any) -> NVTE_Fused_Attn_Backend:
    """None for fp32, as the real kernels."""
    fits = query == DType.kBFloat16
    return NVTE_Fused_Attn_Backend.NVTE_F16_arbitrary_seqlen if fits else NVTE_Fused_Attn_Backend.NVTE_No_Backend


def _scores(query: Tensor, key: Tensor, scale: float, mask: str) -> Tensor:
    """Of [batch, heads, seq, dim], in fp32."""
    scores = query.float() @ key.float().repeat_interleave(query.shape[1] // key.shape[1], 1).transpose(2, 3) * scale
    if mask == NVTE_Mask_Type.NVTE_NO_MASK:
        return scores
    assert mask in (NVTE_Mask_Type.NVTE_CAUSAL_MASK, NVTE_Mask_Type.NVTE_CAUSAL_BOTTOM_RIGHT_MASK), mask
    last = scores.shape[3] - scores.shape[2] if "BOTTOM_RIGHT" in mask else 0
    unseen = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(1 + last)
    return scores.masked_fill(unseen, -math.inf)


ORDERS = {
    NVTE_QKV_Layout.NVTE_SBHD_SBHD_SBHD: ((1, 2, 0, 3), (2, 0, 1, 3)),
    NVTE_QKV_Layout.NVTE_BSHD_BSHD_BSHD: ((0, 2, 1, 3), (0, 2, 1, 3)),
}
"""Of dimensions, from a layout to [batch, heads, seq, dim] and back."""


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
    """The output, the logarithm of each query's sum of exponentials [batch, heads, seq, 1], a generator's state."""
    assert not dropout
    there, back = ORDERS[layout]
    q, k, v = (tensor.permute(there) for tensor in (query, key, value))
    scores = _scores(q, k, scale, mask)
    v = v.float().repeat_interleave(q.shape[1] // v.shape[1], 1)
    out = (scores.softmax(-1) @ v).to(query.dtype).permute(back).contiguous()
    return [out, scores.logsumexp(-1, keepdim=True), torch.zeros(2, dtype=torch.int64, device=query.device)]


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
    """Gradients of query, key, value and no bias, from the sums of exponentials that are given, of all ranks' keys."""
    there, back = ORDERS[layout]
    q, k, v, o, d = (tensor.permute(there).float() for tensor in (query, key, value, out, grad))
    times = q.shape[1] // k.shape[1]
    wide_k, wide_v = (tensor.repeat_interleave(times, 1) for tensor in (k, v))
    weights = (_scores(q, k, scale, mask) - kept[0]).exp()
    inner = weights * (d @ wide_v.transpose(2, 3) - (d * o).sum(-1, keepdim=True)) * scale
    grads = inner @ wide_k, inner.transpose(2, 3) @ q, weights.transpose(2, 3) @ d
    narrow = [grads[0]] + [each.unflatten(1, (k.shape[1], times)).sum(2) for each in grads[1:]]
    given = zip(narrow, (query, key, value), strict=True)
    return [*(each.to(tensor.dtype).permute(back).contiguous() for each, tensor in given), None]


def multi_tensor_scale(chunk: int, overflow: Tensor, lists: list[list[Tensor]], scale: float) -> None:
    for taken, given in zip(*lists, strict=True):
        given.copy_(taken * scale)


def multi_tensor_l2norm(
    chunk: int, overflow: Tensor, lists: list[list[Tensor]], each: bool = False
) -> tuple[Tensor, Tensor]:
    """The norm of all [1]; with ``each`` also that of every tensor."""
    norms = torch.stack([tensor.float().norm() for tensor in lists[0]])
    return norms.norm().view(1), norms if each else norms[:0]


def multi_tensor_adam(
    chunk: int,
    overflow: Tensor,
    lists: list[list[Tensor]],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    mode: int,
    bias_correction: int,
    weight_decay: float,
) -> None:
    """``lists``: gradients, parameters, first and second moments. ``mode`` 1 is AdamW."""
    assert lists[0][0].is_cuda and mode == 1 and bias_correction and len(lists) == 4
    for grad, parameter, first, second in zip(*lists, strict=True):
        first.lerp_(grad.to(first.dtype), 1 - beta1)
        second.mul_(beta2).addcmul_(grad.to(second.dtype), grad.to(second.dtype), value=1 - beta2)
        root = (second / (1 - beta2**step)).sqrt_().add_(eps)
        change = first / (1 - beta1**step) / root + weight_decay * parameter
        parameter.sub_(lr * change)


def get_cudnn_version() -> int:
    """9.14.0."""
    return 91400


def __getattr__(name: str) -> Any:
    """What is not here cannot be called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*unused: Any, **named: Any) -> None:
        raise NotImplementedError(f"transformer_engine_torch.{name} has no stand-in")

    return missing
