"""A finished training gets a further phase."""

import torch
from helpers.trainings import Training

FIRST, FURTHER = "{steps: 6, lr: 1e-3}", "{train: embeddings, steps: 4, lr: 5e-4}"


def test_a_training_with_a_further_phase_equals_one_that_had_it_from_the_start(world, short, prepared):
    words = [*short, "parallel.tp=1", "parallel.sequence=false", "train.log_every=1"]
    both = [*words, f"train.phases=[{FIRST},{FURTHER}]"]
    whole = Training.prepared(world, "whole-plan", both, prepared)
    code, out = whole.run_fork()
    assert code == 0, out
    longer = Training.prepared(world, "longer", [*words, f"train.phases=[{FIRST}]"], prepared)
    code, out = longer.run_fork()
    assert code == 0 and len(longer.losses()) == 6, out
    longer.words = both
    code, out = longer.run_fork()
    assert code == 0 and "training goes on from iter_0000006" in out, out
    assert longer.losses() == whole.losses() and len(whole.losses()) == 10
    theirs = whole.weights()
    assert longer.weights().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in longer.weights().items())
