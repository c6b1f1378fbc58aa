"""What is said about a loss that is not finite."""

import math
from types import SimpleNamespace

import pytest
import torch

from nemo_adapt.checkpoint.folders import METADATA
from nemo_adapt.train import not_finite
from nemo_adapt.train.batches import BatchLayout

ADVICE = "Lower the learning rate, or look at the data of that step (text of {})"

LAYOUT = BatchLayout(4, 2, 1, 0)


def completed(nats, grad_norm=1.0):
    """Step 3, of two micro batches, of which the second has the loss ``nats``."""
    result = SimpleNamespace(nats=nats, grad_norm=grad_norm, parts=torch.tensor([[1.0], [nats]]))
    return SimpleNamespace(step=3, result=result, trainer=SimpleNamespace(chunks=[]))


@pytest.mark.parametrize(
    ("saved", "said"), [([], ""), ([2, 1], "The last checkpoint, iter_0000002, is from before it. ")]
)
def test_only_a_checkpoint_that_was_saved_is_named(tmp_path, monkeypatch, saved, said):
    monkeypatch.setattr(not_finite, "all_gather", lambda mine: [mine])
    for step in saved:
        (tmp_path / f"iter_{step:07d}").mkdir()
        (tmp_path / f"iter_{step:07d}" / METADATA).write_text("{}")
    error = not_finite.explain(
        completed(math.nan), LAYOUT, tmp_path if saved else tmp_path / "missing", "text of {}".format
    )
    assert str(error) == f"train: the loss of step 3 is nan: samples 10, 11. {said}{ADVICE.format([10, 11])}"


def test_all_samples_of_a_step_are_suspect_if_only_its_gradient_is_not_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(not_finite, "all_gather", lambda mine: [mine])
    error = not_finite.explain(completed(1.0, math.inf), LAYOUT, tmp_path, "text of {}".format)
    said = "train: the gradient norm of step 3 is inf: samples 8 to 11. "
    assert str(error) == said + ADVICE.format([8, 9, 10, 11])
