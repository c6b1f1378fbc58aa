"""What stops or slows a training: losses that are not finite, a slow disk, a half-written cache."""

import json
import re
import signal
from functools import partial

import psutil
import pytest
import torch
from helpers.trainings import PATIENCE, Training, ranks_of, wait_for
from ranks.command_bodies import kill_while_samples_are_ordered, slow_disk

ONE_RANK = ["parallel.tp=1", "parallel.sequence=false"]
TEXTS = {"target": "tr.train.txt", "replay": "en.train.txt"}


def assert_suspects(training, line):
    """Assert that an error names the file with the text of its samples, which is that of the sets that it names."""
    path = training.folder / "suspect_samples.jsonl"
    assert f"({path.relative_to(training.world)})" in line
    records = [json.loads(record) for record in path.read_text(encoding="utf-8").splitlines()]
    first, last = map(int, re.search(r"samples (\d+) to (\d+)", line).groups())
    assert [record["sample"] for record in records][: last - first + 1] == [*range(first, last + 1)]
    assert {record["set"] for record in records} == {"target", "replay"}
    for record in records:
        text = (training.world / f"runs/smallworld/text/{TEXTS[record['set']]}").read_text(encoding="utf-8")
        parts = [part.strip("\ufffd ") for part in re.split(r"<[^<>]+>", record["text"])]  # a sample may cut a letter
        assert len(record["text"]) > 64 and all(part in text for part in parts), record


@pytest.mark.parametrize(
    ("trained", "name"), [("all", "decoder.layers.0."), ("new_rows", "gradients of embedding.word_embeddings.weight.")]
)
def test_non_finite_loss_stops_training_and_names_its_origin(world, short, prepared, trained, name):
    phase = f"train.phases=[{{train: {trained}, steps: 8, lr: 1e30}}]"
    words = [*short, phase, "train.clip_grad=0", "train.save_every=1"]
    training = Training.prepared(world, f"nan-{trained}", words, prepared)
    code, out = training.run()
    assert code == 2, out
    (line,) = [line for line in out.splitlines() if line.startswith("nemo-adapt: error:")]
    assert "of step" in line and "samples" in line and "gradients of" in line and "Lower the learning rate" in line
    assert "Traceback" not in out and name in line
    assert_suspects(training, line)
    training.assert_sound()
    for key, tensor in training.weights().items():
        assert torch.isfinite(tensor).all(), key


def test_rising_loss_stops_training_and_names_the_steps(world, short, prepared):
    """The same command resumes, and stops at the same step again; the last checkpoint stays."""
    words = [*short, *ONE_RANK, "train.phases=[{steps: 60, lr: 10}]", "train.warmup_share=0.9", "train.save_every=5"]
    training = Training.prepared(world, "rising", words, prepared)
    said = []
    for _ in range(2):
        code, out = training.run_fork()
        assert code == 2 and "Traceback" not in out, out
        said += [line for line in out.splitlines() if line.startswith("nemo-adapt: error: train: the loss rose")]
    assert len(said) == 2 and said[0] == said[1] and "samples" in said[0] and "lower learning rate" in said[0]
    assert_suspects(training, said[0])
    training.assert_sound()
    why = said[0].removeprefix("nemo-adapt: error: ")
    assert json.loads((training.folder / "owner.json").read_text())["failure"] == why
    _, out = Training(world, "rising", [*words, "train.max_loss_rise=0"]).run_fork()
    assert "training goes on from" in out and "the loss rose" not in out, out


def test_samples_longer_than_the_model_s_positions_are_said_once(world, short, prepared):
    """The small world's model has 512 positions; a training that goes on has been told."""
    words = [*short, *ONE_RANK, "train.seq_length=520", "train.global_batch=1", "train.micro_batch=1"]
    training = Training.prepared(world, "long-samples", [*words, "train.phases=[{steps: 1}]"], prepared)
    code, out = training.run_fork()
    assert code == 0 and out.count("samples have 520 tokens, more than the 512 of the model") == 1, out
    code, out = Training(world, "long-samples", [*words, "train.phases=[{steps: 1}, {steps: 1}]"]).run_fork()
    assert code == 0 and "training goes on from" in out and "samples have" not in out, out


