"""Ten steps of training give the same losses at every layout, and padding takes no part in them."""

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
SHARED = {
    "cp4": ("untied", {"cp": 4}),
    "cp2-tp2": ("untied", {"cp": 2, "tp": 2, "sequence": True}),
    "cp2-pp2": ("tied", {"cp": 2, "pp": 2}),
    "cp2-pp2-interleaved": ("untied", {"cp": 2, "pp": 2, "virtual": 2}),
    "cp2-dp2": ("untied", {"cp": 2, "dp": 2}),
}
"""Of context parallelism; CP 2 alone is in the tests of phases."""
MODELS = {"untied": TinyLlama(vocab=250, layers=4), "tied": TinyLlama(tied=True, vocab=250, layers=4)}


def training_config(distributed_optimizer=True, **parallel):
    config = tiny_config(**parallel)
    config.train.global_batch, config.train.micro_batch, config.train.seq_length = 8, 2, training_bodies.SEQ
    config.train.distributed_optimizer = distributed_optimizer
    config.train.phases = [PhaseConfig(steps=10, lr=1e-2)]
    config.train.warmup_share = 0.4
    return config


@pytest.fixture(scope="module", params=MODELS, ids=list(MODELS))
def alone(request, tmp_path_factory, ranks):
    """A model, and its training on one rank."""
    tiny = MODELS[request.param]
    folders = folders_of(tmp_path_factory.mktemp("model"), tiny, new=6)
    result = ranks(1).run(training_bodies.train, training_config(), folders, tiny.vocab + 6)[0]
    assert result.losses[-1] != result.losses[0]
    return tiny, folders, result


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_losses_equal_one_rank(alone, ranks, layout):
    check_equal(alone, ranks, layout)


@pytest.mark.parametrize(("alone", "layout"), SHARED.values(), ids=list(SHARED), indirect=["alone"])
def test_so_they_do_where_ranks_share_a_sequence(alone, ranks, layout):
    check_equal(alone, ranks, layout)


def check_equal(alone, ranks, layout):
    tiny, folders, reference = alone
    config = training_config(**layout)
    for result in ranks(config.parallel.ranks).run(training_bodies.train, config, folders, tiny.vocab + 6):
        torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
        torch.testing.assert_close(result.grad_norms, reference.grad_norms, rtol=1e-4, atol=0)


@pytest.mark.parametrize("layout", [{"dp": 2}, {"cp": 2}, {"dp": 2, "pp": 2}], ids=["dp2", "cp2", "dp2-pp2"])
def test_ranks_send_while_they_compute(alone, ranks, layout):
    """Gradients while they are made, and weights while others are used, part by part, on the first stage; a rank alone
    has one part, and nothing to send."""
    tiny, folders, reference = alone
    config = training_config(**layout)
    found = ranks(config.parallel.ranks).run(training_bodies.train, config, folders, tiny.vocab + 6)
    parts, rest = divmod(found[0].early, len(reference.losses) - 1)  # the first step shows Megatron what to wait for
    assert parts >= 4 and rest == 0 and reference.early == 0
    assert found[0].on_the_way == parts * len(reference.losses) and reference.on_the_way == 0


def test_plain_optimizer_equals_distributed(alone, ranks):
    tiny, folders, reference = alone
    config = training_config(distributed_optimizer=False, dp=2)
    result = ranks(2).run(training_bodies.train, config, folders, tiny.vocab + 6)[0]
    torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)


def test_padding_takes_no_part(alone, ranks):
    """With 256 rows of padding instead of none, losses agree and the padded rows stay zero."""
    tiny, folders, reference = alone
    config = training_config()
    config.resize.padded_vocab_multiple = 512
    result = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + 6)[0]
    torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
    tables = [tensor for name, tensor in result.parameters.items() if "word_embeddings" in name or "output" in name]
    assert len(tables) == (1 if tiny.tied else 2)
    for table in tables:
        assert table.shape[0] == 512 and not table[tiny.vocab + 6 :].any() and table[: tiny.vocab + 6].any(1).all()


def test_a_forgotten_gradient_sum_would_be_seen(alone, ranks):
    """Sabotage: norms not marked for the sum over TP under sequence parallelism train differently."""
    tiny, folders, reference = alone
    config = training_config(tp=2, sequence=True)
    result = ranks(2).run(training_bodies.train, config, folders, tiny.vocab + 6, True)[0]
    difference = max(abs(a - b) for a, b in zip(result.losses, reference.losses, strict=True))
    assert difference > 1e-4
