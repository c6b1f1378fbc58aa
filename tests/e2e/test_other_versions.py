"""A training resumed with another version of megatron-core, and then with the first (``make test-versions``)."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from helpers.trainings import Training, wait_for

OTHER = os.environ.get("NEMO_ADAPT_OTHER_PYTHON", "")
"""Path of a Python interpreter whose environment has another version."""
PLAN = "train.phases=[{train: new_rows, steps: 8, lr: 1e-3}, {train: all, steps: 16, lr: 1e-3}]"
TOLERANCE = 1e-5
"""The versions, and builds of torch, may sum in another order."""

pytestmark = pytest.mark.skipif(not OTHER, reason="NEMO_ADAPT_OTHER_PYTHON names no Python")


@pytest.fixture(scope="module")
def words(short):
    return [*short, PLAN, "train.log_every=1", "train.save_every=100"]


@pytest.fixture(scope="module")
def unbroken(world, words, prepared):
    """An uninterrupted training with this version, which differs from the other."""
    asked = "from importlib.metadata import version; print(version('megatron-core'))"
    answer = subprocess.run([OTHER, "-c", asked], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() != version("megatron-core")
    training = Training.prepared(world, "one_version", words, prepared)
    code, out = training.run()
    assert code == 0, out
    return training


def stop_after(training, steps):
    """Start the training, and signal it after so many steps, so that it saves and ends."""
    process = training.start()
    assert wait_for(process, lambda: training.steps() >= steps)
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 85, out


@pytest.mark.parametrize(
    "pythons", [(sys.executable, OTHER), (OTHER, sys.executable)], ids=["ours first", "theirs first"]
)
def test_training_resumes_with_another_version_and_back(world, words, unbroken, pythons):
    """Stopped in the phase of new rows and in that of all; losses, weights and optimizer state are the same."""
    first, second = pythons
    training = Training.prepared(world, f"begun_by_{pythons.index(OTHER)}", words, "one_version")
    training.python = first
    stop_after(training, 3)
    training.python = second
    stop_after(training, 12)
    training.python = first
    code, out = training.run()
    assert code == 0 and "training goes on from iter_" in out, out
    training.assert_sound()
    (steps, losses), (same_steps, same_losses) = (zip(*each.losses(), strict=True) for each in (training, unbroken))
    assert steps == same_steps and losses == pytest.approx(same_losses, abs=TOLERANCE)
    found, wanted = training.weights(), unbroken.weights()
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=TOLERANCE, msg=key)
