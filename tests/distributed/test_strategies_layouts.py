"""Strategies with auxiliary data: ranks that each compute the plan from the same files get the same rows."""

from dataclasses import replace

import pytest
import torch
from helpers.auxiliary import make_auxiliary
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import model_bodies
from safetensors.torch import load_file

from nemo_adapt.errors import UserError
from nemo_adapt.resize import offline
from nemo_adapt.tokens.token_map import TokenMap

NEW = 45
STRATEGIES = ["align", "calibrated", "focus", "omp", "random_token", "subword_weighted_position", "wechsel"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("strategies")
    made = folders_of(place, TinyLlama(vocab=256), NEW)
    return replace(made, auxiliary=make_auxiliary(place / "auxiliary", TokenMap.load(made.tokenizer)))


def new_rows(ranks, folders, strategy, **layout):
    """Return the new rows of both tables, concatenated from the shards."""
    config = tiny_config(**layout)
    config.resize.input = config.resize.output = strategy
    shards = ranks(config.parallel.tp).run(model_bodies.tables, config, folders)
    return {name: torch.cat([shard[name] for shard in shards])[256 : 256 + NEW] for name in ("input", "output")}


def offline_words(folders, out):
    return [f"model={folders.model}", f"tokenizer={folders.tokenizer}", f"out={out}"]


def offline_rows(folders, strategy, out):
    """Return the new rows of both tables, made by the offline command."""
    kinds = [f"auxiliary={next(iter(folders.auxiliary.values())).parent}"]
    words = [*offline_words(folders, out), f"resize.seed={tiny_config().resize.seed}"]
    offline.main([*words, *kinds, f"resize.input={strategy}", f"resize.output={strategy}"])
    tensors = load_file(out / "model.safetensors")
    return {"input": tensors["model.embed_tokens.weight"][256:], "output": tensors["lm_head.weight"][256:]}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_are_bit_identical_on_two_ranks_and_offline(ranks, folders, strategy, tmp_path):
    one, two = new_rows(ranks, folders, strategy), new_rows(ranks, folders, strategy, tp=2)
    offline_result = offline_rows(folders, strategy, tmp_path / "out")
    for name, rows in one.items():
        assert torch.isfinite(rows).all() and rows.any(1).all()
        assert torch.equal(two[name], rows), name
        assert torch.equal(offline_result[name], rows), name


def test_offline_command_names_the_missing_auxiliary_data(folders, tmp_path):
    words = [*offline_words(folders, tmp_path / "out"), "resize.input=focus"]
    with pytest.raises(UserError, match=r"need vectors: give auxiliary=RUN/auxiliary"):
        offline.main(words)
    with pytest.raises(UserError, match=r"nowhere/vectors does not exist"):
        offline.main([*words, f"auxiliary={tmp_path / 'nowhere'}"])
    assert not (tmp_path / "out").exists()


def test_check_detects_other_vectors(ranks, folders, tmp_path):
    """Negative control: ranks that read different files would get different rows."""
    right = new_rows(ranks, folders, "focus")["input"]
    token_map = TokenMap.load(folders.tokenizer)
    other = replace(folders, auxiliary=make_auxiliary(tmp_path / "other", token_map, seed=1))
    assert not torch.equal(right, new_rows(ranks, other, "focus")["input"])
