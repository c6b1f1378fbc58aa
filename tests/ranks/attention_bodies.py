"""Code of the ranks in tests of attention on GPUs."""

from dataclasses import dataclass
from unittest.mock import patch

import torch
from megatron.core.transformer import TransformerConfig

from nemo_adapt import devices
from nemo_adapt.config import ParallelConfig
from nemo_adapt.model import flash
from nemo_adapt.model.attention import CoreAttention
from nemo_adapt.model.build import start_parallel

HEADS, KV_HEADS, DIM = 4, 2, 16


@dataclass
class Attended:
    """Output and gradients of the inputs, all fp32 on the CPU, and how often the flash kernel was called."""

    tensors: list[torch.Tensor]
    calls: int


def attend(
    rank: int, rows: int, columns: int, batch: int, window: int, cap: float, sizes: list[list[int]], with_flash: bool
) -> Attended:
    """Attend in bf16 on this rank's device, with or without the flash kernel.

    ``rows`` queries are at the last of ``columns`` positions; ``sizes`` of the documents of each sample, or empty.
    """
    start_parallel(ParallelConfig(), 1)
    config = TransformerConfig(num_layers=1, hidden_size=HEADS * DIM, num_attention_heads=HEADS, attention_dropout=0.0)
    ours = CoreAttention(config, 1, None, "self", windows=(window,), cap=cap)
    made = torch.Generator().manual_seed(1)
    shapes = [(rows, batch, HEADS, DIM), *2 * [(columns, batch, KV_HEADS, DIM)]]
    inputs = [torch.randn(*shape, generator=made).to(devices.best_device(), torch.bfloat16) for shape in shapes]
    for each in inputs:
        each.requires_grad_()
    documents = torch.stack([torch.repeat_interleave(torch.tensor(each)) for each in sizes]) if sizes else None
    calls, kernel = [], flash._kernel
    counted = patch.object(flash, "_kernel", lambda *given: calls.append(1) or kernel(*given))
    fits = flash.fits if with_flash else lambda *tensors: False
    with counted, patch.object(flash, "fits", fits):
        out = ours._attend_apart(*inputs, documents)
    out.float().square().sum().backward()
    tensors = [out.detach(), *(each.grad for each in inputs)]
    return Attended([tensor.float().cpu() for tensor in tensors if tensor is not None], len(calls))
