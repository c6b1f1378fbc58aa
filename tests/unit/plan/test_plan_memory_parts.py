"""Memory of real models on GPUs: published cases, and how the parts change with the layout."""

from dataclasses import replace

import pytest
from helpers.plans_of_models import models_of, plan_config, settings

from nemo_adapt.config import ParallelConfig, PhaseConfig, recipes
from nemo_adapt.config.phases import trained
from nemo_adapt.plan import activations, estimate, memory
from nemo_adapt.plan.memory import GIB, fullest
from nemo_adapt.plan.model import models
from nemo_adapt.plan.needs import room

BASE = ["tokenizer.new_tokens=0", "train.phases=[{train: all, steps: 10, lr: 1e-5}]"]
"""The model as it was published."""


def planned(recipe, cluster, *words):
    config = recipes.load(recipe, [f"cluster={cluster}", *BASE, *words])
    plan = estimate.plan_of(models(config), config)
    return fullest(plan.stages), room(plan.config), plan


def of(phase="all", **case):
    parallel = case.get("parallel") or {}
    config = plan_config(phase, **case)
    base = models_of(settings(num_hidden_layers=8))
    assert config.parallel == ParallelConfig(**parallel)
    return memory.of_stages(base, config, PhaseConfig(phase, 10), on_gpu=True)


def test_llama_3_70b_fits_64_h100_with_cp_but_not_without():
    """Megatron-Bridge's recipe for 64 H100: TP4 PP4 CP2, with 5 virtual stages or none; 128 samples of 8,192 tokens."""
    most, space, plan = planned("llama3_70b", "h100_x64")
    assert plan.config.parallel.dp == 2 and plan.budget.tokens_per_step == 128 * 8192
    assert most.stage == 0 and most.total / GIB == pytest.approx(59.8, abs=1) and most.total < space
    most, space, _ = planned("llama3_70b", "h100_x64", "parallel.virtual=5")
    assert most.total < space
    most, space, _ = planned("llama3_70b", "h100_x64", "parallel.cp=1")
    assert most.total > space


def test_free_memory_of_llama_3_8b_layouts_on_eight_h100():
    """Megatron-Bridge's recipe for eight H100 has TP1 CP2 and bf16 gradients; it also fits with our fp32 gradients."""
    alone = ("parallel.tp=1", "parallel.sequence=false")
    for words, left in {
        ("train.recompute=true",): 14.5,
        ("train.seq_length=2048",): 8.9,
        ("parallel.cp=4",): 9.5,
        ("parallel.cp=2",): 0.5,
    }.items():
        most, space, _ = planned("llama3_8b", "h100_x8", *alone, *words)
        assert (space - most.total) / GIB == pytest.approx(left, abs=0.3)


def test_weights_gradients_and_optimizer_agree_with_megatron():
    """18 bytes per parameter, or 6 + 12 / DP with the distributed optimizer (its theoretical_memory_usage.py)."""
    base = models_of(settings(vocab_size=2048))  # nothing is padded
    for copies, distributed, wanted in ((1, True, 18), (4, True, 6 + 12 / 4), (4, False, 18)):
        config = plan_config(parallel={"dp": copies}, distributed_optimizer=distributed)
        each = memory.of_stages(base, config, PhaseConfig("all", 10), True)[0]
        assert (each.weights + each.gradients + each.optimizer) / base.target_parameters == pytest.approx(wanted)


def test_activations_of_a_gpt2_layer_agree_with_the_paper():
    """34 sbh in arXiv 2205.05198, of which dropout masks take 2; flash attention and ours keep the rest alike."""
    base, config = models_of(settings("gpt2")), plan_config()
    layer = activations.Layer(base.target, config.parallel, config.train, on_gpu=True)
    tokens, hidden = config.train.seq_length * config.train.micro_batch, base.target.hidden
    in_units = layer.kept(0, rotates=False) / (tokens * hidden)
    # Inputs and outputs of two norms (8), queries, keys and values (6), attention output (2), in the MLP two (16).
    ffn = base.target.ffn / base.target.hidden
    assert in_units == pytest.approx(8 + 6 + 2 + 4 * ffn, rel=0.01)


def test_tp_shards_all_but_the_residual_stream_and_sp_also_that():
    alone, cut, whole = of(), of(parallel={"tp": 2}), of(parallel={"tp": 2, "sequence": True})
    assert alone[0].activations / 2 < cut[0].activations < alone[0].activations
    gathered, angles = 2 * 256 * 256, 4 * 128 * 64  # not sharded
    assert whole[0].activations - gathered - angles == pytest.approx((alone[0].activations - angles) / 2, rel=0.001)
    assert cut[0].logits == alone[0].logits / 2


