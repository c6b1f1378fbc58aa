"""What ranks compute for tests of the loss: our cross entropy, and Megatron's, of the same logits."""

from unittest import mock

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import vocab_parallel_cross_entropy

from nemo_adapt import devices
from nemo_adapt.config import ParallelConfig
from nemo_adapt.model import cross_entropy as ours
from nemo_adapt.model.build import start_parallel


def compare(rank: int, tp: int, precision: str, at_once: int, swap: bool = False) -> tuple[bool, bool, bool]:
    """Whether losses, gradients, and the place of the gradient are what they should be on this rank.

    ``at_once``: bytes of logits in a portion. ``swap``: Megatron is given other labels, to see the check fail.
    """
    start_parallel(ParallelConfig(tp=tp), 1)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    torch.manual_seed(2)
    device = devices.best_device()
    whole = 3 * torch.randn(11, 2, 64, dtype=dtype, device=device)
    labels, weights = torch.randint(0, 60, (11, 2), device=device), torch.rand(11, 2, device=device)
    whole[..., 60:] = float("-inf")  # rows that are padded
    shard = whole.chunk(tp, dim=-1)[parallel_state.get_tensor_model_parallel_rank()].contiguous()
    leaf, other = shard.clone().requires_grad_(), shard.clone().requires_grad_()
    logits = leaf * 1.0
    place, gradients = logits.data_ptr(), []
    logits.register_hook(lambda gradient: gradients.append(gradient.data_ptr()))
    with mock.patch.object(ours, "LOGITS_AT_ONCE", dict.fromkeys((False, True), at_once)):
        losses = ours.cross_entropy(logits, labels)
        (losses * weights).sum().backward()
    theirs = vocab_parallel_cross_entropy(other * 1.0, labels.flip(0) if swap else labels)
    (theirs * weights).sum().backward()
    return torch.equal(losses, theirs), torch.equal(leaf.grad, other.grad), gradients == [place]


def with_z_loss(
    rank: int, tp: int, logits: torch.Tensor, labels: torch.Tensor, z_loss: float, at_once: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses, and this rank's part of the gradient of their mean, of its part of ``logits``."""
    start_parallel(ParallelConfig(tp=tp), 1)
    part = logits.chunk(tp, -1)[parallel_state.get_tensor_model_parallel_rank()].contiguous().requires_grad_()
    with mock.patch.object(ours, "LOGITS_AT_ONCE", dict.fromkeys((False, True), at_once)):
        losses = ours.cross_entropy(part * 1.0, labels, z_loss)
        losses.mean().backward()
    return losses.detach(), part.grad
