"""What ranks do in tests of training: a few steps on fixed random tokens."""

import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from helpers.folders import Folders
from megatron.core import parallel_state
from ranks.model_bodies import load

from nemo_adapt.checkpoint.reader import complete
from nemo_adapt.config import Config
from nemo_adapt.phases import phases
from nemo_adapt.resize.adapted import adapted_shape, build_adapted
from nemo_adapt.token_map import TokenMap
from nemo_adapt.train import checkpoints, loop
from nemo_adapt.train.batches import BatchLayout

SEQ = 16
SAMPLES = 64


@dataclass
class Trained:
    """Losses (nats per token), gradient norms and numbers of phases by step; this rank's parameters at the start and at
    the end of each phase."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    phases: list[int] = field(default_factory=list)
    states: list[dict[str, torch.Tensor]] = field(default_factory=list)
    left_behind: int = 0
    """Trainers of earlier phases that are still in memory."""

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The parameters at the end."""
        return self.states[-1]


def samples(vocab: int) -> list[dict[str, torch.Tensor]]:
    """Random sequences, as a data set would give them; every third token is one of the last six, the new ones."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, vocab, (SAMPLES, SEQ + 1), generator=generator)
    tokens[:, ::3] = torch.randint(vocab - 6, vocab, tokens[:, ::3].shape, generator=generator)
    positions = torch.arange(SEQ)
    return [{"tokens": row[:-1], "labels": row[1:], "position_ids": positions} for row in tokens]


def data(config: Config, vocab: int) -> loop.Data:
    """The samples as this rank shares them."""
    dp_size, dp_rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    layout = BatchLayout(config.train.global_batch, config.train.micro_batch, dp_size, dp_rank)
    return loop.Data(samples(vocab), layout, torch.ones(vocab, dtype=torch.int32))


def train(
    rank: int, config: Config, folders: Folders, vocab: int, unmark_norms: bool = False, fewer_kept: int = 0
) -> Trained:
    """All phases; ``unmark_norms`` breaks sequence parallelism on purpose, ``fewer_kept`` takes kept rows for new."""
    model = load(config, folders)
    if unmark_norms:
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.sequence_parallel = False
    kept = TokenMap.load(folders.tokenizer).source_vocab - fewer_kept
    answer = Trained(states=[state(model)])
    earlier: set[Any] = set()
    for made in loop.run(model, phases(config), config.train, kept, data(config, vocab)):
        note(answer, made)
        earlier.add(weakref.ref(made.trainer.model))
        if made.ends_phase:
            answer.states.append(state(model))
    answer.left_behind = sum(reference() is not None for reference in earlier)
    return answer


def train_and_save(
    rank: int, config: Config, folders: Folders, vocab: int, out: Path, first: int, stop: int
) -> list[float]:
    """Losses of steps ``first + 1`` to ``stop``, from the checkpoint ``first`` on; each step is saved in ``out``."""
    config.train.keep = 100
    model = load(config, folders)
    restore = None
    if first:
        model = build_adapted(config, adapted_shape(folders.model, TokenMap.load(folders.tokenizer)))
        saved = complete(out)[first - 1]
        assert checkpoints.load_model(saved, model)["step"] == first

        def restore(trainer: Any) -> None:
            checkpoints.load_optimizer(saved, trainer)

    kept = TokenMap.load(folders.tokenizer).source_vocab
    answer = Trained()
    for made in loop.run(model, phases(config), config.train, kept, data(config, vocab), first, restore):
        note(answer, made)
        if not first:
            checkpoints.save(out, made.trainer, {"step": made.step}, config.train.keep)
        if made.step == stop:
            break
    return answer.losses


def note(answer: Trained, made: loop.Stepped) -> None:
    answer.losses.append(made.result.nats / made.result.tokens)
    answer.grad_norms.append(made.result.grad_norm)
    answer.phases.append(made.phase)


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