@pytest.mark.parametrize(
    ("parallel", "count", "in_flight"),
    [
        ({}, 8, [1]),
        ({"pp": 4}, 8, [4, 3, 2, 1]),
        ({"pp": 4}, 2, [2, 2, 2, 1]),
        ({"pp": 4, "stage_layers": [1, 2, 3, 2]}, 8, [4, 3, 2, 1]),
        ({"pp": 2, "virtual": 2}, 8, [5 / 2, 3 / 2]),
        ({"pp": 4, "virtual": 2}, 4, [8 / 2, 8 / 2, 7 / 2, 5 / 2]),
        # The second stage has chunks of 2 layers and 1. The third micro batch enters the first chunk before the first
        # one leaves it: 3 x 2 layers.
        ({"pp": 2, "virtual": 2, "stage_layers": [1, 2, 4, 1]}, 8, [11 / 5, 6 / 3]),
    ],
)
def test_number_of_micro_batches_in_flight_on_each_stage(parallel, count, in_flight):
    layout = ParallelConfig(**parallel)
    found = [activations.micro_batches_in_flight(stage, layout, count, 8) for stage in range(layout.pp)]
    assert found == pytest.approx(in_flight)


def test_each_model_chunk_keeps_its_own_rotary_angles():
    base, kept = models_of(settings(num_hidden_layers=8)), []
    for virtual in (1, 2):
        config = plan_config(parallel={"pp": 2, "virtual": virtual})
        layer = activations.Layer(base.target, config.parallel, config.train, on_gpu=True)
        kept.append(activations.of_layers(layer, 0, trained(PhaseConfig("all", 10)))[0])
    # What a chunk sends is freed only where stages are not interleaved.
    assert kept[1] - kept[0] == 2 * layer.stream + layer.angles() and layer.angles() > 0


def kept_by_layers(base):
    config = plan_config()
    layer = activations.Layer(base.target, config.parallel, config.train, on_gpu=True)
    return layer, activations.of_layers(layer, 0, trained(PhaseConfig("all", 10)))[0]


def test_layers_without_positions_keep_no_rotated_queries_and_keys():
    base = models_of(settings("smollm3", no_rope_layers=[1, 0, 0, 1]))
    everywhere = replace(base, target=replace(base.target, rotaries=()))
    (layer, some), (_, all_of_them) = kept_by_layers(base), kept_by_layers(everywhere)
    shape = base.target
    assert all_of_them - some == 2 * layer.size * layer.tokens * (shape.query_rows + shape.kv_rows)


def test_angles_are_kept_for_each_kind_of_rotary_positions():
    base = models_of(settings("gemma3"))
    one_kind = replace(base, target=replace(base.target, rotaries=(base.target.rotary,) * base.target.layers))
    (layer, two), (other, one) = kept_by_layers(base), kept_by_layers(one_kind)
    assert two - one == other.angles() == layer.angles() / 2


def test_ring_attention_does_not_keep_the_output_of_the_qkv_projection():
    """Under CP, Transformer Engine keeps queries, keys, values and the output as separate tensors."""
    base, config = models_of(settings()), plan_config(parallel={"cp": 2})
    layer = activations.Layer(base.target, config.parallel, config.train, on_gpu=True)
    shape, tokens = base.target, 128
    columns = 2 * shape.query_rows + 2 * shape.kv_rows
    wanted = tokens * (2 * columns + 4 * shape.heads)
    assert layer.attention(0, rotates=True, frozen=False) == wanted


def test_grouped_heads_in_fp32_on_a_gpu_are_repeated():
    """No fused kernel has them; those of bf16 do. Windows in bf16 have a kernel that keeps no copies and no mask."""
    base = models_of(settings("mistral"))
    shape, tokens, window = base.target, 2 * 128, max(base.target.windows)

    def kept(precision, window):
        config = plan_config(precision=precision)
        layer = activations.Layer(shape, config.parallel, config.train, on_gpu=True)
        return layer.attention(window, rotates=True, frozen=False), layer.masks()

    assert kept("fp32", 0)[0] == tokens * (4 * 4 * shape.query_rows + 4 * shape.heads)  # q, k, v, output
    assert kept("bf16", window) == (kept("bf16", 0)[0], 0)
    blocks = kept("fp32", window)
    assert blocks[0] == tokens * (4 * (3 * shape.query_rows + 2 * 1.5 * shape.query_rows) + 4 * shape.heads)
    assert blocks[1] == 4 * window * 2 * window


