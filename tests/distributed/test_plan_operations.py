"""The FLOPs of matrix products that a plan counts for a phase are those that the engine executes."""

import pytest
from helpers.plans_of_models import models_of, plan_config, settings
from ranks import plan_bodies

from nemo_adapt import devices
from nemo_adapt.config.phases import trained
from nemo_adapt.plan.speed import operations

pytestmark = pytest.mark.skipif(devices.on_gpu(), reason="kernels of a GPU are counted otherwise")
PHASES = ("all", "embeddings", "new_rows", "output", "layers:2-3", "output+layers:3")


def planned(phase, models, config):
    """Return the planned FLOPs of a step, without attention."""
    what, tokens = trained(config.train.phases[0]), config.train.global_batch * config.train.seq_length
    return tokens * operations(models, 0, what, config.train.recompute)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("phase", PHASES)
def test_planned_flops_of_a_phase_equal_the_executed_ones(ranks, phase, recompute):
    models, config = models_of(settings(vocab_size=1748), new=300), plan_config(phase, recompute=recompute)
    (found,) = ranks(1).run(plan_bodies.matrix_products, config, models)
    assert planned(phase, models, config) == pytest.approx(found, rel=0.001)


def test_check_detects_unneeded_gradients(ranks):
    """Negative control: training everything takes other FLOPs than those planned for the tables alone."""
    models, config = models_of(settings(vocab_size=1748), new=300), plan_config("all")
    (found,) = ranks(1).run(plan_bodies.matrix_products, config, models)
    tables = plan_config("embeddings")
    assert planned("embeddings", models, tables) != pytest.approx(found, rel=0.001)
