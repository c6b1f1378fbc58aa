"""Scoring held-out text during training, with data parallelism."""

import json
from functools import partial

import pytest
import torch
from helpers.command import nemo_adapt
from helpers.trainings import PATIENCE, Training
from ranks.command_bodies import signal_in_step, signal_while_scoring, signal_while_scoring_at_first

from nemo_adapt.checkpoint.folders import complete, step_of
from nemo_adapt.checkpoint.scores import best, score_of
from nemo_adapt.training_files import HELD_OUT, records

STEPS = 4
ONE_BATCH = [
    "parallel.tp=1",
    "parallel.sequence=false",
    "train.micro_batch=4",
    "evaluate.batch=64",
    "evaluate.context=256",
]
"""Settings without TP, in which each held-out text is a single batch, for one of the DP ranks."""


def test_held_out_scores_of_two_ranks_equal_those_of_one(world, short, prepared):
    """One of the two has nothing to score, and must not make the other wait. The model before the first step and after
    the last one is scored, too; the former is not kept as the best."""
    words = [*short, *ONE_BATCH, "train.score_every=3", "train.score_bytes=300"]
    words += [f"train.phases=[{{steps: {STEPS}, lr: 1e-3}}]", "train.keep_best=true", "train.save_every=1000"]
    scores, kept, steps = [], [], []
    for dp in (1, 2):
        training = Training.prepared(world, f"scored{dp}", [*words, f"parallel.dp={dp}"], prepared)
        code, out = training.run_fork() if dp == 1 else training.run()
        assert code == 0, out
        lines = (training.folder / "held_out.jsonl").read_text().splitlines()
        scores.append([record["bits_per_byte"] for record in map(json.loads, lines)])
        steps.append([json.loads(line)["step"] for line in lines])
        kept.append(best(training.checkpoints))
    of_one, of_two = scores
    assert steps == [[0, 3, STEPS]] * 2 and of_one[0] != of_one[-1]
    for one, two in zip(of_one, of_two, strict=True):
        assert two == pytest.approx(one, abs=1e-6)
    assert kept[0][0] == kept[1][0] != ""


def scores_of(training):
    return [(record["step"], record["bits_per_byte"]) for record in records(training.folder / HELD_OUT, whole=True)]


@pytest.fixture(scope="module")
def scored(short):
    """The words of a training that takes longer to score than to train."""
    words = [*short, *ONE_BATCH, "train.score_every=2", "train.score_bytes=0", "evaluate.batch=1"]
    words += [f"train.phases=[{{steps: {STEPS}, lr: 1e-3}}]", "train.keep_best=true", "train.save_every=1000"]
    return [*words, "train.log_every=1", "train.precision=bf16"]


@pytest.fixture(scope="module")
def whole(world, scored, prepared):
    """That training, without an interruption."""
    training = Training.prepared(world, "scores-whole", scored, prepared)
    code, out = training.run_fork()
    assert code == 0, out
    return training


@pytest.mark.parametrize(
    ("stop", "saved"),
    [(signal_while_scoring, 2), (partial(signal_in_step, STEPS), STEPS)],
    ids=["scoring", "last step"],
)
def test_a_training_that_is_asked_to_stop_saves_before_it_scores(world, scored, prepared, whole, stop, saved):
    """Scoring may take longer than the time that is left. The next start makes the scores, or the one after it."""
    stopped = Training.prepared(world, f"scores-stopped{saved}", scored, prepared)
    code, out = stopped.run_fork(stop)
    assert code == 85, out
    assert [step_of(place) for place in complete(stopped.checkpoints)][-1] == saved
    assert [scored for scored, _ in scores_of(stopped)] == list(range(0, saved, 2))
    code, out = stopped.run_fork(signal_while_scoring)  # while it makes the scores of that step
    assert code == 85 and f"held-out text is to be scored at step {saved}" in out, out
    assert [scored for scored, _ in scores_of(stopped)] == list(range(0, saved, 2))
    for _ in range(2):
        code, out = stopped.run_fork()
        assert code == 0, out
    assert scores_of(stopped) == scores_of(whole) and stopped.losses() == whole.losses()
    assert best(stopped.checkpoints) == best(whole.checkpoints)
    name, _ = best(whole.checkpoints)
    found = [score_of(training.checkpoints / name) for training in (stopped, whole)]
    of_step = 8 * 64  # train.global_batch, train.seq_length
    assert found[0] == found[1] and found[0]["tokens"] == of_step * int(name.removeprefix("iter_"))
    ours, theirs = stopped.weights(), whole.weights()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_training_that_is_asked_to_stop_while_it_is_scored_at_first_makes_a_step(world, scored, prepared, whole):
    """Starts that save nothing would count as ones without progress."""
    stopped = Training.prepared(world, "scores-at-first", scored, prepared)
    code, out = stopped.run_fork(signal_while_scoring_at_first)
    assert code == 85 and "saved after step 1" in out, out
    assert not scores_of(stopped)
    code, out = stopped.run_fork()
    assert code == 0, out
    assert scores_of(stopped) == scores_of(whole)[1:] and stopped.losses() == whole.losses()


def test_probe_scores_held_out_text_on_all_ranks(world, short, prepared):
    words = [*short, *ONE_BATCH, "parallel.dp=2", f"run.name={prepared}", "train.phases=[{steps: 2, lr: 1e-3}]"]
    words += ["probe.strategies=[mean]", "probe.seeds=1", "probe.steps=2", "probe.at=[0,1]", "probe.max_bytes=300"]
    answer = nemo_adapt("probe", *words, cwd=world, timeout=PATIENCE)
    assert answer.code == 0, answer.err
    (run,) = json.loads((world / "runs" / prepared / "probe" / "probe.json").read_text())["runs"]
    scores = [run["bits_per_byte"][step] for step in ("0", "1", "2")]
    assert len(set(scores)) == 3
