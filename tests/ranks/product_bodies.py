"""What ranks do in tests of gradients that are added up within matrix products."""

from typing import Any

import torch
from helpers.folders import Folders
from ranks.model_bodies import load_chunks
from ranks.training_bodies import data, span

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.train.batches import batches, on_device
from nemo_adapt.train.setup import build_trainer
from nemo_adapt.train.step import forward_backward

FLAGS = "gradient_accumulation_fusion", "fuse_wgrad_accumulation"
"""By which Megatron's modules and Transformer Engine's know of it."""
Sums = dict[str, torch.Tensor]


def sums(rank: int, config: Config, folders: Folders, vocab: int, kinds: list[str], fuses: bool) -> list[Sums]:
    """Of each phase in ``kinds`` the sums of gradients of a first step, by parameter: all micro batches, all ranks.

    Unless ``fuses``, gradients are made one by one as Megatron does, and then added.
    """
    chunks = load_chunks(config, folders)
    for module in (module for chunk in chunks for module in chunk.modules()):
        for name in FLAGS:
            if hasattr(module, name):
                setattr(module, name, fuses)
    found = []
    for kind in kinds:
        trainer = build_trainer(chunks, config.train, PhaseConfig(kind, 1, 1e-2), span(folders))
        for wrapped in trainer.wrapped:
            wrapped.zero_grad_buffer()
        given = data(config, vocab)
        drawn = batches(given.samples, given.layout, 0, given.boundaries)
        micro_batches = [on_device(batch, given.token_bytes.device) for batch in drawn]
        forward_backward(trainer.wrapped, micro_batches, given.token_bytes)
        found.append({name: each.to("cpu", copy=True) for name, each in _sums(chunks).items()})
        trainer.release()
    return found


def _sums(chunks: list[Any]) -> Sums:
    """Of what the optimizer has: not of tables whose new rows alone are trained, as those are parameters too."""
    return {
        f"{number}.{name}": parameter.main_grad
        for number, chunk in enumerate(chunks)
        for name, parameter in chunk.named_parameters()
        if hasattr(parameter, "main_grad") and not hasattr(parameter.main_grad, "first_row")
    }
