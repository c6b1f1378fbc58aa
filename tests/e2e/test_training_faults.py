"""A training that is stopped, killed or damaged ends with the losses and weights of an uninterrupted one."""

import contextlib
import os
import random
import signal
import subprocess
import time

import psutil
import pytest
import torch
from helpers.trainings import Training, kill_all, kill_one, ranks_of, wait_for

from nemo_adapt.checkpoint.folders import complete

KILLS = int(os.environ.get("NEMO_ADAPT_KILLS", "1"))
"""Number of random kills of one rank, and of all ranks; ``make test-faults`` takes ten of each."""
PLAN = "train.phases=[{train: new_rows, steps: 8, lr: 1e-3}, {train: all, steps: 24, lr: 1e-3}]"


@pytest.fixture(scope="module")
def words(short):
    return [*short, PLAN, "train.log_every=1", "train.save_every=3", "train.attempts=0"]


@pytest.fixture(scope="module")
def unbroken(world, words, prepared):
    """An uninterrupted training."""
    training = Training.prepared(world, "unbroken", words, prepared)
    began = time.monotonic()
    code, out = training.run()
    assert code == 0, out
    training.seconds = time.monotonic() - began
    return training


def assert_same_end(training, unbroken):
    training.assert_sound()
    assert training.losses() == unbroken.losses()
    ours, theirs = training.weights(), unbroken.weights()
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(ours[key], tensor), key


def test_training_resumes_after_signals_and_a_damaged_checkpoint(world, words, unbroken):
    """USR1 and TERM save and exit with 85; if the newest checkpoint is truncated, or has other bytes, the previous one
    is loaded. Ranks whose parent command was killed save and exit too."""
    training = Training.prepared(world, "signals", words, "unbroken")
    process = training.start()
    assert wait_for(process, lambda: training.steps() >= 5)
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 85, out
    newest = complete(training.checkpoints)[-1]
    assert f"asked to stop: saved after step {int(newest.name[5:])}; run the same command to go on" in out
    assert not (training.folder / "manifest.json").exists()
    cut = max(newest.glob("*.distcp"), key=lambda file: file.stat().st_size)
    os.truncate(cut, cut.stat().st_size // 2)
    process = training.start()
    assert wait_for(process, lambda: training.steps() >= 12)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 85, out
    assert f"{newest.name} is damaged ({cut.name} has " in out and "looking for the one before" in out
    newest = complete(training.checkpoints)[-1]
    changed = max(newest.glob("__1_*.distcp"), key=lambda file: file.stat().st_size)
    with changed.open("r+b") as file:
        file.seek(changed.stat().st_size // 2)
        file.write(bytes(1000))
    process = training.start()
    assert wait_for(process, lambda: training.steps() >= 20)
    alone = ranks_of(process)
    process.kill()
    assert alone and not psutil.wait_procs(alone, timeout=100)[1]
    out, _ = process.communicate()
    assert f"{newest.name} is damaged ({changed.name} is not what was written, at byte " in out, out
    assert training.steps() == int(complete(training.checkpoints)[-1].name[5:]) < 32
    code, out = training.run()
    assert code == 0, out
    assert_same_end(training, unbroken)


def test_training_resumes_after_kills_at_random_moments(world, words, unbroken):
    """One rank or all are killed, also while a checkpoint is written: none is corrupt, and the result is the same."""
    training = Training.prepared(world, "killed", words, "unbroken")
    draw = random.Random(os.environ.get("NEMO_ADAPT_KILL_SEED", "1"))
    for kill in range(2 * KILLS):
        before, process = training.steps(), training.start()
        # Half of the kills come after some steps of this start, half at any moment, loading and saving included.
        if kill % 4 < 2:
            wait_for(process, lambda: training.steps() > before + draw.randrange(8))  # noqa: B023
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0.3, 1.0) * unbroken.seconds)
        if kill % 2:
            kill_all(process)
        else:
            kill_one(process, draw)
        training.assert_sound()
        if process.returncode == 0:  # it finished before the kill: begin another training
            training = Training.prepared(world, f"killed{kill}", words, "unbroken")
    code, out = training.run()
    assert code == 0, out
    assert_same_end(training, unbroken)


def test_full_disk_during_a_save_keeps_the_previous_checkpoint(world, short, unbroken):
    """The checkpoint folder is a file system with room for one checkpoint, but not for two."""
    words = [*short, "train.phases=[{steps: 6, lr: 1e-3}]", "train.save_every=2", "train.async_save=false"]
    training = Training.prepared(world, "full", words, "unbroken")
    training.checkpoints.mkdir(parents=True)
    size = sum(file.stat().st_size for file in complete(unbroken.checkpoints)[-1].iterdir())
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size * 3 // 2}", "none", str(training.checkpoints)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        code, out = training.run()
        assert code == 2, out
        assert "a checkpoint could not be written" in out and "No space left on device" in out
        assert "Traceback" not in out
        assert [place.name for place in complete(training.checkpoints)] == ["iter_0000002"]
        assert sorted(place.name for place in training.checkpoints.iterdir()) == ["iter_0000002"]
        training.assert_sound()
    finally:
        subprocess.run(["umount", str(training.checkpoints)], check=True)
