"""Phases keep what they do not train bit by bit, in every layout; losses agree; restarts change nothing."""

from dataclasses import replace

import pytest
import torch
from helpers import zoo
from helpers.folders import Folders, folders_of
from helpers.tiny import TinyLlama, converted, make_token_map, tiny_config
from ranks import training_bodies

from nemo_adapt.config import PhaseConfig

NEW = 6
LAYOUTS = {
    "tp2-sequence": {"tp": 2, "sequence": True},
    "pp2": {"pp": 2},
    "pp2-interleaved": {"pp": 2, "virtual": 2},
    "dp2": {"dp": 2},
    "cp2": {"cp": 2},
}
# 245 + 6 rows, padded to 256: at TP=2 the second rank has kept, new and padded rows.
MODELS = {"untied": TinyLlama(vocab=245, layers=4), "tied": TinyLlama(tied=True, vocab=245, layers=4)}
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
    """Yield by phase (before, after) of tables' kept, new and padded rows and of all other parameters ("layers")."""
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
    """Assert that the phases of THREE changed all that they train, and not a bit of anything else."""
    new_rows, embeddings, everything = shards(result, rank, tp, tiny)
    for found in (new_rows, embeddings, everything):
        assert not any(before.any() or after.any() for before, after in found["padded"])
        for before, after in found["new"]:
            assert not len(before) or (before != after).any(1).all()
    assert same(new_rows["kept"]) and same(new_rows["layers"]) and same(embeddings["layers"])
    for before, after in embeddings["kept"]:
        assert not len(before) or (before != after).any(1).all()  # weight decay at least changes each row
    assert everything["layers"] and not same(everything["layers"])
    assert result.phases == [1, 1, 2, 2, 3] and result.live_trainers == 0


def test_optimizer_has_no_state_for_kept_rows(single_rank):
    tiny, _, result = single_rank
    tables = 1 if tiny.tied else 2
    hidden = next(tensor for name, tensor in result.parameters.items() if "word_embeddings" in name).shape[1]
    everything = sum(tensor.numel() for tensor in result.parameters.values())
    assert result.sizes == [tables * NEW * hidden, tables * 256 * hidden, everything]


@pytest.fixture(scope="module", params=MODELS, ids=list(MODELS))
def single_rank(request, tmp_path_factory, ranks):
    tiny = MODELS[request.param]
    folders = folders_of(tmp_path_factory.mktemp("model"), tiny, new=NEW)
    result = ranks(1).run(training_bodies.train, phase_config(THREE), folders, tiny.vocab + NEW)[0]
    assert_frozen(result, 0, 1, tiny)
    return tiny, folders, result


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_frozen_parameters_do_not_change_and_losses_equal_one_rank(single_rank, ranks, layout):
    tiny, folders, reference = single_rank
    results = ranks(2).run(training_bodies.train, phase_config(THREE, **layout), folders, tiny.vocab + NEW)
    for rank, result in enumerate(results):
        assert_frozen(result, rank, layout.get("tp", 1), tiny)
        torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
        torch.testing.assert_close(result.grad_norms, reference.grad_norms, rtol=1e-4, atol=0)


def test_non_distributed_optimizer_keeps_frozen_parameters(single_rank, ranks):
    tiny, folders, reference = single_rank
    config = phase_config(THREE, distributed_optimizer=False, dp=2)
    result = ranks(2).run(training_bodies.train, config, folders, tiny.vocab + NEW)[0]
    assert_frozen(result, 0, 1, tiny)
    torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)


@pytest.mark.parametrize("distributed_optimizer", [True, False])
def test_master_weights_do_not_change_frozen_parameters(single_rank, ranks, distributed_optimizer):
    tiny, folders, _ = single_rank
    config = phase_config(THREE, distributed_optimizer, "bf16")
    result = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + NEW)[0]
    new_rows, embeddings, _ = shards(result, 0, 1, tiny)
    assert same(new_rows["kept"]) and same(new_rows["layers"]) and same(embeddings["layers"])
    assert not same(new_rows["new"])


