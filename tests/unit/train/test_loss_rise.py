"""When a loss counts as risen, and what the error says."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_adapt.train.loss_rise import NO_LEVEL, STEPS, explain, has_risen, updated


def stop_of(losses, most=2.0, phase_ends=()):
    """Return the step at which a training with these losses is stopped, and the level then; 0 if it is not."""
    level = NO_LEVEL
    for step, loss in enumerate(losses, start=1):
        level = updated(level, step, 1 + sum(end < step for end in phase_ends), loss)
        if has_risen(level, most):
            return step, level
    return 0, level


@given(st.lists(st.floats(2.0, 4.0), max_size=60))
def test_noise_within_the_limit_never_stops_a_training(losses):
    assert stop_of(losses)[0] == 0


@given(st.lists(st.floats(0.0, 20.0), max_size=60), st.floats(0.1, 5.0))
def test_training_stops_at_the_first_mean_that_is_too_high(losses, most):
    means = [fmean(losses[end - STEPS : end]) for end in range(STEPS, len(losses) + 1)]
    high = [number for number, mean in enumerate(means) if mean > min(means[: number + 1]) + most]
    assert stop_of(losses, most)[0] == (high[0] + STEPS if high else 0)


def test_single_spikes_new_phases_and_a_falling_loss_do_not_count():
    assert stop_of([2.0] * 20 + [12.0] + [2.0] * 20) == (0, {**stop_of([2.0] * 20)[1], "recent": [2.0] * STEPS})
    assert stop_of([12.0 - step / 10 for step in range(100)])[0] == 0
    assert stop_of([2.0] * 20 + [9.0] * 20)[0] == 23, "2, then 3 of 10 steps at 9: 4.1"
    assert stop_of([2.0] * 20 + [9.0] * 20, phase_ends=[20])[0] == 0
    assert stop_of([2.0] * 20 + [9.0] * 20, most=0)[0] == 0


def test_a_step_without_labels_changes_nothing():
    assert stop_of([2.0] * 20 + [None] + [9.0] * 20)[0] == 24
    assert stop_of([2.0] * 20)[1] == stop_of([None] + [2.0] * 10 + [None])[1] | {"lowest_step": 10}


@pytest.mark.parametrize(
    ("saved", "kept"), [((10, 15, 23), "iter_0000015 is from before it"), ((21,), "no checkpoint")]
)
def test_error_names_steps_samples_and_a_checkpoint(tmp_path, saved, kept):
    for step in saved:
        (tmp_path / f"iter_{step:07d}").mkdir()
        (tmp_path / f"iter_{step:07d}/.metadata").touch()
    step, level = stop_of([3.0] * 10 + [2.0] * 10 + [8.0, 9.0, 10.0])
    suspects = []
    said = str(explain(level, step, 4, 1e-3, tmp_path, lambda numbers: suspects.extend(numbers) or "in that file"))
    assert "from 2.000 (lowest mean of 10 steps, at step 20) to 4.100 (steps 14 to 23; phase 1, lr 0.001)" in said
    assert "most at step 23 (10.000; samples 88 to 91); " + kept in said
    assert "Look at the text of these steps (in that file), or train" in said
    assert suspects == [*range(88, 92), *range(84, 88), *range(80, 84), *range(52, 80)], "steps by falling loss"