def test_gathered_keys_and_values_of_all_cp_ranks_are_kept():
    """Under CP, our layers keep queries, all ranks' keys and values, both chunks' outputs and their concatenation.

    On a GPU these are layers that Transformer Engine does not have; they keep no mask there.
    """
    base, config = models_of(settings("mistral")), plan_config(parallel={"cp": 2})
    shape = replace(base.target, windows=())
    gathering = replace(shape, attention_cap=0.0, norms="around")  # not plain
    layer = activations.Layer(gathering, config.parallel, config.train, on_gpu=True)
    assert layer.gathers and not replace(layer, shape=shape).gathers
    tokens = 128
    columns = 3 * shape.query_rows + 2 * 2 * shape.kv_rows
    wanted = tokens * (2 * columns + 4 * shape.heads)
    assert layer.attention(0, rotates=True, frozen=False) == wanted


def test_recomputed_layers_keep_only_their_input():
    assert of(recompute=True)[0].activations < of()[0].activations / 5


def test_frozen_layers_keep_less_and_nothing_below_all_trained_layers():
    everything, tables, upper, output = (of(phase)[0] for phase in ("all", "embeddings", "layers:4-7", "output"))
    assert tables.activations < everything.activations
    assert upper.activations == pytest.approx(everything.activations / 2, rel=0.1)
    assert output.activations < everything.activations / 20
    assert output.gradients == 4 * 2048 * 256


def test_logits_are_on_the_last_stage_and_grow_with_the_vocab():
    first, last = of(parallel={"pp": 2})
    assert first.logits == 0 and last.logits == 2 * 256 * 2048 + 4 * 256 * 2048
    grown = memory.of_stages(models_of(settings(), new=2096), plan_config(), PhaseConfig("all", 10), True)[0]
    assert grown.logits == 2 * 256 * 4096 + 4 * 256 * 4096


def test_copy_for_an_async_save_is_memory_of_a_rank_only_on_cpu():
    """DP ranks divide the weights, and the state of the distributed optimizer (12 bytes per parameter)."""
    base = models_of(settings(vocab_size=2048))  # nothing is padded, and no tensor has more than half
    count = base.target_parameters

    def saving(on_gpu=False, **case):
        return memory.of_stages(base, plan_config(**case), PhaseConfig("all", 10), on_gpu)[0]

    assert saving(on_gpu=True).saving == 0
    assert saving().saving == pytest.approx((2 + 12) * count)
    assert saving(precision="fp32").saving == pytest.approx((4 + 12) * count)
    two = {"parallel": {"dp": 2}}
    assert saving(**two).saving == pytest.approx((2 + 12) * count / 2)
    assert saving(distributed_optimizer=False, **two).saving == pytest.approx((2 / 2 + 12) * count)
    assert saving(precision="fp32", distributed_optimizer=False, **two).saving == pytest.approx((4 / 2 + 8) * count)
    waits = plan_config()
    waits.train.async_save = False
    (found,) = memory.of_stages(base, waits, PhaseConfig("all", 10), False)
    assert found.total == pytest.approx(saving().total - min(found.of_step, saving().saving))


def test_last_stage_does_not_save_its_copy_of_a_tied_table():
    base = models_of(settings(vocab_size=2048, tie_word_embeddings=True))
    first, last = memory.of_stages(base, plan_config(parallel={"pp": 2}), PhaseConfig("all", 10), on_gpu=False)
    assert first.saving - last.saving == pytest.approx(14 * 2048 * base.target.hidden, rel=0.01)


def test_node_without_memory_for_a_checkpoint_is_refused():
    config = recipes.load("llama3_8b", ["cluster=h100_x8", *BASE])
    plan = estimate.plan_of(models(config), config)
    assert plan.disk.saved_node_bytes == plan.disk.checkpoint and not estimate.too_much_saved(plan)
    config.cluster.node_memory_gib = 100.0
    (said,) = estimate.too_much_saved(estimate.plan_of(models(config), config))
    assert "a node needs 104.7 GiB of main memory for a checkpoint until it is written and has 100 GiB" in said
    config.cluster.node_memory_gib = 0.0  # unknown
    assert not estimate.too_much_saved(estimate.plan_of(models(config), config))
