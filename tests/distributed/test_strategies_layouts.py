"""Strategies with auxiliary data: ranks that each make the plan from the same files make the same rows."""

from dataclasses import replace

import pytest
import torch
from helpers.auxiliary import make_auxiliary
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import model_bodies

from nemo_adapt.token_map import TokenMap

NEW = 45
STRATEGIES = ["align", "calibrated", "focus", "omp", "random_token", "subword_weighted_position", "wechsel"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("strategies")
    made = folders_of(place, TinyLlama(vocab=256), NEW)
    return replace(made, auxiliary=make_auxiliary(place / "auxiliary", TokenMap.load(made.tokenizer)))


def new_rows(ranks, folders, strategy, **layout):
    """New rows of both tables, put together from the shards."""
    config = tiny_config(**layout)
    config.resize.input = config.resize.output = strategy
    shards = ranks(config.parallel.tp).run(model_bodies.tables, config, folders)
    return {name: torch.cat([shard[name] for shard in shards])[256 : 256 + NEW] for name in ("input", "output")}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_bits_on_two_ranks(ranks, folders, strategy):
    one, two = new_rows(ranks, folders, strategy), new_rows(ranks, folders, strategy, tp=2)
    for name, rows in one.items():
        assert torch.isfinite(rows).all() and rows.any(1).all()
        assert torch.equal(two[name], rows), name


def test_other_vectors_give_other_rows(ranks, folders, tmp_path):
    """Sabotage: the comparison would see ranks that read different files."""
    right = new_rows(ranks, folders, "focus")["input"]
    token_map = TokenMap.load(folders.tokenizer)
    other = replace(folders, auxiliary=make_auxiliary(tmp_path / "other", token_map, seed=1))
    assert not torch.equal(right, new_rows(ranks, other, "focus")["input"])
