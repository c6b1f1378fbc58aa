"""The activation of Nemotron's MLP."""

from typing import Any

import torch

from nemo_adapt.machine import fusion


def squared_relu(wide: torch.Tensor) -> torch.Tensor:
    """Return the squares of ReLU; only ``wide`` is saved for the backward pass.

    Megatron's (megatron/core/activations.py) is compiled by ``torch.compile`` wherever it runs, which on a CPU every
    rank would wait for.
    """
    out: torch.Tensor = _SquaredRelu.apply(wide)
    return out


class _SquaredRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(wide)
        squares = fusion.compiled(_squares) if fusion.compiles() else _squares
        out: torch.Tensor = squares(wide)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        differentiate = fusion.compiled(_differentiate) if fusion.compiles() else _differentiate
        out: torch.Tensor = differentiate(gradients[0], *ctx.saved_tensors)
        return out


def _squares(wide: torch.Tensor) -> torch.Tensor:
    return torch.relu(wide).square_()


def _differentiate(gradient: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
    return torch.relu(wide).mul_(gradient).mul_(2)
