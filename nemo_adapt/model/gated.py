"""The gated MLP used without Transformer Engine (on a CPU, or a GPU without it)."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.mlp import MLP

from nemo_adapt.machine import fusion

_aten = torch.ops.aten
KERNELS: dict[str, tuple[Any, Any]] = {
    "silu": (_aten.silu.out, _aten.silu_backward.grad_input),
    "gelu": (_aten.gelu.out, _aten.gelu_backward.grad_input),
    "gelu_tanh": (
        partial(_aten.gelu.out, approximate="tanh"),
        partial(_aten.gelu_backward.grad_input, approximate="tanh"),
    ),
}
"""torch's kernels of each activation and of its gradient, in the variants that write into a given tensor."""
COMPILED: dict[str, tuple[Any, Any]] = {
    "silu": (F.silu, _aten.silu_backward),
    "gelu": (F.gelu, _aten.gelu_backward),
    "gelu_tanh": (partial(F.gelu, approximate="tanh"), partial(_aten.gelu_backward, approximate="tanh")),
}
"""The same functions for ``fusion.compiled``."""


class GatedMLP(MLP):
    """Megatron's MLP of gate and up, saving only the first projection's output for the backward pass, and no copies.

    Megatron's own does so only with a kernel compiled by ``torch.compile``
    (megatron/core/fusions/fused_bias_swiglu.py), which on a CPU every process would wait for, and which on a GPU needs
    Triton and a C compiler. This one uses them where they work (``fusion``). Elsewhere it needs neither, and is
    bit-identical to Megatron's unfused MLP.
    """

    def __init__(self, config: TransformerConfig, submodules: Any, activation: str, **unused: Any) -> None:
        super().__init__(config, submodules, ffn_hidden_size=config.ffn_hidden_size)
        self.activation = activation

    def forward(self, hidden_states: torch.Tensor, **unused: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[seq, batch, hidden] -> the same shape, and the bias that is still to be added."""
        wide, bias = self.linear_fc1(hidden_states)
        wide = wide if bias is None else wide + bias
        out, bias = self.linear_fc2(_Gated.apply(wide, self.activation))
        return out, bias


class _Gated(torch.autograd.Function):
    """The activation of the first half of the columns, times the second half; only the input is saved."""

    @staticmethod
    def forward(ctx: Any, wide: torch.Tensor, activation: str) -> torch.Tensor:
        ctx.save_for_backward(wide)
        ctx.activation = activation
        out: torch.Tensor
        if fusion.compiles():
            out = fusion.compiled(_gate)(wide, activation)
            return out
        activate, _ = KERNELS[activation]
        gate, up = wide.chunk(2, dim=-1)
        out = activate(gate, out=torch.empty_like(gate, memory_format=torch.contiguous_format))
        return out.mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (wide,), (gradient,) = ctx.saved_tensors, gradients
        if fusion.compiles():
            return fusion.compiled(_differentiate)(gradient, wide, ctx.activation), None
        activate, differentiate = KERNELS[ctx.activation]
        gate, up = wide.chunk(2, dim=-1)
        of_both = torch.empty_like(wide)
        of_gate, of_up = of_both.chunk(2, dim=-1)
        torch.mul(gradient, up, out=of_gate)
        differentiate(of_gate, gate, grad_input=of_gate)
        activate(gate, out=of_up).mul_(gradient)
        return of_both, None


def _gate(wide: torch.Tensor, activation: str) -> torch.Tensor:
    activate, _ = COMPILED[activation]
    gate, up = wide.chunk(2, dim=-1)
    out: torch.Tensor = activate(gate) * up
    return out


def _differentiate(gradient: torch.Tensor, wide: torch.Tensor, activation: str) -> torch.Tensor:
    activate, differentiate = COMPILED[activation]
    gate, up = wide.chunk(2, dim=-1)
    return torch.cat((differentiate(gradient * up, gate), activate(gate) * gradient), dim=-1)
