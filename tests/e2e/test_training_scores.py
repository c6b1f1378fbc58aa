"""Held-out text scored while a training goes on, by ranks that share its batch."""

import json

import pytest
from helpers.trainings import Training

STEPS = 4


def test_scores_are_those_of_one_rank(world, short, prepared):
    """Each text is one batch: of two ranks one has nothing to do, and nothing that the other might wait for."""
    words = [*short, "parallel.tp=1", "parallel.sequence=false", "train.micro_batch=4", "train.score_every=1"]
    words += [f"train.phases=[{{steps: {STEPS}, lr: 1e-3}}]", "train.keep_best=true", "train.save_every=1000"]
    words += ["evaluate.batch=64", "evaluate.context=256", "train.score_bytes=300"]
    scores, best = [], []
    for dp in (1, 2):
        training = Training.prepared(world, f"scored{dp}", [*words, f"parallel.dp={dp}"], prepared)
        code, out = training.run()
        assert code == 0, out
        lines = (training.folder / "held_out.jsonl").read_text().splitlines()
        scores.append([record["bits_per_byte"] for record in map(json.loads, lines)])
        best.append(json.loads((training.checkpoints / "best.json").read_text()))
    alone, shared = scores
    assert len(alone) == STEPS and alone[0] != alone[-1]
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, abs=1e-6)
    assert best[0]["name"] == best[1]["name"]
