"""Learning rates by step, as the configuration describes them."""

import math
from types import SimpleNamespace

import pytest

from nemo_adapt.config import PhaseConfig, TrainConfig
from nemo_adapt.train.setup import _schedule

STEPS, PEAK = 100, 2.0


def rates(steps=STEPS, **settings):
    """The learning rate of each step of a phase."""
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.0, "weight_decay": 0.0}])
    schedule = _schedule(optimizer, TrainConfig(**settings), PhaseConfig("all", steps, PEAK))
    found = []
    for _ in range(steps):
        schedule.step(1)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_warm_up_is_linear_from_zero():
    assert rates(warmup_share=0.1)[:10] == pytest.approx([PEAK * step / 10 for step in range(1, 11)])


def test_without_warm_up_the_rate_begins_at_the_peak():
    assert rates(warmup_share=0.0, schedule="constant") == pytest.approx([PEAK] * STEPS)


def test_wsd_stays_at_the_peak_and_decays_in_the_last_steps():
    found = rates(schedule="wsd", warmup_share=0.1, decay_share=0.2, min_lr_share=0.05)
    assert found[9:80] == pytest.approx([PEAK] * 71)
    low = 0.05 * PEAK
    assert found[80:] == pytest.approx([low + (PEAK - low) * (1 - step / 20) for step in range(1, 21)])


def test_cosine_and_linear_end_at_the_minimum():
    cosine, linear = (rates(schedule=name, warmup_share=0.0, min_lr_share=0.1) for name in ("cosine", "linear"))
    assert cosine[-1] == pytest.approx(0.1 * PEAK) == linear[-1]
    assert cosine[49] == pytest.approx(PEAK * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.5))))
    assert linear[49] == pytest.approx(PEAK * (0.1 + 0.9 * 0.5))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "wsd"])
@pytest.mark.parametrize("warmup_share", [0.0, 0.5])
def test_a_single_step_is_at_the_peak(schedule, warmup_share):
    """It had been at the minimum, being the last one."""
    assert rates(1, schedule=schedule, warmup_share=warmup_share) == [PEAK]
