"""Held-out text scored while a training goes on, by ranks that share its batch."""

import json

import pytest
from helpers.command import nemo_adapt
from helpers.trainings import PATIENCE, Training

from nemo_adapt.checkpoint import integrity

STEPS = 4
SHARED = [
    "parallel.tp=1",
    "parallel.sequence=false",
    "train.micro_batch=4",
    "evaluate.batch=64",
    "evaluate.context=256",
]
"""Settings of ranks that share a batch, and texts that are one batch each."""


def test_scores_are_those_of_one_rank(world, short, prepared):
    """Of two ranks one has nothing to do, and nothing that the other might wait for."""
    words = [*short, *SHARED, "train.score_every=1", "train.score_bytes=300"]
    words += [f"train.phases=[{{steps: {STEPS}, lr: 1e-3}}]", "train.keep_best=true", "train.save_every=1000"]
    scores, best = [], []
    for dp in (1, 2):
        training = Training.prepared(world, f"scored{dp}", [*words, f"parallel.dp={dp}"], prepared)
        code, out = training.run()
        assert code == 0, out
        lines = (training.folder / "held_out.jsonl").read_text().splitlines()
        scores.append([record["bits_per_byte"] for record in map(json.loads, lines)])
        best.append(integrity.best(training.checkpoints))
    alone, shared = scores
    assert len(alone) == STEPS and alone[0] != alone[-1]
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, abs=1e-6)
    assert best[0][0] == best[1][0] != ""


def test_a_probe_s_are_asked_for_by_all_ranks(world, short, prepared):
    words = [*short, *SHARED, "parallel.dp=2", f"run.name={prepared}", "train.phases=[{steps: 2, lr: 1e-3}]"]
    words += ["probe.strategies=[mean]", "probe.seeds=1", "probe.steps=2", "probe.at=[0,1]", "probe.max_bytes=300"]
    answer = nemo_adapt("probe", *words, cwd=world, timeout=PATIENCE)
    assert answer.code == 0, answer.err
    (run,) = json.loads((world / "runs" / prepared / "probe" / "probe.json").read_text())["runs"]
    scores = [run["bits_per_byte"][step] for step in ("0", "1", "2")]
    assert len(set(scores)) == 3
