"""Which start may write into a training's folder."""

import json

import pytest
from ranks import training_bodies

from nemo_adapt.errors import UserError
from nemo_adapt.train.attempts import count_start


def test_replaced_start_saves_nothing(tmp_path, ranks):
    """Both ranks get the error, in one line; files of the later start are not touched."""
    said = ranks(2).run(training_bodies.replaced, tmp_path)
    assert all("is now written by another start of this run" in line for line in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "owner.json"]
    assert not list((tmp_path / "checkpoints").iterdir())


def test_delayed_start_does_not_take_over_from_a_later_one(tmp_path, ranks):
    """Of the starts of one Slurm job the most often requeued one wins, whichever comes first."""
    said = ranks(2).run(training_bodies.slow, tmp_path, ("2", "1"))
    assert all("is now written by another start of this run" in line for line in said)
    assert json.loads((tmp_path / "owner.json").read_text())["restart"] == 2
    assert ranks(2).run(training_bodies.slow, tmp_path, ("2", "3")) == ["it has the folder"] * 2


def test_consecutive_starts_without_progress_are_limited(tmp_path):
    says = "a checkpoint after step 4", "save more often"
    for step in (0, 0, 4, 4, 4):
        count_start(tmp_path, step, 3, *says)
    with pytest.raises(UserError, match=r"3 starts in a row ended without a checkpoint after step 4: .*, or save more"):
        count_start(tmp_path, 4, 3, *says)
    count_start(tmp_path, 4, 0, *says)  # no limit
    count_start(tmp_path, 8, 3, *says)
    assert json.loads((tmp_path / "starts.json").read_text()) == {"step": 8, "starts": 1}
