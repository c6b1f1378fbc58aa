"""The kernels of Transformer Engine that training in fp32 and bf16 calls, implemented with torch operations.

It replaces only the compiled extension; Transformer Engine's Python code (layers, communication, Adam, the choice of
attention) is the real one. Arguments and results are those of transformer_engine_torch 2.11 (csrc/extensions).
"""

from typing import Any

import torch
from engine_attention import TORCH, Names
from engine_attention import DType as DType
from engine_attention import NVTE_Fused_Attn_Backend as NVTE_Fused_Attn_Backend
from engine_attention import NVTE_Mask_Type as NVTE_Mask_Type
from engine_attention import NVTE_QKV_Layout as NVTE_QKV_Layout
from engine_attention import fused_attn_bwd as fused_attn_bwd
from engine_attention import fused_attn_fwd as fused_attn_fwd
from engine_attention import fused_rope_backward as fused_rope_backward
from engine_attention import fused_rope_forward as fused_rope_forward
from engine_attention import get_fused_attn_backend as get_fused_attn_backend

Tensor = torch.Tensor


class _Other(metaclass=Names):
    """Enumerations whose values are not used here."""


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
    """Return ``b @ a``, each transposed if its flag says so (cuBLAS is column-major); with ``grad`` and ``bias`` also
    the bias's gradient, the sum of ``b`` over its rows."""
    assert quantizer is None and not gelu and workspace.device == a.device
    flat_a, flat_b = a.flatten(0, -2), b.flatten(0, -2)
    if out is not None:  # rounded once, when it is written
        flat_a, flat_b = flat_a.to(out.dtype), flat_b.to(out.dtype)
    product = (flat_b.T if b_turned else flat_b) @ (flat_a.T if a_turned else flat_a)
    if not b_turned:
        product = product.view(*b.shape[:-1], -1)
    bias_grad = b.flatten(0, -2).sum(0) if grad and bias is not None else None
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


def multi_tensor_scale(chunk: int, overflow: Tensor, lists: list[list[Tensor]], scale: float) -> None:
    for taken, given in zip(*lists, strict=True):
        given.copy_(taken * scale)


def multi_tensor_l2norm(
    chunk: int, overflow: Tensor, lists: list[list[Tensor]], each: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the norm of all tensors together [1]; with ``each`` also the norm of every tensor."""
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
    """Make an Adam step in place; ``lists``: gradients, parameters, first and second moments; ``mode`` 1: AdamW."""
    assert lists[0][0].is_cuda and mode == 1 and bias_correction and len(lists) == 4
    for grad, parameter, first, second in zip(*lists, strict=True):
        first.lerp_(grad.to(first.dtype), 1 - beta1)
        second.mul_(beta2).addcmul_(grad.to(second.dtype), grad.to(second.dtype), value=1 - beta2)
        root = (second / (1 - beta2**step)).sqrt_().add_(eps)
        change = first / (1 - beta1**step) / root + weight_decay * parameter
        parameter.sub_(lr * change)


def get_cudnn_version() -> int:
    """Return the version of cuDNN 9.14.0."""
    return 91400


def __getattr__(name: str) -> Any:
    """Return a function that raises ``NotImplementedError``, for kernels without a stand-in."""
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*unused: Any, **named: Any) -> None:
        raise NotImplementedError(f"transformer_engine_torch.{name} has no stand-in")

    return missing
