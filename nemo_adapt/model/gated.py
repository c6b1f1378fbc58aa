"""The gated MLP where Transformer Engine is not there (CPU, or a bare GPU)."""

from functools import partial
from typing import Any

import torch
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.mlp import MLP

_aten = torch.ops.aten
KERNELS: dict[str, tuple[Any, Any]] = {
    "silu": (_aten.silu.out, _aten.silu_backward.grad_input),
    "gelu": (_aten.gelu.out, _aten.gelu_backward.grad_input),
    "gelu_tanh": (
        partial(_aten.gelu.out, approximate="tanh"),
        partial(_aten.gelu_backward.grad_input, approximate="tanh"),
    ),
}
"""torch's kernels of an activation and of its gradient, which write where they are told."""


class GatedMLP(MLP):
    """Megatron's MLP of gate and up, which keeps the first projection's output and no part of it as a copy.

    Megatron's own does so where ``torch.compile`` makes its kernel (megatron/core/fusions/fused_bias_swiglu.py), which
    every process on a CPU would wait for and which needs Triton and a C compiler on a GPU; uncompiled its bf16 is
    rounded after every operation. This one needs neither, and has the bits of Megatron's unfused MLP.
    """

    def __init__(self, config: TransformerConfig, submodules: Any, activation: str, **unused: Any) -> None:
        super().__init__(config, submodules, ffn_hidden_size=config.ffn_hidden_size)
        self.kernels = KERNELS[activation]

    def forward(self, hidden_states: torch.Tensor, **unused: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[seq, batch, hidden] -> the same, and the bias that is still to be added."""
        wide, bias = self.linear_fc1(hidden_states)
        wide = wide if bias is None else wide + bias
        out, bias = self.linear_fc2(_Gated.apply(wide, *self.kernels))
        return out, bias


class _Gated(torch.autograd.Function):
    """The activation of the first half of the columns, times the second half; nothing but the input is kept."""

    @staticmethod
    def forward(ctx: Any, wide: torch.Tensor, activate: Any, differentiate: Any) -> torch.Tensor:
        ctx.save_for_backward(wide)
        ctx.kernels = activate, differentiate
        gate, up = wide.chunk(2, dim=-1)
        out: torch.Tensor = activate(gate, out=torch.empty_like(gate, memory_format=torch.contiguous_format))
        return out.mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (wide,), (gradient,), (activate, differentiate) = ctx.saved_tensors, gradients, ctx.kernels
        gate, up = wide.chunk(2, dim=-1)
        of_both = torch.empty_like(wide)
        of_gate, of_up = of_both.chunk(2, dim=-1)
        torch.mul(gradient, up, out=of_gate)
        differentiate(of_gate, gate, grad_input=of_gate)
        activate(gate, out=of_up).mul_(gradient)
        return of_both, None, None
