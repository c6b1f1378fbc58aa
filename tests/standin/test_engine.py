"""Transformer Engine's layers and Adam on the stand-in: they are used, and a training may switch to ours and back."""

import os

import pytest
import torch
from helpers import zoo
from helpers.command import nemo_adapt
from helpers.folders import Folders, folders_of
from helpers.rank_pool import RankPool
from helpers.tiny import TinyLlama, converted, make_token_map, tiny_config
from helpers.worlds import SHORT, small_world
from ranks import engine_bodies, training_bodies

from nemo_adapt.config import PhaseConfig

ENGINE = "NEMO_ADAPT_STANDIN_ENGINE"
VOCAB = 251
"""Rows of the target: 245 of the source and six new ones."""

pytestmark = pytest.mark.skipif(not os.environ.get(ENGINE), reason=f"{ENGINE} names no Transformer Engine")


@pytest.fixture
def folders(tmp_path):
    return folders_of(tmp_path, TinyLlama(vocab=245), new=VOCAB - 245)


def config_of(precision="bf16", distributed_optimizer=True, **parallel):
    config = tiny_config(**parallel)
    config.train.global_batch, config.train.micro_batch, config.train.seq_length = 8, 2, training_bodies.SEQ
    config.train.precision, config.train.distributed_optimizer = precision, distributed_optimizer
    config.train.phases = [PhaseConfig("new_rows", 2, 1e-2), PhaseConfig("all", 4, 1e-2)]
    return config


def test_layers_and_adam_are_those_of_transformer_engine(folders, ranks):
    config = config_of()
    config.train.phases = [PhaseConfig("all", 1, 1e-2)]
    used = ranks(1).run(engine_bodies.used, config, folders, VOCAB)[0]
    assert used == {
        "linear_qkv": "TELayerNormColumnParallelLinear",
        "core_attention": "TEDotProductAttention",
        "linear_fc2": "TERowParallelLinear",
        "final_layernorm": "RMSNorm",
        "adam": "transformer_engine.pytorch.optimizers.fused_adam",
        "added_in_products": 2 * 4 + 1,  # two layers of four products each, and the output layer
        "turned": 4 * 2 * 2,  # micro batches, layers, queries and keys
    }


def test_new_rows_phase_does_not_fuse_gradient_accumulation(folders, ranks):
    assert ranks(1).run(engine_bodies.used, config_of(), folders, VOCAB)[0]["added_in_products"] == 0


@pytest.mark.parametrize("phase", ["all", "new_rows", "output", "layers:1-1"])
@pytest.mark.parametrize("tp", [1, 2])
def test_planned_dummy_gradients_equal_those_in_memory(folders, ranks, phase, tp):
    config = config_of(tp=tp)
    config.train.phases = [PhaseConfig(phase, 1, 1e-2)]
    for kept, planned in ranks(tp).run(engine_bodies.dummy_gradients, config, folders, VOCAB):
        assert kept == planned and (kept > 0) == (phase != "new_rows")


def test_reset_attention_uses_our_layers_and_its_adam(folders, ranks):
    config = config_of()
    config.train.reset_attention = True
    used = ranks(1).run(engine_bodies.used, config, folders, VOCAB)[0]
    assert used["core_attention"] == "CoreAttention" and used["adam"].startswith("transformer_engine.")
    assert used["added_in_products"] == 0 and used["turned"] == 4 * 2 * 2


def test_models_with_windows_use_its_layers_but_not_under_cp(tmp_path, ranks, without_engine):
    """Its ring of CP ranks has no windows. In bf16 its attention has a fused kernel for them."""
    place = tmp_path / "mistral"
    make_token_map(place / "tokenizer", zoo.VOCAB, VOCAB - zoo.VOCAB)
    folder = zoo.make(place / "model", "mistral")
    windowed = Folders(folder, converted(folder, place / "convert"), place / "tokenizer")
    config = config_of()
    config.train.phases = [PhaseConfig("all", 4, 1e-2)]
    assert ranks(1).run(engine_bodies.used, config, windowed, VOCAB)[0]["core_attention"] == "TEDotProductAttention"
    found, expected = (
        each(1).run(training_bodies.train, config, windowed, VOCAB)[0] for each in (ranks, without_engine)
    )
    torch.testing.assert_close(found.losses, expected.losses, rtol=0, atol=0.02)
    config.parallel.cp = 2
    shared = ranks(2)
    assert shared.run(engine_bodies.used, config, windowed, VOCAB)[0]["core_attention"] == "CoreAttention"
    found = shared.run(training_bodies.train, config, windowed, VOCAB)[0]
    torch.testing.assert_close(found.losses, expected.losses, rtol=0, atol=0.02)


