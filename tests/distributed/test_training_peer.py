"""Random trainings in random layouts, with a restart in another layout, equal a plain loop in losses and weights."""

import math
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import plain_training
from helpers.folders import Folders
from helpers.plain_training import Plain
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map, tiny_config
from ranks import training_bodies
from safetensors.torch import load_file

from nemo_adapt.checkpoint.folders import checkpoint_name
from nemo_adapt.config import Config, ExportConfig, PhaseConfig, ResizeConfig
from nemo_adapt.export import export_checkpoint
from nemo_adapt.resize.offline import resize_folder
from nemo_adapt.resize.strategy_inputs import StrategyInputs

CHOSEN = (91, 202, 209, 333)
"""Combinations, by their random seeds, that need two ranks. Interleaved stages, then CP 2: documents apart, z-loss.
PP 2, then TP 2: bf16. DP 2, then PP 2: all is trained, with three learning rates. TP 2, then DP 2: no loss at document
ends, tables without weight decay."""
FIRST = int(os.environ.get("NEMO_ADAPT_FIRST_COMBINATION", "0"))
COMBINATIONS = int(os.environ.get("NEMO_ADAPT_COMBINATIONS", "0"))
NUMBERS = range(FIRST, FIRST + COMBINATIONS) if COMBINATIONS else CHOSEN
"""``make test-faults`` takes forty."""
NEW, MOST_RANKS, LR = 6, 4, 5e-3
PARTS = ("new_rows", "embeddings", "all", "layers:1-1", "new_rows+layers:1", "embeddings+layers:0-1")
UNTIED_PARTS = ("output", "output+layers:0")
FACTORS = ({}, {"embeddings": 0.25}, {"layers:0": 2.0, "embeddings": 0.5})


@dataclass(frozen=True)
class Tolerance:
    """What may differ between two orders of the same sums: several times what ninety combinations needed."""

    losses: float
    """Nats per token."""
    norms: float
    """Of a gradient norm, relative to it."""
    weights: float
    """In fp32 of a weight: 0.2% of a step at ``LR``, as gradients also differ because earlier steps did. In bf16 of a
    tensor's norm, relative to it: a quarter of a weight's last bit."""
    moves: float = 0.0
    """In bf16, of the move of a tensor: rounding turns the sign of so many gradients that single weights cannot be
    compared. In fp32 each weight has a tolerance of its own (``plain_training.Plain.spread``)."""


TOLERANCES = {"fp32": Tolerance(5e-6, 2e-5, 1e-5), "bf16": Tolerance(1e-2, 5e-2, 2**-9, 0.4)}


@dataclass(frozen=True)
class Drawn:
    """A random training: its model, settings, layouts before and after a restart, and the step between them."""

    tiny: TinyLlama
    train: dict[str, Any]
    phases: list[PhaseConfig]
    layouts: tuple[dict[str, Any], dict[str, Any]]
    first: int

    def config(self, layout: dict[str, Any]) -> Config:
        config = tiny_config(**layout)
        config.train.global_batch, config.train.seq_length = 8, training_bodies.SEQ
        config.train.phases = self.phases
        for name, value in self.train.items():
            setattr(config.train, name, value)
        return config


def drawn(number: int) -> Drawn:
    """Return combination ``number``, its random seed."""
    draw = random.Random(number)
    tied = draw.random() < 0.5
    tiny = TinyLlama(tied, kv_heads=draw.choice([2, 4]), vocab=245, layers=draw.choice([2, 2, 4]))
    names = ("recompute", "reset_positions", "reset_attention", "mask_document_ends", "distributed_optimizer")
    train: dict[str, Any] = {name: draw.random() < 0.5 for name in names}
    train |= {"micro_batch": draw.choice([1, 2]), "z_loss": draw.choice([0.0, 0.01])}
    train |= {"precision": draw.choice(["fp32", "fp32", "bf16"]), "clip_grad": draw.choice([0.0, 0.1, 1.0])}
    train |= {"schedule": draw.choice(["cosine", "linear", "constant", "wsd"]), "min_lr_share": draw.choice([0.1, 0.5])}
    train |= {"warmup_share": draw.choice([0.0, 0.4]), "decay_share": draw.choice([0.3, 0.6])}
    train |= {"weight_decay": draw.choice([0.0, 0.3]), "adam_beta2": draw.choice([0.95, 0.999])}
    train |= {"no_weight_decay": draw.sample(list(plain_training.NAMES), draw.choice([0, 1]))}
    phases = []
    for _ in range(draw.choice([1, 2])):
        part = draw.choice(PARTS if tied else PARTS + UNTIED_PARTS)
        factors = [each for each in FACTORS if _fits(part, each)]
        phases.append(PhaseConfig(part, draw.choice([2, 3]), LR, lr_factors=draw.choice(factors)))
    steps = sum(phase.steps for phase in phases)
    return Drawn(tiny, train, phases, (layout(draw, tiny.layers), layout(draw, tiny.layers)), draw.randrange(1, steps))


