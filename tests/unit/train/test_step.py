"""Sums that a step computes over a micro batch."""

import torch
from torch.profiler import ProfilerActivity, profile

from nemo_adapt.train import step
from nemo_adapt.train.batches import Batch


def test_tokens_are_counted_without_a_copy_from_the_host(monkeypatch):
    """A tensor of a Python number is made on the host, and copying it to a GPU would wait for the GPU."""

    def run(models, batches, shape, forward):
        out, mean_loss = forward(batches[0], models[0])
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            sums = mean_loss(out)[1]
        seen.update(event.key for event in profiled.key_averages())
        return [sums]

    seen = set()
    monkeypatch.setattr(step, "run_schedule", run)
    monkeypatch.setattr(step.parallel_state, "get_context_parallel_world_size", lambda: 1)
    ids = torch.tensor([[1, 2, 0]])
    batch = Batch(tokens=ids, labels=ids, positions=ids)
    model = lambda tokens, positions, documents, labels: torch.full(labels.shape, 0.5)  # noqa: E731
    (sums,) = step.forward_backward([model], [batch], torch.tensor([2, 3, 4]))
    assert sums.tolist() == [1.5, 3.0, 9.0]
    assert "aten::sum" in seen and "aten::lift_fresh" not in seen
