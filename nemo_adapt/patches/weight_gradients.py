"""Weight gradients, accumulated within the matrix product that computes them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


def fuse_weight_gradients(layers: Any) -> None:
    """Accumulate weight gradients within the matrix product, also without apex.

    As shipped (tensor_parallel/layers.py) that needs apex's kernel; without it each micro batch writes its gradients,
    reads them again, and adds them.
    """
    kernels = getattr(layers, "fused_weight_gradient_mlp_cuda", None)
    add = adder(getattr(kernels, "wgrad_gemm_accum_fp32", None))
    layers.fused_weight_gradient_mlp_cuda = SimpleNamespace(wgrad_gemm_accum_fp32=add)
    layers._grad_accum_fusion_available = True


def sums_of_rows(sums: torch.Tensor, first: int) -> torch.Tensor:
    """Return ``sums`` [rows, hidden] as the ``main_grad`` of a table of which only some rows are trained.

    Gradients are computed only for those rows: as many as there are sums, from row ``first`` on.
    """
    some = sums.view_as(sums)
    some.first_row = first  # type: ignore[attr-defined]
    return some


def adder(kernel: Kernel | None) -> Kernel:
    """Return what Megatron calls ``wgrad_gemm_accum_fp32`` (megatron/core/tensor_parallel/layers.py).

    ``kernel``: apex's function of that name, if installed, for bf16 gradients. Without it torch's ``addmm`` adds their
    products to fp32 sums, but on CUDA alone; on a CPU they are computed in bf16 and then added.
    """

    def add(inputs: torch.Tensor, gradients: torch.Tensor, sums: torch.Tensor) -> None:
        """``inputs`` [tokens, in], ``gradients`` [tokens, out]; ``sums`` fp32 [out, in], or from ``sums_of_rows``."""
        if not len(sums):
            return
        first = getattr(sums, "first_row", None)
        if first is not None:
            gradients = gradients[:, first : first + len(sums)]
        if gradients.dtype == sums.dtype:
            sums.addmm_(gradients.t(), inputs)
        elif kernel:
            kernel(inputs, gradients.contiguous(), sums)
        elif sums.is_cuda:
            torch.addmm(sums, gradients.t(), inputs, out_dtype=sums.dtype, out=sums)
        else:
            sums.add_(gradients.t() @ inputs)

    return add
