"""Code of the ranks in tests of gradients accumulated inside matrix products (fused accumulation)."""

from typing import Any
from unittest import mock

import torch
from helpers.folders import Folders
from megatron.core.tensor_parallel import layers
from ranks.model_bodies import load_chunks
from ranks.training_bodies import data, new_row_range

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.train.batches import batches
from nemo_adapt.train.setup import build_trainer
from nemo_adapt.train.step import forward_backward

FLAGS = "gradient_accumulation_fusion", "fuse_wgrad_accumulation"
"""Attributes that switch it on in Megatron's and in Transformer Engine's modules."""
Sums = dict[str, torch.Tensor]


def sums(rank: int, config: Config, folders: Folders, vocab: int, kinds: list[str], fuses: bool) -> list[Sums]:
    """Return for each phase in ``kinds`` a first step's gradients by parameter, summed over micro batches and ranks.

    Unless ``fuses``, each gradient is computed separately and then added, as Megatron does by default.
    """
    chunks = load_chunks(config, folders)
    for module in (module for chunk in chunks for module in chunk.modules()):
        for name in FLAGS:
            if hasattr(module, name):
                setattr(module, name, fuses)
    found = []
    for kind in kinds:
        trainer = build_trainer(chunks, config.train, PhaseConfig(kind, 1, 1e-2), new_row_range(folders))
        for wrapped in trainer.wrapped:
            wrapped.zero_grad_buffer()
        given = data(config, vocab)
        drawn = batches(given.samples, given.layout, 0, given.boundaries)
        micro_batches = [batch.to(given.token_bytes.device) for batch in drawn]
        forward_backward(trainer.wrapped, micro_batches, given.token_bytes)
        found.append({name: each.to("cpu", copy=True) for name, each in _sums(chunks).items()})
        trainer.release()
    return found


def sums_of_doubled_products(rank: int, config: Config, folders: Folders, vocab: int, kinds: list[str]) -> list[Sums]:
    """Return fused ``sums`` whose matrix products are twice as large as they should be."""
    kernels = layers.fused_weight_gradient_mlp_cuda
    add = kernels.wgrad_gemm_accum_fp32

    def twice(inputs: torch.Tensor, gradients: torch.Tensor, into: torch.Tensor) -> None:
        add(inputs, 2 * gradients, into)

    with mock.patch.object(kernels, "wgrad_gemm_accum_fp32", twice):
        return sums(rank, config, folders, vocab, kinds, True)


def _sums(chunks: list[Any]) -> Sums:
    """Return the gradients by parameter, except of tables whose new rows alone are trained, as a separate parameter."""
    return {
        f"{number}.{name}": parameter.main_grad
        for number, chunk in enumerate(chunks)
        for name, parameter in chunk.named_parameters()
        if hasattr(parameter, "main_grad") and not hasattr(parameter.main_grad, "first_row")
    }