def _fits(part: str, factors: dict[str, float]) -> bool:
    """Whether a phase that trains ``part`` trains something of all that has factors."""
    has = {"embeddings": not part.startswith("layers"), "layers:0": part in ("all", "embeddings+layers:0-1")}
    has["layers:0"] |= part == "output+layers:0"
    return all(has[name] for name in factors)


def layout(draw: random.Random, layers: int) -> dict[str, Any]:
    """Return a layout of two to four ranks for a model of ``layers`` layers."""
    while True:
        found: dict[str, Any] = {name: draw.choice([1, 1, 2, 4]) for name in ("tp", "cp", "dp")}
        found["pp"] = draw.choice([1, 2])
        if 2 <= math.prod(found.values()) <= MOST_RANKS:
            break
    if found["pp"] == 2 and layers == 4:
        found |= draw.choice([{}, {"virtual": 2}, {"stage_layers": [1, 3]}])
    return found | {"sequence": found["tp"] > 1 and draw.random() < 0.6}


def folders_for(place: Path, one: Drawn) -> Folders:
    """Make the model in the precision of the training: rows made of rounded ones would be others."""
    model = make_llama(place / "model", one.tiny, plain_training.DTYPES[one.train["precision"]])
    make_token_map(place / "tokenizer", one.tiny.vocab, NEW)
    return Folders(model, converted(model, place / "convert"), place / "tokenizer")


def plain(one: Drawn, folders: Folders, place: Path) -> Plain:
    """Train in the plain loop."""
    place.mkdir()
    resize_folder(StrategyInputs(folders.model), folders.tokenizer, place, ResizeConfig(), shard_mib=1)
    vocab = one.tiny.vocab + NEW
    samples = training_bodies.samples(vocab)
    return plain_training.train(place, one.config({}).train, one.tiny.vocab, samples, vocab - 1)


def ours(ranks: Any, one: Drawn, folders: Folders, place: Path) -> Plain:
    """Train on ranks, until the restart in one layout and then in the other."""
    steps, found = sum(phase.steps for phase in one.phases), Plain()
    for first, stop, of_part in ((0, one.first, one.layouts[0]), (one.first, steps, one.layouts[1])):
        config = one.config(of_part)
        words = (config, folders, one.tiny.vocab + NEW, place, first, stop, [stop])
        part = ranks(config.parallel.ranks).run(training_bodies.train_part, *words, timeout=200)[0]
        found.losses += part.losses
        found.grad_norms += part.grad_norms
    (place / "hf").mkdir()
    export_checkpoint(place / checkpoint_name(steps), folders.model, folders.tokenizer, place / "hf", ExportConfig())
    found.weights = {name: weight.float() for name, weight in load_file(place / "hf" / "model.safetensors").items()}
    return found


def check(ranks: Any, one: Drawn, place: Path, **changed: Any) -> None:
    """Assert that losses, gradient norms and weights equal those of the plain loop, which trains with ``changed``
    settings."""
    within, folders = TOLERANCES[one.train["precision"]], folders_for(place, one)
    expected = plain(replace(one, train=one.train | changed), folders, place / "plain")
    found = ours(ranks, one, folders, place / "saved")
    torch.testing.assert_close(found.losses, expected.losses, rtol=0, atol=within.losses)
    torch.testing.assert_close(found.grad_norms, expected.grad_norms, rtol=within.norms, atol=0)
    assert found.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        start, spread, off = expected.start[name], expected.spread[name], found.weights[name] - weight
        assert torch.equal(found.weights[name][spread == 0], start[spread == 0]), f"{name}: frozen, and changed"
        if within.moves:
            assert off.norm() <= within.moves * (weight - start).norm() + within.weights * weight.norm(), name
        else:
            beyond = off.abs() - spread - within.weights
            assert (beyond <= 0).all(), (
                f"{name}: {(beyond > 0).sum()} of {off.numel()} weights, by up to {beyond.max()}"
            )


@pytest.mark.parametrize("number", NUMBERS)
def test_training_equals_a_plain_loop(tmp_path, ranks, number):
    check(ranks, drawn(number), tmp_path)


def test_check_detects_another_rate_in_the_last_step(tmp_path, ranks):
    """Negative control: no loss shows it, weights do."""
    settings = {"schedule": "wsd", "decay_share": 0.5, "warmup_share": 0.0, "min_lr_share": 0.5}
    one = drawn(CHOSEN[0])
    one = replace(one, train=one.train | settings, phases=[PhaseConfig("all", 2, LR)], first=1)
    with pytest.raises(AssertionError, match="weights, by up to"):
        check(ranks, one, tmp_path, min_lr_share=0.51)
