"""Passes over memory that megatron-core makes in vain."""

import functools
from typing import Any

import torch


def skip_copies(has_fused_kernels: bool, lone_groups_copy: bool) -> None:
    """The same numbers with fewer passes over memory than megatron-core makes.

    Without apex or Transformer Engine it clips gradients by way of a copy (``has_fused_kernels``: they are there), and
    where ``lone_groups_copy`` a whole buffer is copied to sum it over a group of one.
    """
    from megatron.core.distributed import param_and_grad_buffer
    from megatron.core.optimizer import clip_grads

    def scale(chunk: int, flag: torch.Tensor, lists: list[list[torch.Tensor]], factor: float) -> None:
        for source, result in zip(*lists, strict=True):
            torch.mul(source, factor, out=result)

    def between_ranks(name: str) -> None:
        inner = getattr(param_and_grad_buffer, name)

        @functools.wraps(inner)
        def outer(*tensors: torch.Tensor, group: Any, **named: Any) -> Any:
            return inner(*tensors, group=group, **named) if group.size() > 1 else None

        setattr(param_and_grad_buffer, name, outer)

    if not has_fused_kernels:
        clip_grads.multi_tensor_scale_impl = scale
    if lone_groups_copy:
        between_ranks("dist_reduce_scatter_func")
        between_ranks("dist_all_gather_func")