@pytest.mark.parametrize(("precision", "times"), [("bf16", 1), ("fp32", 0)])
def test_rounding_of_the_base_is_said_once(world, short, prepared, precision, times):
    """The small world's model is float32; a training that goes on has been told."""
    words = [*short, *ONE_RANK, f"train.precision={precision}"]
    training = Training.prepared(world, f"rounded-{precision}", [*words, "train.phases=[{steps: 1}]"], prepared)
    said = "the base's float32 weights are rounded to bf16 (train.precision)"
    code, out = training.run_fork()
    assert code == 0 and out.count(said) == times and out.count("rounded") == times, out
    code, out = Training(world, training.name, [*words, "train.phases=[{steps: 1}, {steps: 1}]"]).run_fork()
    assert code == 0 and "training goes on from" in out and "rounded" not in out, out


def test_rank_that_hangs_ends_the_training(world, short, prepared):
    words = [*short, "parallel.tp=1", "parallel.sequence=false", "parallel.dp=2", "train.micro_batch=4"]
    words += ["train.phases=[{steps: 100000, lr: 1e-3}]", "train.log_every=1", "train.max_wait_minutes=0.05"]
    training = Training.prepared(world, "hanging", words, prepared)
    process = training.start()
    assert wait_for(process, lambda: training.steps() > 2)
    first, second = ranks_of(process)
    second.suspend()
    assert wait_for(process, lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)
    second.resume()
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, out
    assert "error: train: a rank waited for another longer than train.max_wait_minutes" in out
    training.assert_sound()


@pytest.mark.parametrize(
    ("seconds", "score_every", "is_async", "is_reported"),
    [(0.0, 9, True, False), (3.0, 9, True, True), (3.0, 1, True, True), (3.0, 9, False, False)],
)
def test_waiting_for_a_slow_disk_is_reported(world, short, prepared, seconds, score_every, is_async, is_reported):
    """Training waits for it before the next save, or before deciding whether a score is the best so far. With
    ``train.async_save=false`` waiting is what was asked for, and is not reported."""
    words = [*short, *ONE_RANK, "train.phases=[{steps: 2, lr: 1e-3}]", "train.save_every=1", "train.keep_best=true"]
    words.append(f"train.score_every={score_every}")
    words.append(f"train.async_save={str(is_async).lower()}")
    training = Training.prepared(world, f"slow-{seconds}-{score_every}-{is_async}", words, prepared)
    code, out = training.run_fork(partial(slow_disk, seconds))
    assert code == 0 and ("for the last checkpoint: save less often" in out) == is_reported, out


def test_half_written_sample_order_is_not_reused(world, short, prepared):
    """A kill left it in the cache: Megatron would fail to read it at every later start."""
    words = [*short, *ONE_RANK, "train.phases=[{steps: 2, lr: 1e-3}]"]
    training = Training.prepared(world, "numbered", words, prepared)
    code, out = training.run_fork(kill_while_samples_are_ordered)
    assert code == -signal.SIGKILL and list((training.folder / "cache").glob("*shuffle_index.npy")), out
    code, out = training.run_fork()
    assert code == 0, out


def test_failing_starts_are_limited(world, short, prepared):
    words = [*short, *ONE_RANK, "train.phases=[{steps: 6, lr: 1e30}]", "train.clip_grad=0", "train.attempts=1"]
    training = Training.prepared(world, "again", words, prepared)
    assert training.run_fork()[0] == 2
    code, out = training.run_fork()
    assert code == 2 and "1 starts in a row ended without a checkpoint after step 0" in out, out
