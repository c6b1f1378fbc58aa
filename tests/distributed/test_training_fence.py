"""Who may write into a training's folder."""

import json

import pytest
from ranks import training_bodies

from nemo_adapt.errors import UserError
from nemo_adapt.train.fence import count_start


def test_a_start_that_was_replaced_saves_nothing_more(tmp_path, ranks):
    """Both ranks are told, in one line; what the later start has made is left alone."""
    said = ranks(2).run(training_bodies.replaced, tmp_path)
    assert all("is now written by another start of this run" in line for line in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "owner.json"]
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_slow_start_does_not_claim_what_a_later_one_has(tmp_path, ranks):
    """Of one Slurm job the start counts that was queued again more often, whichever comes first."""
    said = ranks(2).run(training_bodies.slow, tmp_path, ("2", "1"))
    assert all("is now written by another start of this run" in line for line in said)
    assert json.loads((tmp_path / "owner.json").read_text())["restart"] == 2
    assert ranks(2).run(training_bodies.slow, tmp_path, ("2", "3")) == ["it has the folder"] * 2


def test_starts_that_come_to_nothing_are_counted(tmp_path):
    says = "a checkpoint after step 4", "save more often"
    for step in (0, 0, 4, 4, 4):
        count_start(tmp_path, step, 3, *says)
    with pytest.raises(UserError, match=r"3 starts in a row ended without a checkpoint after step 4: .*, or save more"):
        count_start(tmp_path, 4, 3, *says)
    count_start(tmp_path, 4, 0, *says)  # no limit
    count_start(tmp_path, 8, 3, *says)
    assert json.loads((tmp_path / "starts.json").read_text()) == {"step": 8, "starts": 1}
