"""Ten training steps give the same losses in every layout, and padded rows do not affect them."""

import pytest
import torch
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import training_bodies

from nemo_adapt.config import PhaseConfig

LAYOUTS = {
    "tp2": {"tp": 2},
    "tp2-sequence": {"tp": 2, "sequence": True},
    "pp2": {"pp": 2},
    "pp2-interleaved": {"pp": 2, "virtual": 2},
    "dp2": {"dp": 2},
    "tp2-pp2": {"tp": 2, "pp": 2, "sequence": True},
    "tp2-dp2": {"tp": 2, "dp": 2},
}
CP_LAYOUTS = {
    "cp4": ("untied", {"cp": 4}),
    "cp2-tp2": ("untied", {"cp": 2, "tp": 2, "sequence": True}),
    "cp2-pp2": ("tied", {"cp": 2, "pp": 2}),
    "cp2-pp2-interleaved": ("untied", {"cp": 2, "pp": 2, "virtual": 2}),
    "cp2-dp2": ("untied", {"cp": 2, "dp": 2}),
}
"""Model and layout, with context parallelism; CP 2 by itself is in test_training_phases.py."""
UNEVEN = {
    "pp2-four-and-one": {"pp": 2, "stage_layers": [4, 1]},
    "pp2-interleaved": {"pp": 2, "virtual": 2},
    "pp3": {"pp": 3},
    "pp2-tp2": {"pp": 2, "tp": 2, "sequence": True},
}
"""Pipeline stages with different numbers of layers, of a model of five."""
MODELS = {"untied": TinyLlama(vocab=250, layers=4), "tied": TinyLlama(tied=True, vocab=250, layers=4)}


def training_config(distributed_optimizer=True, **parallel):
    config = tiny_config(**parallel)
    config.train.global_batch, config.train.micro_batch, config.train.seq_length = 8, 2, training_bodies.SEQ
    config.train.distributed_optimizer = distributed_optimizer
    config.train.phases = [PhaseConfig(steps=10, lr=1e-2)]
    config.train.warmup_share = 0.4
    return config


@pytest.fixture(scope="module", params=MODELS, ids=list(MODELS))
def single_rank(request, tmp_path_factory, ranks):
    """Train a model on one rank; return the model, its folders and the result."""
    tiny = {**MODELS, "five": TinyLlama(tied=True, vocab=250, layers=5)}[request.param]
    folders = folders_of(tmp_path_factory.mktemp("model"), tiny, new=6)
    result = ranks(1).run(training_bodies.train, training_config(), folders, tiny.vocab + 6)[0]
    assert result.losses[-1] != result.losses[0]
    return tiny, folders, result


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_losses_equal_those_of_one_rank(single_rank, ranks, layout):
    check_equal(single_rank, ranks, layout)


@pytest.mark.parametrize(("single_rank", "layout"), CP_LAYOUTS.values(), ids=list(CP_LAYOUTS), indirect=["single_rank"])
def test_losses_equal_those_of_one_rank_under_context_parallelism(single_rank, ranks, layout):
    check_equal(single_rank, ranks, layout)


@pytest.mark.parametrize("layout", UNEVEN.values(), ids=list(UNEVEN))
@pytest.mark.parametrize("single_rank", ["five"], indirect=True)
def test_losses_equal_those_of_one_rank_with_unequal_stages(single_rank, ranks, layout):
    check_equal(single_rank, ranks, layout)


def check_equal(single_rank, ranks, layout):
    tiny, folders, reference = single_rank
    config = training_config(**layout)
    for result in ranks(config.parallel.ranks).run(training_bodies.train, config, folders, tiny.vocab + 6):
        torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
        torch.testing.assert_close(result.grad_norms, reference.grad_norms, rtol=1e-4, atol=0)


@pytest.mark.parametrize("layout", [{"dp": 2}, {"cp": 2}, {"dp": 2, "pp": 2}], ids=["dp2", "cp2", "dp2-pp2"])
def test_communication_overlaps_computation(single_rank, ranks, layout):
    """The first stage reduces gradient buckets during the backward pass, and gathers weight buckets asynchronously; a
    single rank has one bucket and nothing to send."""
    tiny, folders, reference = single_rank
    config = training_config(**layout)
    found = ranks(config.parallel.ranks).run(training_bodies.train, config, folders, tiny.vocab + 6)
    # In the first step Megatron only counts the gradients of each bucket.
    buckets, rest = divmod(found[0].overlapped_reductions, len(reference.losses) - 1)
    assert buckets >= 4 and rest == 0 and reference.overlapped_reductions == 0
    assert found[0].async_gathers == buckets * len(reference.losses) and reference.async_gathers == 0


def test_losses_without_the_distributed_optimizer_are_the_same(single_rank, ranks):
    tiny, folders, reference = single_rank
    config = training_config(distributed_optimizer=False, dp=2)
    result = ranks(2).run(training_bodies.train, config, folders, tiny.vocab + 6)[0]
    torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)


def test_padded_rows_do_not_affect_training(single_rank, ranks):
    """With 256 padded rows instead of none, losses are the same and the padded rows stay zero."""
    tiny, folders, reference = single_rank
    config = training_config()
    config.resize.padded_vocab_multiple = 512
    result = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + 6)[0]
    torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
    tables = [tensor for name, tensor in result.parameters.items() if "word_embeddings" in name or "output" in name]
    assert len(tables) == (1 if tiny.tied else 2)
    for table in tables:
        assert table.shape[0] == 512 and not table[tiny.vocab + 6 :].any() and table[: tiny.vocab + 6].any(1).all()


def test_check_detects_a_missing_gradient_all_reduce(single_rank, ranks):
    """Negative control: without the all-reduce of norms over TP under sequence parallelism, losses differ."""
    tiny, folders, reference = single_rank
    config = training_config(tp=2, sequence=True)
    result = ranks(2).run(training_bodies.train, config, folders, tiny.vocab + 6, True)[0]
    difference = max(abs(a - b) for a, b in zip(result.losses, reference.losses, strict=True))
    assert difference > 1e-4
