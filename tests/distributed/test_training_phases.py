"""Phases: what one does not train stays bit by bit, at every layout; losses agree; a restart changes nothing."""

import pytest
import torch
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import training_bodies

from nemo_adapt.config import PhaseConfig

NEW = 6
LAYOUTS = {
    "tp2-sequence": {"tp": 2, "sequence": True},
    "pp2": {"pp": 2},
    "dp2": {"dp": 2},
}
# 245 + 6 rows, padded to 256: at TP=2 the second rank has kept, new and padded rows.
MODELS = {"untied": TinyLlama(vocab=245), "tied": TinyLlama(tied=True, vocab=245)}
TABLES = ("word_embeddings", "output_layer")


def phase_config(kinds, distributed_optimizer=True, precision="fp32", **parallel):
    config = tiny_config(**parallel)
    config.train.global_batch, config.train.micro_batch, config.train.seq_length = 8, 2, training_bodies.SEQ
    config.train.distributed_optimizer, config.train.precision = distributed_optimizer, precision
    config.train.weight_decay = 0.5
    config.train.phases = [PhaseConfig(kind, steps, 1e-2) for kind, steps in kinds]
    return config


THREE = (("new_rows", 2), ("embeddings", 2), ("all", 1))


def shards(result, rank, tp, tiny):
    """By phase: (name, before, after) of tables' kept, new and padded rows and of all other parameters."""
    first = rank % tp
    for before, after in zip(result.states, result.states[1:], strict=False):
        found = {"kept": [], "new": [], "padded": [], "layers": []}
        for name, tensor in before.items():
            if not any(table in name for table in TABLES):
                found["layers"].append((tensor, after[name]))
                continue
            ids = torch.arange(len(tensor)) + first * len(tensor)
            is_new = (ids >= tiny.vocab) & (ids < tiny.vocab + NEW)
            masks = {"kept": ids < tiny.vocab, "new": is_new, "padded": ids >= tiny.vocab + NEW}
            for part, rows in masks.items():
                found[part].append((tensor[rows], after[name][rows]))
        yield found


def same(pairs):
    return all(torch.equal(before, after) for before, after in pairs)


def assert_frozen(result, rank, tp, tiny):
    """The three phases of THREE changed what they train, and not a bit of anything else."""
    new_rows, embeddings, everything = shards(result, rank, tp, tiny)
    for found in (new_rows, embeddings, everything):
        assert not any(before.any() or after.any() for before, after in found["padded"])
        for before, after in found["new"]:
            assert not len(before) or (before != after).any(1).all()
    assert same(new_rows["kept"]) and same(new_rows["layers"]) and same(embeddings["layers"])
    for before, after in embeddings["kept"]:
        assert not len(before) or (before != after).any(1).all()  # each row decays, if nothing else
    assert everything["layers"] and not same(everything["layers"])
    assert result.phases == [1, 1, 2, 2, 3] and result.left_behind == 0


@pytest.fixture(scope="module", params=MODELS, ids=list(MODELS))
def alone(request, tmp_path_factory, ranks):
    tiny = MODELS[request.param]
    folders = folders_of(tmp_path_factory.mktemp("model"), tiny, new=NEW)
    result = ranks(1).run(training_bodies.train, phase_config(THREE), folders, tiny.vocab + NEW)[0]
    assert_frozen(result, 0, 1, tiny)
    return tiny, folders, result


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_frozen_is_frozen_and_losses_equal_one_rank(alone, ranks, layout):
    tiny, folders, reference = alone
    results = ranks(2).run(training_bodies.train, phase_config(THREE, **layout), folders, tiny.vocab + NEW)
    for rank, result in enumerate(results):
        assert_frozen(result, rank, layout.get("tp", 1), tiny)
        torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
        torch.testing.assert_close(result.grad_norms, reference.grad_norms, rtol=1e-4, atol=0)


def test_the_plain_optimizer_freezes_too(alone, ranks):
    tiny, folders, reference = alone
    config = phase_config(THREE, distributed_optimizer=False, dp=2)
    result = ranks(2).run(training_bodies.train, config, folders, tiny.vocab + NEW)[0]
    assert_frozen(result, 0, 1, tiny)
    torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)


@pytest.mark.parametrize("distributed_optimizer", [True, False])
def test_master_weights_move_nothing_frozen(alone, ranks, distributed_optimizer):
    tiny, folders, _ = alone
    config = phase_config(THREE, distributed_optimizer, "bf16")
    result = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + NEW)[0]
    new_rows, embeddings, _ = shards(result, 0, 1, tiny)
    assert same(new_rows["kept"]) and same(new_rows["layers"]) and same(embeddings["layers"])
    assert not same(new_rows["new"])


def test_a_stage_without_tables_has_nothing_to_train(tmp_path, ranks):
    """The middle one of three pipeline stages holds no table: its optimizer is empty in the first two phases."""
    tiny = TinyLlama(vocab=245, layers=3)
    folders = folders_of(tmp_path, tiny, new=NEW)
    reference = ranks(1).run(training_bodies.train, phase_config(THREE), folders, tiny.vocab + NEW)[0]
    out = tmp_path / "saved"
    results = ranks(3).run(training_bodies.train, phase_config(THREE, pp=3), folders, tiny.vocab + NEW)
    for rank, result in enumerate(results):
        assert_frozen(result, rank, 1, tiny)
        torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
    words = (phase_config(THREE, pp=3), folders, tiny.vocab + NEW, out)
    ranks(3).run(training_bodies.train_and_save, *words, 0, 2, timeout=200)
    resumed = ranks(3).run(training_bodies.train_and_save, *words, 1, 3, timeout=200)[0]
    torch.testing.assert_close(resumed, reference.losses[1:3], rtol=0, atol=1e-5)


RESTARTS = [("tied", "tp2-sequence"), ("tied", "pp2"), ("untied", "pp2"), ("tied", "dp2")]


@pytest.mark.parametrize(("model", "layout"), RESTARTS)
def test_a_restart_inside_a_phase_and_at_its_end_changes_nothing(tmp_path, ranks, model, layout):
    tiny = MODELS[model]
    folders = folders_of(tmp_path, tiny, new=NEW)
    config = phase_config((("new_rows", 2), ("all", 2)), **LAYOUTS[layout])
    words = (config, folders, tiny.vocab + NEW, tmp_path / "saved")
    whole = ranks(2).run(training_bodies.train_and_save, *words, 0, 4, timeout=200)[0]
    for first in (1, 2, 3):
        assert ranks(2).run(training_bodies.train_and_save, *words, first, 4, timeout=200)[0] == whole[first:], first


def test_a_kept_row_that_moved_would_be_seen(alone, ranks):
    """Sabotage: five kept rows are taken for new ones."""
    tiny, folders, _ = alone
    result = ranks(1).run(training_bodies.train, phase_config(THREE), folders, tiny.vocab + NEW, False, 5)[0]
    assert not same(next(iter(shards(result, 0, 1, tiny)))["kept"])
