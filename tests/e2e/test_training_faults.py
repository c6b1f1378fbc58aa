"""A training that is stopped, killed and damaged in every way ends with the weights of one that was left alone."""

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

from nemo_adapt.checkpoint.whole import complete

KILLS = int(os.environ.get("NEMO_ADAPT_KILLS", "1"))
"""Random moments at which one rank, and at which all are killed; ``make test-faults`` takes ten of each."""
SLOW = """
import os, threading, time
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
sync, main = os.fsync, threading.main_thread()
os.fsync = lambda file: (threading.current_thread() == main or time.sleep({seconds}), sync(file))
from nemo_adapt.cli import main
main()
"""
"""The command line as the only rank, where tensors take their time to be on disk."""
CUT = """
import io, os, signal
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
import numpy
save = numpy.save

def cut(path, array, **settings):
    if not str(path).endswith("shuffle_index.npy"):
        return save(path, array, **settings)
    whole = io.BytesIO()
    save(whole, array)
    with open(path, "wb") as stream:
        stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

numpy.save = cut
from nemo_adapt.cli import main
main()
"""
"""The same, killed while it writes the order of samples to its cache."""
PLAN = "train.phases=[{train: new_rows, steps: 8, lr: 1e-3}, {train: all, steps: 24, lr: 1e-3}]"


@pytest.fixture(scope="module")
def words(short):
    return [*short, PLAN, "train.log_every=1", "train.save_every=3", "train.attempts=0"]


@pytest.fixture(scope="module")
def unbroken(world, words, prepared):
    """A training that nothing happens to."""
    training = Training.prepared(world, "unbroken", words, prepared)
    began = time.monotonic()
    code, out = training.run()
    assert code == 0, out
    training.seconds = time.monotonic() - began
    return training


def same_end(training, unbroken):
    training.assert_sound()
    assert training.losses() == unbroken.losses()
    ours, theirs = training.weights(), unbroken.weights()
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(ours[key], tensor), key


def test_signals_and_a_damaged_checkpoint(world, words, unbroken):
    """USR1 and TERM save and end with 85; of a newest checkpoint that is cut short, the one before is taken.
    Ranks whose command was killed save and end too."""
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
    process = training.start()
    assert wait_for(process, lambda: training.steps() >= 20)
    alone = ranks_of(process)
    process.kill()
    assert alone and not psutil.wait_procs(alone, timeout=100)[1]
    assert training.steps() == int(complete(training.checkpoints)[-1].name[5:]) < 32
    code, out = training.run()
    assert code == 0, out
    same_end(training, unbroken)


@pytest.mark.parametrize(
    ("moment", "number"),
    [("start", signal.SIGUSR1), ("start", signal.SIGTERM), ("import", signal.SIGUSR1), ("end", signal.SIGTERM)],
)
def test_a_signal_before_the_first_step_and_after_the_last(world, short, prepared, moment, number):
    """As soon as there are ranks, a second later, and when there is nothing to stop any more."""
    words = [*short, "train.phases=[{steps: 4, lr: 1e-3}]", "train.log_every=1"]
    training = Training.prepared(world, f"{moment}-{number.name}", words, prepared)
    process = training.start()
    if moment == "end":
        assert wait_for(process, lambda: training.steps() >= 4)
    else:
        assert wait_for(process, lambda: bool(ranks_of(process)))
        time.sleep(moment == "import")
    process.send_signal(number)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 85 and "run the same command to go on" in out, out
    training.assert_sound()
    code, out = training.run()
    assert code == 0, out
    assert [step for step, _ in training.losses()] == [1, 2, 3, 4]


def test_control_c_saves(world, short, prepared):
    """A terminal sends it to all processes of the command."""
    words = [*short, "train.phases=[{steps: 400, lr: 1e-3}]", "train.log_every=1", "train.save_every=1000"]
    training = Training.prepared(world, "interrupted", words, prepared)
    process = training.start()
    assert wait_for(process, lambda: training.steps() >= 3)
    for each in [*ranks_of(process), process]:
        each.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 85 and "Traceback" not in out and "asked to stop: saved after step" in out, out
    assert len(complete(training.checkpoints)) == 1