def test_pipeline_stage_may_have_nothing_to_train(tmp_path, ranks):
    """The middle one of three holds no table: its optimizer is empty in the first two phases. Nor does it read text."""
    tiny = TinyLlama(vocab=245, layers=3)
    folders = folders_of(tmp_path, tiny, new=NEW)
    reference = ranks(1).run(training_bodies.train, phase_config(THREE), folders, tiny.vocab + NEW)[0]
    out = tmp_path / "saved"
    results = ranks(3).run(training_bodies.train, phase_config(THREE, pp=3), folders, tiny.vocab + NEW)
    for rank, result in enumerate(results):
        assert_frozen(result, rank, 1, tiny)
        torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
        assert result.samples_read == (0 if rank == 1 else reference.samples_read)
    words = (phase_config(THREE, pp=3), folders, tiny.vocab + NEW, out)
    ranks(3).run(training_bodies.train_and_save, *words, 0, 2, timeout=200)
    resumed = ranks(3).run(training_bodies.train_and_save, *words, 1, 3, timeout=200)[0]
    torch.testing.assert_close(resumed, reference.losses[1:3], rtol=0, atol=1e-5)


LAYOUTS_PLAIN = {**LAYOUTS, "tp2-plain-optimizer": {"tp": 2, "distributed_optimizer": False}}
RESTARTS = [
    ("tied", "tp2-sequence"),
    ("tied", "pp2"),
    ("untied", "pp2-interleaved"),
    ("tied", "dp2"),
    ("tied", "tp2-plain-optimizer"),
]


@pytest.mark.parametrize(("model", "layout"), RESTARTS)
def test_restart_within_or_between_phases_changes_no_loss(tmp_path, ranks, model, layout):
    tiny = MODELS[model]
    folders = folders_of(tmp_path, tiny, new=NEW)
    config = phase_config((("new_rows", 2), ("all", 2)), **LAYOUTS_PLAIN[layout])
    words = (config, folders, tiny.vocab + NEW, tmp_path / "saved")
    expected = ranks(2).run(training_bodies.train_and_save, *words, 0, 4, timeout=200)[0]
    for first in (1, 2, 3):
        assert ranks(2).run(training_bodies.train_and_save, *words, first, 4, timeout=200)[0] == expected[first:], first


UNEQUAL = [
    ("untied", {"tp": 2, "sequence": True}),
    ("tied", {"pp": 2}),
    ("untied", {"pp": 2, "distributed_optimizer": False, "precision": "bf16"}),
    ("tied", {"pp": 2, "stage_layers": [1, 3]}),
]


@pytest.mark.parametrize(("model", "layout"), UNEQUAL)
def test_restart_in_phases_of_some_layers_changes_no_loss(tmp_path, ranks, model, layout):
    """Pipeline stages train different parts. As shipped, Megatron saves state behind a tied table shifted, and cannot
    load master weights of which the first stage has fewer."""
    tiny = MODELS[model]
    folders = folders_of(tmp_path, tiny, new=NEW)
    config = phase_config((("layers:1-2", 2), ("new_rows+layers:3", 2)), **layout)
    words = (config, folders, tiny.vocab + NEW, tmp_path / "saved")
    expected = ranks(2).run(training_bodies.train_and_save, *words, 0, 4, timeout=200)[0]
    for first in (1, 3):
        assert ranks(2).run(training_bodies.train_and_save, *words, first, 4, timeout=200)[0] == expected[first:], first


def test_check_detects_changed_kept_rows(single_rank, ranks):
    """Negative control: five kept rows are trained as new ones."""
    tiny, folders, _ = single_rank
    result = ranks(1).run(training_bodies.train, phase_config(THREE), folders, tiny.vocab + NEW, False, 5)[0]
    assert not same(next(iter(shards(result, 0, 1, tiny)))["kept"])