def test_reset_positions_do_not_use_its_rotary_kernel(folders, ranks, without_engine):
    config = config_of("fp32")
    config.train.reset_positions = True
    assert ranks(1).run(engine_bodies.used, config, folders, VOCAB)[0]["turned"] == 0
    found, expected = (
        each(1).run(training_bodies.train, config, folders, VOCAB)[0] for each in (ranks, without_engine)
    )
    torch.testing.assert_close(found.losses, expected.losses, rtol=0, atol=1e-5)


def test_recompute_accumulates_gradients_once(folders, ranks):
    """Compare gradient norms, as Adam would take the same steps with all gradients doubled."""
    found = []
    for recompute in (False, True):
        config = config_of("fp32")
        config.train.recompute = recompute
        found.append(ranks(1).run(training_bodies.train, config, folders, VOCAB)[0])
    torch.testing.assert_close(found[1].losses, found[0].losses, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1].grad_norms, found[0].grad_norms, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "layout",
    [
        {"cp": 2},
        {"tp": 2, "sequence": True},
        {"pp": 2, "virtual": 2},
        {"pp": 2, "stage_layers": [1, 3]},
        {"dp": 2},
    ],
)
def test_losses_in_bf16_equal_those_of_one_rank(folders, ranks, layout):
    """With CP its attention exchanges keys between ranks; losses equal those of one rank up to rounding."""
    if "pp" in layout:
        folders = folders_of(folders.model.parent / "four", TinyLlama(vocab=245, layers=4), new=VOCAB - 245)
    alone = ranks(1).run(training_bodies.train, config_of(), folders, VOCAB)[0]
    found = ranks(2).run(training_bodies.train, config_of(**layout), folders, VOCAB)[0]
    torch.testing.assert_close(found.losses, alone.losses, rtol=0, atol=0.02)
    torch.testing.assert_close(found.grad_norms, alone.grad_norms, rtol=0.02, atol=0)


@pytest.fixture
def without_engine(monkeypatch):
    """Pools of ranks on the stand-in without Transformer Engine."""
    pools = []

    def pool(size):
        pools.append(RankPool(size))
        with monkeypatch.context() as change:
            change.setenv(ENGINE, "")
            assert pools[-1].run(engine_bodies.is_there) == [False] * size  # starts the pool
        return pools[-1]

    yield pool
    for each in pools:
        each.close()


@pytest.mark.parametrize("distributed_optimizer", [True, False])
@pytest.mark.parametrize("first", ["with", "without"])
def test_training_resumes_with_and_without_transformer_engine(
    tmp_path, folders, ranks, without_engine, first, distributed_optimizer
):
    """Weights, moments and steps survive a move from a machine without it to the cluster's container, and back."""
    config = config_of("fp32", distributed_optimizer, dp=2)
    its, ours = ranks(2), without_engine(2)
    assert its.run(engine_bodies.is_there) == [True, True]
    words = (config, folders, VOCAB, tmp_path / "saved")
    saves, resumes = (its, ours) if first == "with" else (ours, its)
    whole = saves.run(training_bodies.train_and_save, *words, 0, 6, timeout=200)[0]
    for step in (1, 3):
        found = resumes.run(training_bodies.train_and_save, *words, step, 6, timeout=200)[0]
        torch.testing.assert_close(found, whole[step:], rtol=0, atol=1e-5)


def test_transformer_engine_is_not_used_without_a_gpu(tmp_path, monkeypatch):
    """It can be imported without a GPU, as on a login node, but its Adam could not access memory of the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = nemo_adapt("run", *SHORT, "run.name=cpu", "train.phases=[{steps: 2, lr: 1e-3}]", cwd=small_world(tmp_path))
    assert answer.code == 0, answer.err
