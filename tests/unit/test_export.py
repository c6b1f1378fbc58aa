"""Which checkpoint is exported: the newest one that is complete."""

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.export import newest_checkpoint


def test_a_checkpoint_that_is_still_being_saved_is_not_taken(tmp_path):
    for name in ("iter_0000005", "iter_0000010", "iter_0000010.partial", "iter_0000015.partial"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / ".metadata").touch()
    (tmp_path / "checkpoints" / "iter_0000020").mkdir()
    assert newest_checkpoint(tmp_path).name == "iter_0000010"


def test_a_training_without_a_checkpoint_is_said(tmp_path):
    with pytest.raises(UserError, match="has no checkpoint"):
        newest_checkpoint(tmp_path)
