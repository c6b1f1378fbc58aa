"""Gradients of weights, added to their sums within the matrix product that makes them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


def fuse_weight_gradients(layers: Any) -> None:
    """Gradients of weights are added to their sums within the matrix product, without apex too.

    As shipped (tensor_parallel/layers.py) that takes apex's kernel; elsewhere each micro batch writes them, reads them
    again, and adds them.
    """
    kernels = getattr(layers, "fused_weight_gradient_mlp_cuda", None)
    add = adder(getattr(kernels, "wgrad_gemm_accum_fp32", None))
    layers.fused_weight_gradient_mlp_cuda = SimpleNamespace(wgrad_gemm_accum_fp32=add)
    layers._grad_accum_fusion_available = True


def sums_of_rows(sums: torch.Tensor, first: int) -> torch.Tensor:
    """``sums`` as a table's ``main_grad`` where of its rows only those from ``first`` on are trained, as many as there
    are sums [rows, hidden]: their gradients alone are made."""
    some = sums.view_as(sums)
    some.first_row = first  # type: ignore[attr-defined]
    return some


def adder(kernel: Kernel | None) -> Kernel:
    """What Megatron calls ``wgrad_gemm_accum_fp32`` (megatron/core/tensor_parallel/layers.py).

    ``kernel``: apex's of that name, where it is there, for gradients in bf16. Without it these are made in bf16 and
    then added: torch has sums in another precision on CUDA alone (``addmm``'s ``out_dtype``), where none was tried.
    """

    def add(inputs: torch.Tensor, gradients: torch.Tensor, sums: torch.Tensor) -> None:
        """``inputs`` [tokens, in], ``gradients`` [tokens, out]; ``sums`` fp32 [out, in], or those ``sums_of_rows``."""
        if not len(sums):
            return
        first = getattr(sums, "first_row", None)
        if first is not None:
            gradients = gradients[:, first : first + len(sums)]
        if gradients.dtype == sums.dtype:
            sums.addmm_(gradients.t(), inputs)
        elif kernel:
            kernel(inputs, gradients.contiguous(), sums)
        else:
            sums.add_(gradients.t() @ inputs)

    return add
