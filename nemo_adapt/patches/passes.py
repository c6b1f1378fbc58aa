"""Unnecessary passes over memory, and waits, in megatron-core."""

import functools
from typing import Any

import torch


def skip_copies(has_fused_kernels: bool, lone_groups_copy: bool) -> None:
    """Compute the same numbers with fewer passes over memory than megatron-core makes.

    Without apex or Transformer Engine (``has_fused_kernels`` is false), it clips gradients through a copy, and fetches
    each tensor's norm to compute the total; on a GPU that total differs from ours in the last bits, as ours is summed
    in another order. With ``lone_groups_copy``, reductions and gathers over a group of one are skipped, which would
    copy a whole buffer.
    """
    from megatron.core.distributed import param_and_grad_buffer
    from megatron.core.optimizer import clip_grads

    def scale(chunk: int, flag: torch.Tensor, lists: list[list[torch.Tensor]], factor: float) -> None:
        for source, result in zip(*lists, strict=True):
            torch.mul(source, factor, out=result)

    def norm(chunk: int, flag: torch.Tensor, lists: list[list[torch.Tensor]], *rest: bool) -> tuple[torch.Tensor, None]:
        norms = torch._foreach_norm([each for tensors in lists for each in tensors])
        return torch.linalg.vector_norm(torch.stack(norms).float()).view(1), None

    def between_ranks(name: str) -> None:
        inner = getattr(param_and_grad_buffer, name)

        @functools.wraps(inner)
        def outer(*tensors: torch.Tensor, group: Any, **named: Any) -> Any:
            return inner(*tensors, group=group, **named) if group.size() > 1 else None

        setattr(param_and_grad_buffer, name, outer)

    if not has_fused_kernels:
        clip_grads.multi_tensor_scale_impl = scale
        clip_grads.l2_norm_impl = norm
    if lone_groups_copy:
        between_ranks("dist_reduce_scatter_func")
        between_ranks("dist_all_gather_func")
