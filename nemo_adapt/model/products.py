"""Gradients of weights, added to their sums within the matrix product that makes them."""

from collections.abc import Callable

import torch

Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


def of_rows(sums: torch.Tensor, first: int) -> torch.Tensor:
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
        """``inputs`` [tokens, in], ``gradients`` [tokens, out]; ``sums`` fp32 [out, in], or those ``of_rows``."""
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
