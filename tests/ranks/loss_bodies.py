"""Code of the ranks in tests of the loss: our cross entropy and Megatron's on the same logits."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest import mock

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import ColumnParallelLinear, vocab_parallel_cross_entropy
from megatron.core.transformer import TransformerConfig

from nemo_adapt import devices
from nemo_adapt.config import ParallelConfig
from nemo_adapt.machine import fusion
from nemo_adapt.model import cross_entropy as ours
from nemo_adapt.model.build import start_parallel
from nemo_adapt.model.embedding_output import finish_output_layer

COMPILED = "compiled"
"""In the place of bytes at once: the functions that are compiled on a GPU; without one, as they are written."""


@contextmanager
def portions(at_once: int | str) -> Iterator[None]:
    """Context: the loss takes ``at_once`` bytes of logits at a time, or calls its ``COMPILED`` functions."""
    is_compiled, works = at_once == COMPILED, fusion.compiles()
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(fusion, "compiles", lambda: is_compiled))
        if not is_compiled:
            some = dict.fromkeys((False, True), at_once)
            patches.enter_context(mock.patch.object(ours, "LOGITS_AT_ONCE", some))
        elif not works:
            patches.enter_context(mock.patch.object(fusion, "compiled", lambda function: function))
        patches.enter_context(mock.patch.object(ours, "COMPILED_AT_ONCE", 8 * 64 * 4))
        yield


def compare(rank: int, tp: int, precision: str, at_once: int | str, swap: bool = False) -> tuple[bool, bool, bool]:
    """Return whether losses and gradients equal Megatron's, and whether the gradient reuses the logits' memory.

    In bf16 gradients may differ by a relative machine epsilon, see ``errors``. ``at_once``: see ``portions``.
    ``swap``: give Megatron other labels, to see the check fail.
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
    with portions(at_once):
        losses = ours.cross_entropy(logits, labels)
        (losses * weights).sum().backward()
    theirs = vocab_parallel_cross_entropy(other * 1.0, labels.flip(0) if swap else labels)
    (theirs * weights).sum().backward()
    step = torch.finfo(dtype).eps if precision == "bf16" else 0.0
    same = torch.allclose(leaf.grad, other.grad, rtol=step, atol=0.0)
    return torch.equal(losses, theirs), same, gradients == [place]


def errors(rank: int, tp: int, z_loss: float, at_once: int | str) -> tuple[float, float, float]:
    """Return the errors of bf16 gradients on this rank, compared with fp64.

    First: our largest error beyond that of rounding the exact gradient to bf16, relative to softmax + one-hot, the size
    of the terms whose difference the gradient is (they cancel where the model is sure of the label, at every other
    position). Then: the mean errors of ours and of Megatron's (without z-loss), relative to the mean gradient.
    """
    start_parallel(ParallelConfig(tp=tp), 1)
    torch.manual_seed(4)
    device = devices.best_device()
    labels, weights = torch.randint(0, 500, (64, 2)), torch.rand(64, 2) / 1000
    of_one = torch.nn.functional.one_hot(labels, 512)
    whole = 3 * torch.randn(64, 2, 512)
    whole[::2] += 25 * of_one[::2]
    whole[..., 500:] = float("-inf")  # rows that are padded
    exact = whole.bfloat16().double()
    softmax = exact.softmax(-1) * (1 + 2 * z_loss * exact.logsumexp(-1, keepdim=True))
    truth, size = ((softmax + sign * of_one) * weights.unsqueeze(-1) for sign in (-1, 1))
    part = parallel_state.get_tensor_model_parallel_rank()
    exact, truth, size = (each.chunk(tp, -1)[part].to(device) for each in (exact, truth, size))
    leaf, other = (exact.bfloat16().requires_grad_() for _ in range(2))
    labels, weights = labels.to(device), weights.to(device)
    with portions(at_once):
        losses = ours.cross_entropy((leaf * 1.0).contiguous(), labels, z_loss)
        (losses * weights).sum().backward()
    (vocab_parallel_cross_entropy(other * 1.0, labels) * weights).sum().backward()
    off, theirs, least = ((each.double() - truth).abs() for each in (leaf.grad, other.grad, truth.bfloat16()))
    beyond = ((off - least) / size)[size > 0].max()
    return float(beyond), *(float(each.sum() / truth.abs().sum()) for each in (off, theirs))


def with_z_loss(
    rank: int, tp: int, logits: torch.Tensor, labels: torch.Tensor, z_loss: float, at_once: int | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses, and the gradient of their mean with respect to this rank's shard of ``logits``."""
    start_parallel(ParallelConfig(tp=tp), 1)
    part = logits.chunk(tp, -1)[parallel_state.get_tensor_model_parallel_rank()].contiguous().requires_grad_()
    with portions(at_once):
        losses = ours.cross_entropy(part * 1.0, labels, z_loss)
        losses.mean().backward()
    return losses.detach(), part.grad


def of_padded_rows(
    rank: int, tp: int, table: torch.Tensor, vocab: int, cap: float, inputs: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, bool]:
    """Run an output layer with this rank's shard of ``table``, of which the first ``vocab`` rows are tokens.

    Returns the losses, the gradients of their mean with respect to the inputs and the shard, the logits gathered over
    TP, and whether logits without a cap stay in the memory where the layer has written them.
    """
    start_parallel(ParallelConfig(tp=tp), 1)
    device = devices.best_device()
    config = TransformerConfig(num_layers=1, hidden_size=table.shape[1], num_attention_heads=1)
    config.tensor_model_parallel_size = tp
    layer = ColumnParallelLinear(
        table.shape[1], len(table), config=config, init_method=torch.nn.init.zeros_, bias=False, skip_bias_add=False
    ).to(device)
    layer.weight.data.copy_(table.chunk(tp)[parallel_state.get_tensor_model_parallel_rank()])
    places: list[int] = []
    layer.register_forward_hook(lambda module, inputs, output: places.append(output[0].data_ptr()))
    shape = SimpleNamespace(output_bias=False, logit_cap=cap, logit_scale=1.0)
    finish_output_layer(SimpleNamespace(output_layer=layer, config=config), shape, vocab, len(table))
    with torch.no_grad():
        gathered, _ = layer(inputs.to(device), runtime_gather_output=True)
    leaf = inputs.to(device).clone().requires_grad_()
    logits, _ = layer(leaf)
    stays = bool(cap) or places[-1] == logits.data_ptr()
    losses = ours.cross_entropy(logits, labels.to(device))
    losses.mean().backward()
    return losses.detach().cpu(), leaf.grad.cpu(), layer.weight.grad.cpu(), gathered.cpu(), stays
