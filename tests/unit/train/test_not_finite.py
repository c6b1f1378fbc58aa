"""What is said about a loss that is not finite."""

from types import SimpleNamespace

import pytest
import torch

from nemo_adapt.checkpoint.folders import METADATA
from nemo_adapt.train import not_finite
from nemo_adapt.train.batches import BatchLayout

ADVICE = "Lower the learning rate, or look at the data of that step"


@pytest.mark.parametrize(
    ("saved", "said"), [([], ""), ([2, 1], "The last checkpoint, iter_0000002, is from before it. ")]
)
def test_only_a_checkpoint_that_was_saved_is_named(tmp_path, monkeypatch, saved, said):
    monkeypatch.setattr(not_finite, "all_gather", lambda mine: [mine])
    for step in saved:
        (tmp_path / f"iter_{step:07d}").mkdir()
        (tmp_path / f"iter_{step:07d}" / METADATA).write_text("{}")
    result = SimpleNamespace(nats=float("nan"), grad_norm=1.0, parts=torch.tensor([[1.0], [float("nan")]]))
    done = SimpleNamespace(step=3, result=result, trainer=SimpleNamespace(chunks=[]))
    error = not_finite.explain(done, BatchLayout(4, 2, 1, 0), tmp_path if saved else tmp_path / "missing")
    assert str(error) == f"train: the loss of step 3 is nan: samples 10, 11. {said}{ADVICE}"
