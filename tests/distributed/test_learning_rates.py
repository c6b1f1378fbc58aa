"""Factors of the learning rate for tables and layers: in every layout, for new rows alone, and after a restart."""

import re

import pytest
import torch
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import training_bodies

from nemo_adapt.config import PhaseConfig

NEW = 6
MODELS = {"untied": TinyLlama(vocab=245, layers=4), "tied": TinyLlama(tied=True, vocab=245, layers=4)}
FACTORS = {
    "untied": {"embeddings": 0.25, "layers:1-2": 0.5, "output": 4.0},
    "tied": {"embeddings": 0.25, "layers:1-2": 0.5},
}


def config_of(phases, distributed_optimizer=True, precision="fp32", **parallel):
    config = tiny_config(**parallel)
    config.train.global_batch, config.train.micro_batch, config.train.seq_length = 8, 2, training_bodies.SEQ
    config.train.distributed_optimizer, config.train.precision = distributed_optimizer, precision
    config.train.weight_decay = 0.5
    config.train.phases = phases
    return config


def factor_of(name, model, stage):
    """The factor of a parameter by its name in a stage of two layers."""
    if "word_embeddings" in name or "output_layer" in name:
        return FACTORS[model]["output" if "output_layer" in name and model == "untied" else "embeddings"]
    layer = re.search(r"layers\.(\d)", name)
    return 0.5 if layer and int(layer[1]) + 2 * stage in (1, 2) else 1.0


@pytest.mark.parametrize(
    ("model", "layout", "kind"),
    [
        ("untied", {}, "all"),
        ("tied", {"pp": 2}, "all"),
        ("untied", {"pp": 2, "distributed_optimizer": False}, "new_rows+layers:2"),
        ("untied", {"tp": 2, "sequence": True}, "new_rows+layers:2"),
        ("tied", {"dp": 2}, "all"),
    ],
)
def test_parts_move_by_their_factor(tmp_path, ranks, model, layout, kind):
    """In Adam's first step all changes, the decay's too, are proportional to the learning rate."""
    tiny = MODELS[model]
    folders = folders_of(tmp_path, tiny, new=NEW)
    size = layout.get("tp", 1) * layout.get("pp", 1) * layout.get("dp", 1)
    moved = []
    for given in ({}, FACTORS[model]):
        config = config_of([PhaseConfig(kind, 1, 1e-2, lr_factors=given)], **layout)
        found = ranks(size).run(training_bodies.train, config, folders, tiny.vocab + NEW)
        assert all(each.lrs == [1e-2] for each in found), "the phase's is recorded"
        moved.append([{name: each.states[1][name] - old for name, old in each.states[0].items()} for each in found])
    for rank, (plain, ours) in enumerate(zip(*moved, strict=True)):
        stage = rank if layout.get("pp") else 0
        assert any(change.abs().max() > 0 for change in ours.values())
        for name, change in ours.items():
            wanted = plain[name] * factor_of(name, model, stage)
            torch.testing.assert_close(change, wanted, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("model", "layout", "resumed"),
    [
        ("tied", {"dp": 2}, {"dp": 2}),
        ("untied", {"pp": 2, "distributed_optimizer": False}, {"pp": 2, "distributed_optimizer": False}),
        ("untied", {"pp": 2}, {"tp": 2}),
    ],
)
def test_a_restart_keeps_the_factors(tmp_path, ranks, model, layout, resumed):
    tiny = MODELS[model]
    folders = folders_of(tmp_path, tiny, new=NEW)
    phases = [
        PhaseConfig("new_rows", 2, 1e-2, lr_factors={"embeddings": 0.5}),
        PhaseConfig("all", 3, 1e-2, lr_factors=FACTORS[model]),
    ]
    words = (folders, tiny.vocab + NEW, tmp_path / "saved")
    expected = ranks(2).run(training_bodies.train_and_save, config_of(phases, **layout), *words, 0, 5, timeout=200)[0]
    for first in (1, 3):
        found = ranks(2).run(
            training_bodies.train_and_save, config_of(phases, **resumed), *words, first, 5, timeout=200
        )[0]
        tolerance = 0 if layout == resumed else 1e-5
        torch.testing.assert_close(found, expected[first:], rtol=0, atol=tolerance)
