"""The matrix products that a plan counts for a phase are those that the engine makes."""

import pytest
from helpers.plans_of_models import models_of, plan_config, settings
from ranks import plan_bodies

from nemo_adapt import devices
from nemo_adapt.phases import trained
from nemo_adapt.plan.speed import operations

pytestmark = pytest.mark.skipif(devices.on_gpu(), reason="kernels of a GPU are counted otherwise")
PHASES = ("all", "embeddings", "new_rows", "output", "layers:2-3", "output+layers:3")


def planned(phase, models, config):
    """Operations of a step, attention apart."""
    what, tokens = trained(config.train.phases[0]), config.train.global_batch * config.train.seq_length
    return tokens * operations(models, 0, what, config.train.recompute)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_makes_the_products_that_are_planned(ranks, phase, recompute):
    models, config = models_of(settings(vocab_size=1748), new=300), plan_config(phase, recompute=recompute)
    (found,) = ranks(1).run(plan_bodies.matrix_products, config, models)
    assert planned(phase, models, config) == pytest.approx(found, rel=0.001)


def test_a_gradient_that_nobody_needs_shows(ranks):
    """Sabotage: what tables need is not what all need."""
    models, config = models_of(settings(vocab_size=1748), new=300), plan_config("all")
    (found,) = ranks(1).run(plan_bodies.matrix_products, config, models)
    tables = plan_config("embeddings")
    assert planned("embeddings", models, tables) != pytest.approx(found, rel=0.001)
