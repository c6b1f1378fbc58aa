"""The memory that a plan predicts is what the engine uses: on real ranks, by part, and at the peak of a step."""

from dataclasses import replace

import pytest
from helpers.plans_of_models import models_of, plan_config, settings
from ranks import plan_bodies

from nemo_adapt import devices
from nemo_adapt.config.phases import phases
from nemo_adapt.plan import memory

pytestmark = pytest.mark.skipif(devices.on_gpu(), reason="kernels of a GPU keep other tensors")
OF_STEP, OF_ALL = 0.07, 0.03
"""Relative tolerances of a step's memory, and of all memory. Not counting one tensor of an MLP exceeds them."""
CASES = {
    "bf16": {},
    "fp32": {"precision": "fp32"},
    "recompute": {"recompute": True},
    "documents apart": {"reset_attention": True},
    "z-loss": {"z_loss": 1e-4},
    "new rows": {"phase": "new_rows", "new": 300, "parallel": {"dp": 2}},
    "tables": {"phase": "embeddings", "new": 300},
    "upper layers": {"phase": "layers:2-3"},
    "tp2, sequences cut, padded rows": {"parallel": {"tp": 2, "sequence": True}, "new": 5},
    "pp2": {"parallel": {"pp": 2}},
    "pp2, tied, interleaved": {"parallel": {"pp": 2, "virtual": 2}, "hf": {"tie_word_embeddings": True}},
    "pp2, tied, three layers and one": {
        "parallel": {"pp": 2, "stage_layers": [3, 1]},
        "hf": {"tie_word_embeddings": True},
    },
    "pp2, interleaved, five layers": {"parallel": {"pp": 2, "virtual": 2}, "hf": {"num_hidden_layers": 5}},
    "pp2, interleaved, chunks of 1, 2, 4 and 1 layers": {
        "parallel": {"pp": 2, "virtual": 2, "stage_layers": [1, 2, 4, 1]},
        "hf": {"num_hidden_layers": 8},
        "global_batch": 8,
    },
    "pp2, recompute, fp32": {"parallel": {"pp": 2}, "recompute": True, "precision": "fp32"},
    "pp4, recompute, fp32": {"parallel": {"pp": 4}, "recompute": True, "precision": "fp32", "global_batch": 8},
    "cp2": {"parallel": {"cp": 2}, "distributed_optimizer": False},
    "dp2, whole optimizer": {"parallel": {"dp": 2}, "distributed_optimizer": False},
}
FAMILIES = (
    "mistral",
    "qwen3",
    "gemma2",
    "gemma3",
    "olmo2",
    "smollm3",
    "gpt2",
    "bloom",
    "xglm",
    "phi",
    "gpt_neox",
    "granite",
    "cohere",
    "cohere2",
    "nemotron",
    "exaone4",
    "jais2",
    "apertus",
    "hunyuan_v1_dense",
)


def measured(ranks, config, models):
    """Yield for each pipeline stage its planned memory, and that measured on its rank which needs most."""
    found = ranks(config.parallel.ranks).run(plan_bodies.measure, config, models)
    planned = memory.of_stages(models, config, phases(config)[0], on_gpu=False)
    for each in planned:
        of_stage = [rank for rank in found if rank.stage == each.stage]
        yield each, max(of_stage, key=lambda rank: rank.total)


def assert_close(planned, found):
    assert planned.weights == pytest.approx(found.weights, rel=1e-3)
    assert planned.gradients == pytest.approx(found.gradients, rel=1e-3)
    assert planned.optimizer == pytest.approx(found.optimizer, rel=1e-3)
    assert planned.of_step == pytest.approx(found.peak, rel=OF_STEP)
    assert planned.saving == pytest.approx(found.saving, rel=0.01)
    assert planned.total == pytest.approx(found.total, rel=OF_ALL)


@pytest.mark.parametrize("name", CASES)
def test_planned_memory_equals_measured_memory(ranks, name):
    case = dict(CASES[name])
    models = models_of(settings(**case.pop("hf", {})), case.pop("new", 0))
    for planned, found in measured(ranks, plan_config(**case), models):
        assert_close(planned, found)


@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gemma3", "smollm3", "gpt2", "bloom"])
def test_planned_memory_equals_measured_memory_under_context_parallelism(ranks, name):
    """QK norms, windows and capped scores, rotary positions of two kinds and in some layers, learned ones, ALiBi.

    Gradients are all-reduced: gloo's reduce-scatter makes a copy, which would be the peak of so small a step.
    """
    config = plan_config(parallel={"cp": 2}, distributed_optimizer=False)
    for planned, found in measured(ranks, config, models_of(settings(name))):
        assert_close(planned, found)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("cp", [1, 2])
@pytest.mark.parametrize("name", ["mistral", "gemma2", "gemma3"])
def test_planned_memory_of_windows_that_are_short_for_the_sequence(ranks, name, cp, precision):
    """Attention in blocks; under CP, in both chunks of a rank."""
    config = plan_config(parallel={"cp": cp}, distributed_optimizer=False, seq_length=320, precision=precision)
    for planned, found in measured(ranks, config, models_of(settings(name))):
        assert_close(planned, found)


@pytest.mark.parametrize("name", FAMILIES)
def test_planned_memory_equals_measured_memory_of_every_family(ranks, name):
    for planned, found in measured(ranks, plan_config(), models_of(settings(name))):
        assert_close(planned, found)


def test_check_detects_a_missing_layer(ranks):
    """Negative control: the plan of a model with one layer less is not close."""
    config, models = plan_config(), models_of(settings())
    short = replace(models.target, layers=models.target.layers - 1)
    (_, found), *_ = measured(ranks, config, models)
    wrong = memory.of_stages(replace(models, target=short), config, phases(config)[0], on_gpu=False)[0]
    with pytest.raises(AssertionError):
        assert_close(wrong, found)


@pytest.mark.parametrize(
    ("phase", "precision", "distributed"),
    [("all", "bf16", True), ("new_rows", "fp32", True), ("all", "fp32", False), ("all", "bf16", False)],
)
def test_planned_checkpoint_size_equals_the_size_on_disk(ranks, tmp_path, phase, precision, distributed):
    from nemo_adapt.plan.budget import budget, disk

    config, models = plan_config(phase, precision=precision), models_of(settings(), new=300)
    config.train.distributed_optimizer = distributed
    (size,) = ranks(1).run(plan_bodies.checkpoint_bytes, config, models, tmp_path)
    assert disk(models, config, budget(config)).checkpoint == pytest.approx(size, rel=0.02)