RESHARDED = [
    ("tp2-sequence", {"pp": 2, "virtual": 2}, 16),
    ("pp2-interleaved", {"tp": 2}, 16),
    ("dp2", {}, 16),
    ("tp2-sequence", {"dp": 2}, 24),
    ("dp2", {"tp": 2}, 24),
    ("cp2", {}, 16),
    ("pp2-unequal", {"pp": 2, "virtual": 2}, 16),
    ("tp2-sequence", {"pp": 2, "stage_layers": [3, 1]}, 16),
]


@pytest.mark.parametrize(("saved", "resumed", "multiple"), RESHARDED)
def test_training_resumes_in_another_layout(tmp_path, ranks, saved, resumed, multiple):
    """Within the phase of new rows, and within the next one, with the optimizer state. With a multiple of 24 the tables
    are padded to 264 rows at TP=1 and 288 at TP=2."""

    def config_of(layout):
        config = phase_config(kinds, **layout)
        config.resize.padded_vocab_multiple = multiple
        return config

    tiny = MODELS["tied" if "pp" in resumed else "untied"]
    folders = folders_of(tmp_path, tiny, new=NEW)
    kinds = (("new_rows", 2), ("all", 3))
    words = (folders, tiny.vocab + NEW, tmp_path / "saved")
    layout = {**LAYOUTS, "pp2-unequal": {"pp": 2, "stage_layers": [1, 3]}}[saved]
    expected = ranks(2).run(training_bodies.train_and_save, config_of(layout), *words, 0, 5)[0]
    size = 2 if resumed else 1
    for first in (1, 3):
        found = ranks(size).run(training_bodies.train_and_save, config_of(resumed), *words, first, 5)[0]
        torch.testing.assert_close(found, expected[first:], rtol=0, atol=1e-5)


def test_activation_recompute_is_bit_identical(single_rank, ranks):
    tiny, folders, reference = single_rank
    config = phase_config(THREE)
    config.train.recompute = True
    result = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + NEW)[0]
    assert result.losses == reference.losses
    for name, tensor in reference.parameters.items():
        assert torch.equal(result.parameters[name], tensor), name


PARTS = {
    "output": ("output", {"output_layer"}),
    "layers": ("layers:1-2", {"decoder.layers.1.", "decoder.layers.2."}),
    "embeddings and a layer": ("embeddings+layers:3", {"word_embeddings", "output_layer", "decoder.layers.3."}),
    "new rows and a layer": ("new_rows+layers:0", {"word_embeddings", "output_layer", "decoder.layers.0."}),
}


@pytest.mark.parametrize(("kind", "changed"), PARTS.values(), ids=list(PARTS))
def test_phase_changes_only_the_named_parts(tmp_path, ranks, kind, changed):
    """With weight decay and gradient clipping. Losses agree at PP=2."""
    tiny = MODELS["untied"]
    folders = folders_of(tmp_path, tiny, new=NEW)
    reference = ranks(1).run(training_bodies.train, phase_config(((kind, 3),)), folders, tiny.vocab + NEW)[0]
    before, after = reference.states
    for name, tensor in before.items():
        moved = not torch.equal(tensor, after[name])
        assert moved == any(part in name for part in changed), name
        if "new_rows" in kind and ("word_embeddings" in name or "output_layer" in name):
            assert torch.equal(tensor[: tiny.vocab], after[name][: tiny.vocab])
    for result in ranks(2).run(training_bodies.train, phase_config(((kind, 3),), pp=2), folders, tiny.vocab + NEW):
        torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)


