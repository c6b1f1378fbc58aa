"""What ranks do in tests of training: a few steps on fixed random tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from helpers.folders import Folders
from megatron.core import parallel_state
from ranks.model_bodies import load

from nemo_adapt.config import Config
from nemo_adapt.train.batches import BatchLayout, batches
from nemo_adapt.train.setup import build_trainer
from nemo_adapt.train.step import train_step

SEQ = 16
SAMPLES = 64


@dataclass(frozen=True)
class Trained:
    """Losses (nats per token) and gradient norms by step, and this rank's parameters afterwards."""

    losses: list[float]
    grad_norms: list[float]
    parameters: dict[str, torch.Tensor]


def samples(vocab: int) -> list[dict[str, torch.Tensor]]:
    """Random sequences, as a data set would give them."""
    tokens = torch.randint(0, vocab, (SAMPLES, SEQ + 1), generator=torch.Generator().manual_seed(7))
    positions = torch.arange(SEQ)
    return [{"tokens": row[:-1], "labels": row[1:], "position_ids": positions} for row in tokens]


def train(rank: int, config: Config, folders: Folders, vocab: int, unmark_norms: bool = False) -> Trained:
    """``config.train.phases[0].steps`` steps; ``unmark_norms`` breaks sequence parallelism on purpose."""
    model = load(config, folders)
    if unmark_norms:
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.sequence_parallel = False
    dp_size, dp_rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    layout = BatchLayout(config.train.global_batch, config.train.micro_batch, dp_size, dp_rank)
    trainer = build_trainer(model, config.train)
    token_bytes = torch.ones(vocab, dtype=torch.int32)
    data = samples(vocab)
    results: list[Any] = []
    for step in range(config.train.phases[0].steps):
        stream = batches(data, layout, step, torch.device("cpu"))
        results.append(train_step(trainer, stream, layout, SEQ, token_bytes))
    return Trained(
        [result.nats / result.tokens for result in results],
        [result.grad_norm for result in results],
        {name: parameter.detach().clone() for name, parameter in trainer.bare_model.named_parameters()},
    )
