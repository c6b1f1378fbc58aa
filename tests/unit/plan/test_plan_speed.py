"""Seconds of a step, and layouts sorted by them."""

from dataclasses import replace

import pytest

from nemo_adapt.config import ClusterConfig, ParallelConfig, PhaseConfig, recipes
from nemo_adapt.config.layout import stage_layers
from nemo_adapt.config.phases import trained
from nemo_adapt.model.flops import flops_per_token, forward_flops
from nemo_adapt.plan import command, estimate
from nemo_adapt.plan.memory import micro_batches
from nemo_adapt.plan.model import models
from nemo_adapt.plan.speed import balanced, link

LLAMA_405B = {"hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128, "num_hidden_layers": 128}


def plan(recipe, cluster, *words):
    config = recipes.load(recipe, [f"cluster={cluster}", *words])
    return estimate.plan_of(models(config), config)


def test_one_gpu_has_no_communication_and_no_idle_time():
    words = ("cluster.gpus_per_node=1", "parallel.tp=1", "parallel.sequence=false")
    found = plan("gemma_2b", "h200_x8", *words)
    flops = flops_per_token(found.models.target, 1024) * 64 * 1024
    assert found.step.computation == pytest.approx(flops / (0.55 * 989.4e12))
    assert (found.step.tensor, found.step.context, found.step.pipeline, found.step.idle, found.step.data) == (0,) * 5
    assert 0.5 < found.step.mfu < 0.55


def test_rank_with_the_new_rows_determines_the_computation_time():
    """All new rows are in the last of four shards; the other ranks compute no gradient of the output layer."""
    words = ("train.phases=[{train: new_rows, steps: 10, lr: 1e-3}]", "tokenizer.new_tokens=8000", "parallel.tp=4")
    found = plan("llama2_7b", "a40_x4", *words)
    shape, config = found.models.target, found.config
    tokens = config.train.global_batch * config.train.seq_length
    weights, scores, output = forward_flops(shape, config.train.seq_length)
    flops = 2 * shape.layers * weights + 3 * sum(scores) + 2 * output + 4 * 2 * shape.hidden * 8000
    assert found.step.computation == pytest.approx(flops * tokens / 4 / (0.55 * 149.7e12), rel=1e-3)


def test_idle_time_of_pipeline_stages_with_and_without_interleaving():
    # TP 1, no CP: only the pipeline. 32 micro batches, and 3 to fill it, or 3/4 of one if interleaved.
    words = ("parallel.tp=1", "parallel.pp=4", "parallel.sequence=false", "train.micro_batch=1")
    plain, interleaved = (plan("llama2_7b", "a40_x4", *words, f"parallel.virtual={count}").step for count in (1, 4))
    busy = plain.computation + plain.pipeline
    assert plain.idle == pytest.approx(busy * 3 / 32)
    assert interleaved.idle < plain.idle / 3 and interleaved.pipeline == pytest.approx(4 * plain.pipeline)


def test_recomputation_costs_almost_a_third_more():
    plain, again = (plan("llama3_70b", "h100_x64", f"train.recompute={word}").step for word in ("false", "true"))
    assert plain.computation * 1.3 < again.computation < plain.computation * 4 / 3


def test_step_time_is_computed_for_each_phase():
    found = plan("llama3_8b", "h100_x8", "cluster.within_node_gb_per_s=5")  # so slow that ranks wait for each other
    (tables, everything), ((_, few), (_, many)) = found.steps, found.budget.phases
    assert [what for what, _ in found.budget.phases] == ["embeddings", "all"]
    # Two thirds of the layers' matrix products, all of attention and of the output layer.
    assert tables.computation < 0.75 * everything.computation
    assert tables.optimizer < 0.2 * everything.optimizer and 0 < tables.data < 0.2 * everything.data
    waits = found.disk.load_seconds or 0.0
    assert found.hours * 3600 - waits == pytest.approx(few * tables.seconds + many * everything.seconds, rel=0.01)


@pytest.mark.parametrize(("distributed_optimizer", "overlap"), [("false", 2 / 3), ("true", 1)])
def test_dp_communication_overlaps_computation(distributed_optimizer, overlap):
    """Gradients are sent during the last backward pass, with the distributed optimizer also weights during the first
    forward pass; only the rest adds to the step's time.
    """
    words = ("gemma_7b", "h100_x8", "parallel.tp=1", "parallel.sequence=false")
    words += (f"train.distributed_optimizer={distributed_optimizer}",)
    fast, slow, slower = (plan(*words, f"cluster.within_node_gb_per_s={rate}") for rate in (4000, 20, 10))
    assert fast.step.data == 0
    hidden = overlap * slow.step.computation / micro_batches(slow.config)
    assert slower.step.data + hidden == pytest.approx(2 * (slow.step.data + hidden))


def test_dp_communication_of_new_rows_does_not_overlap():
    words = (
        "gemma_7b",
        "h100_x8",
        "parallel.tp=1",
        "parallel.sequence=false",
        "train.phases=[{train: new_rows, steps: 9}]",
    )
    slow, slower = (plan(*words, f"cluster.within_node_gb_per_s={rate}").step for rate in (4000, 2000))
    assert slower.data == pytest.approx(2 * slow.data) and slow.data > 0


def test_groups_across_nodes_use_the_slower_link():
    cluster = ClusterConfig(nodes=2, gpus_per_node=8, within_node_gb_per_s=400, between_nodes_gb_per_s=50)
    assert (link(cluster, 8), link(cluster, 9)) == (400e9, 50e9)
    assert link(replace(cluster, between_nodes_gb_per_s=0), 9) == 400e9


def test_mfu_of_a_model_like_llama_3_405b_agrees_with_the_paper():
    """arXiv 2407.21783, table 4: TP8 PP16 DP64 on 8,192 H100, 2,048 samples of 8,192: 43% of the peak."""
    words = [f"model.config.{name}={value}" for name, value in LLAMA_405B.items()]
    layout = ("parallel.tp=8", "parallel.pp=16", "parallel.cp=1", "parallel.virtual=8", "train.global_batch=2048")
    found = plan("llama3_70b", "h100_x64", "cluster.nodes=1024", *words, *layout)
    assert found.config.parallel.dp == 64
    assert 0.37 < found.step.mfu < 0.45


def test_proposals_fit_and_are_sorted_by_step_time():
    config = recipes.load("llama3_70b", ["cluster=h100_x64", "plan.proposals=50"])
    base = models(config)
    found = command.search(base, config)
    seconds = [each.step.seconds for each in found]
    assert len(found) == 50 and seconds == sorted(seconds)
    for each in (found[0], found[-1]):
        chosen = recipes.load("llama3_70b", ["cluster=h100_x64", *each.words.split()])
        again = estimate.plan_of(base, chosen)
        assert again.step == each.step and max(stage.total for stage in again.stages) == each.memory.total
        assert not estimate.too_much(each.memory, again.config)
    # NVIDIA's own layout for this model on this cluster is among them.
    published = {"tp": 4, "pp": 4, "cp": 2, "virtual": 5}
    assert any(all(getattr(each.parallel, name) == size for name, size in published.items()) for each in found[:5])


def test_search_proposes_nothing_if_nothing_fits():
    config = recipes.load("llama3_70b", ["cluster=a40_x4"])
    assert command.search(models(config), config) == []


def test_last_stage_gets_fewer_layers_for_a_large_output_layer():
    """The output layer of Gemma 3 4B, of 262,144 rows, computes as much as several of its 34 layers."""
    words = ("gemma3_4b", "h100_x8", "parallel.tp=1", "parallel.sequence=false", "parallel.pp=4")
    even = plan(*words)
    layers = balanced(even.models, even.config, trained(PhaseConfig("all")))
    assert sum(layers) == 34 and 0 < layers[-1] < min(layers[:-1]) and max(layers[:-1]) - min(layers[:-1]) <= 1

    def computation(split):
        return plan(*words, f"parallel.stage_layers={split}").step.computation

    others = ([*stage_layers(34 - last, ParallelConfig(pp=3)), last] for last in range(1, 12))
    assert computation(layers) == min(map(computation, others)) < even.step.computation


def test_search_proposes_stages_with_fewer_layers_at_the_end():
    config = recipes.load("gemma3_4b", ["cluster=h100_x8", "plan.proposals=1000"])
    base = models(config)
    uneven = [each for each in command.search(base, config) if each.parallel.stage_layers]
    assert uneven
    for each in uneven:
        layers = each.parallel.stage_layers
        assert f"parallel.stage_layers=[{','.join(map(str, layers))}]" in each.words.split()
        assert len(layers) == each.parallel.pp and layers[-1] < min(layers[:-1])