def test_no_weight_decay_leaves_rows_without_gradient_unchanged(tmp_path, ranks):
    """A kept row whose token does not occur and that is not decayed does not change at all."""
    tiny = MODELS["untied"]
    folders = folders_of(tmp_path, tiny, new=NEW)
    config = phase_config((("embeddings", 2),))
    config.train.no_weight_decay = ["*word_embeddings*"]
    before, after = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + NEW)[0].states
    tokens = torch.cat([sample["tokens"] for sample in training_bodies.samples(tiny.vocab + NEW)[:16]])
    unseen = [row for row in range(tiny.vocab) if row not in set(tokens.tolist())]
    name = next(name for name in before if "word_embeddings" in name)
    assert unseen and torch.equal(before[name][unseen], after[name][unseen])
    (output,) = [name for name in before if "output_layer" in name]
    assert (before[output][: tiny.vocab] != after[output][: tiny.vocab]).any(1).all()


def test_z_loss_affects_gradients_but_not_the_reported_loss(single_rank, ranks):
    tiny, folders, reference = single_rank
    config = phase_config(THREE)
    config.train.z_loss = 0.5
    found = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + NEW)[0]
    assert found.losses[0] == pytest.approx(reference.losses[0], abs=1e-6)
    assert found.grad_norms[0] > reference.grad_norms[0] + 0.1


def test_no_weight_decay_holds_for_new_rows_trained_alone(tmp_path, ranks):
    """Their phase has parameters of its own for them, which belong to the tables by name."""
    tiny = MODELS["untied"]
    folders = folders_of(tmp_path, tiny, new=NEW)
    config, undecayed = phase_config((("new_rows", 3),)), phase_config((("new_rows", 3),))
    config.train.no_weight_decay, undecayed.train.weight_decay = ["*word_embeddings*", "*output_layer*"], 0.0
    found, expected = (ranks(1).run(training_bodies.train, each, folders, 251)[0] for each in (config, undecayed))
    for name, tensor in expected.parameters.items():
        assert torch.equal(found.parameters[name], tensor), name


def test_norms_with_weights_for_each_head_are_not_decayed(tmp_path, ranks):
    """Their weights are a matrix (Command R+), which Megatron would decay."""
    folder = zoo.make(tmp_path / "model", "cohere with yarn")
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 0)
    folders = Folders(folder, converted(folder, tmp_path / "convert"), tmp_path / "tokenizer")
    config, undecayed = phase_config((("all", 1),)), phase_config((("all", 1),))
    undecayed.train.weight_decay = 0.0
    found, expected = (ranks(1).run(training_bodies.train, each, folders, 250)[0] for each in (config, undecayed))
    same = {name for name, tensor in expected.parameters.items() if torch.equal(found.parameters[name], tensor)}
    matrices = {name for name, tensor in expected.parameters.items() if tensor.dim() == 2}
    assert {name for name in matrices if "layernorm" in name} == matrices & same != set()


def test_no_weight_decay_names_the_same_parameters_on_pipeline_stages(tmp_path, ranks):
    """The last stage numbers its layers from 0, and has its copy of a tied table under another name."""
    tiny = MODELS["tied"]
    folders = folders_of(tmp_path, tiny, new=NEW)
    config = phase_config(THREE)
    config.train.no_weight_decay, config.train.weight_decay = ["*word_embeddings*", "*layers.2.*"], 1000.0
    config.train.phases = [replace(phase, lr=1e-4) for phase in config.train.phases]  # of each weight, a tenth decays
    (whole,) = ranks(1).run(training_bodies.train, config, folders, tiny.vocab + NEW)
    config.parallel.pp = 2
    first, last = ranks(2).run(training_bodies.train, config, folders, tiny.vocab + NEW)
    (copy,) = [tensor for name, tensor in last.parameters.items() if "output_layer" in name]
    (table,) = [tensor for name, tensor in first.parameters.items() if "word_embeddings" in name]
    assert torch.equal(copy, table)
    for number in range(4):
        stage, place = (first, last)[number // 2], number % 2
        for name, tensor in whole.parameters.items():
            if f"layers.{number}." in name:
                found = stage.parameters[name.replace(f"layers.{number}.", f"layers.{place}.")]
                torch.testing.assert_close(found, tensor, rtol=0, atol=3e-4, msg=name)
