"""The MLP of Apertus, whose activation has trained numbers: xIELU (Huang and Schlag 2024, arXiv 2411.13010)."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.mlp import MLP
from megatron.core.transformer.module import MegatronModule

from nemo_adapt.machine import fusion

AT_ONCE = {False: 1 << 16, True: 1 << 24}
"""Whether on a GPU -> numbers that are computed at a time where ``torch.compile`` makes no kernel of it."""


class XieluMLP(MLP):
    """Megatron's MLP without a gate, with an activation of its own."""

    def __init__(self, config: TransformerConfig, submodules: Any, **unused: Any) -> None:
        super().__init__(config, submodules, ffn_hidden_size=config.ffn_hidden_size)
        self.activation_func = Xielu(config)


class Xielu(MegatronModule):
    """x -> a x^2 + b x above 0, and a' (exp(min(x, eps)) - 1 - x) + b x below, where a = softplus(alpha_p) and
    a' = b + softplus(alpha_n).

    ``alpha_p`` and ``alpha_n`` [1] are trained. ``beta`` (b) and ``eps`` [1] are constants, which transformers stores
    with the weights, and does not know without them. Only the input is saved for the backward pass.
    """

    alpha_p: torch.Tensor
    alpha_n: torch.Tensor
    beta: torch.Tensor
    eps: torch.Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        for name in ("alpha_p", "alpha_n"):
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(1, dtype=config.params_dtype)))
        for name in ("beta", "eps"):
            self.register_buffer(name, torch.zeros(1, dtype=config.params_dtype))

    def forward(self, wide: torch.Tensor) -> torch.Tensor:
        """[..., FFN rows / TP] -> the same shape and dtype."""
        beta, eps = self.beta.float(), self.eps.float()
        slopes = torch.cat((F.softplus(self.alpha_p.float()), beta + F.softplus(self.alpha_n.float())))
        # Each TP rank has some of the columns: gradients of numbers that all of them have are summed.
        out: torch.Tensor = _Xielu.apply(wide, copy_to_tensor_model_parallel_region(slopes), beta, eps)
        return out


class _Xielu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, wide: torch.Tensor, slopes: torch.Tensor, beta: torch.Tensor, eps: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(wide, slopes, beta, eps)
        if fusion.compiles():
            made: torch.Tensor = fusion.compiled(_activate)(wide, slopes, beta, eps)
            return made
        out = torch.empty_like(wide, memory_format=torch.contiguous_format)
        for part, of_out in _blocks(wide, out):
            of_out.copy_(_activate(part, slopes, beta, eps))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        wide, *numbers = ctx.saved_tensors
        if fusion.compiles():
            of_wide, *of_slopes = fusion.compiled(_differentiate)(gradients[0], wide, *numbers)
            return of_wide, torch.stack(of_slopes), None, None
        of_wide = torch.empty_like(wide, memory_format=torch.contiguous_format)
        sums = torch.zeros_like(numbers[0])
        for gradient, part, of_part in _blocks(gradients[0], wide, of_wide):
            found, *of_slopes = _differentiate(gradient, part, *numbers)
            of_part.copy_(found)
            sums += torch.stack(of_slopes)
        return of_wide, sums, None, None


def _blocks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Cut tensors of one size into blocks, so that intermediate results take little memory; on a CPU, of its cache."""
    yield from zip(*(each.reshape(-1).split(AT_ONCE[each.is_cuda]) for each in tensors), strict=True)


def _activate(wide: torch.Tensor, slopes: torch.Tensor, beta: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    x = wide.float()
    above, below = slopes[0] * x * x, slopes[1] * (torch.expm1(torch.minimum(x, eps)) - x)
    return (torch.where(x > 0, above, below) + beta * x).to(wide.dtype)


def _differentiate(
    gradient: torch.Tensor, wide: torch.Tensor, slopes: torch.Tensor, beta: torch.Tensor, eps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of the input and of the two slopes."""
    x, given = wide.float(), gradient.float()
    bent, is_above = torch.expm1(torch.minimum(x, eps)), x > 0
    above, below = 2 * slopes[0] * x, slopes[1] * torch.where(x < eps, bent, -1.0)
    of_wide = given * (torch.where(is_above, above, below) + beta)
    of_above = torch.where(is_above, given * x * x, 0.0).sum()
    of_below = torch.where(is_above, 0.0, given * (bent - x)).sum()
    return of_wide.to(wide.dtype), of_above, of_below