def test_killed_at_random_moments(world, words, unbroken):
    """One rank or all, also while a checkpoint is written: none is corrupt, and the end is the same."""
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
        if process.returncode == 0:  # it was faster
            training = Training.prepared(world, f"killed{kill}", words, "unbroken")
    code, out = training.run()
    assert code == 0, out
    same_end(training, unbroken)


@pytest.mark.parametrize(
    ("trained", "name"), [("all", "decoder.layers.0."), ("new_rows", "gradients of embedding.word_embeddings.weight.")]
)
def test_a_loss_that_is_no_number(world, short, unbroken, trained, name):
    phase = f"train.phases=[{{train: {trained}, steps: 8, lr: 1e30}}]"
    words = [*short, phase, "train.clip_grad=0", "train.save_every=1"]
    training = Training.prepared(world, f"nan-{trained}", words, "unbroken")
    code, out = training.run()
    assert code == 2, out
    (line,) = [line for line in out.splitlines() if line.startswith("nemo-adapt: error:")]
    assert "of step" in line and "samples" in line and "gradients of" in line and "Lower the learning rate" in line
    assert "Traceback" not in out and name in line
    training.assert_sound()
    for key, tensor in training.weights().items():
        assert torch.isfinite(tensor).all(), key


def test_a_full_disk_during_a_save(world, short, unbroken):
    """The checkpoint folder is a file system in which one checkpoint has room, but not two."""
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


@pytest.mark.parametrize(
    ("seconds", "score_every", "beside", "said"),
    [(0.0, 9, True, False), (1.5, 9, True, True), (1.5, 1, True, True), (1.5, 9, False, False)],
)
def test_a_disk_that_is_slower_than_checkpoints_are_due(world, short, unbroken, seconds, score_every, beside, said):
    """Training waits for it before the next save, or before it asks whether a score is the best so far. Where it was
    asked to wait, that is not said."""
    words = [*short, "train.phases=[{steps: 3, lr: 1e-3}]", "train.save_every=1", f"train.score_every={score_every}"]
    words += ["parallel.tp=1", "parallel.sequence=false", "train.keep_best=true"]
    words.append(f"train.async_save={str(beside).lower()}")
    training = Training.prepared(world, f"slow-{seconds}-{score_every}-{beside}", words, "unbroken")
    code, out = training.run(("-c", SLOW.format(seconds=seconds)))
    assert code == 0 and ("for the last checkpoint: save less often" in out) == said, out


def test_a_kill_while_samples_are_numbered(world, short, unbroken):
    """Megatron would read what is there of the order at every start from then on."""
    words = [*short, "train.phases=[{steps: 2, lr: 1e-3}]", "parallel.tp=1", "parallel.sequence=false"]
    training = Training.prepared(world, "numbered", words, "unbroken")
    code, out = training.run(("-c", CUT))
    assert code == -signal.SIGKILL and list((training.folder / "cache").glob("*shuffle_index.npy")), out
    code, out = training.run()
    assert code == 0, out


def test_records_are_those_of_an_unbroken_training(world, short, unbroken):
    """Also where it was stopped between two of them, and there is one after the last step."""
    words = [*short, "train.phases=[{steps: 24, lr: 1e-3}]", "train.log_every=5", "train.save_every=100"]
    words += ["parallel.tp=1", "parallel.sequence=false"]
    whole, stopped = (Training.prepared(world, f"records-{name}", words, "unbroken") for name in ("whole", "stopped"))
    code, out = whole.run()
    assert code == 0, out
    process = stopped.start()
    assert wait_for(process, lambda: stopped.steps() >= 5)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 85, out
    code, out = stopped.run()
    assert code == 0, out
    assert [step for step, _ in whole.losses()] == [5, 10, 15, 20, 24]
    assert stopped.losses() == whole.losses()


def test_it_is_not_started_for_ever(world, short, unbroken):
    words = [*short, "train.phases=[{steps: 6, lr: 1e30}]", "train.clip_grad=0", "train.attempts=1"]
    training = Training.prepared(world, "again", words, "unbroken")
    assert training.run()[0] == 2
    code, out = training.run()
    assert code == 2 and "1 starts in a row ended without a checkpoint after step 0" in out, out
