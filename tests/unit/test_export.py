"""Which checkpoint is exported."""

import json

import pytest
import torch
import torch.distributed.checkpoint as dcp

from nemo_adapt.errors import UserError
from nemo_adapt.export import chosen_checkpoint

TENSORS = "__0_0.distcp"


@pytest.fixture
def train(tmp_path):
    for name in ("iter_0000010", "iter_0000020", "iter_0000030.1a2b3c4d.partial", "iter_0000040.damaged"):
        place = tmp_path / "checkpoints" / name
        state = {"decoder.norm.weight": torch.full((3,), 7.0), "optimizer.state.norm.weight": torch.full((3,), 8.0)}
        dcp.save(state, checkpoint_id=place, no_dist=True)
        (place / "files.json").write_text(json.dumps({TENSORS: (place / TENSORS).stat().st_size}))
    return tmp_path


def test_incomplete_and_damaged_checkpoints_are_not_chosen(train):
    assert chosen_checkpoint(train, "last").name == "iter_0000020"


def test_an_older_checkpoint_is_not_exported_as_the_last(train):
    """Its folder was deleted: the export would be the model of another step than the report's."""
    (train / "summary.json").write_text('{"steps": 20}')
    assert chosen_checkpoint(train, "last").name == "iter_0000020"
    (train / "summary.json").write_text('{"steps": 40}')
    said = "the checkpoint of its last step, 40, is gone, the newest is iter_0000020: delete .*manifest.json"
    with pytest.raises(UserError, match=said):
        chosen_checkpoint(train, "last")
    (train / "checkpoints/iter_0000010/score.json").write_text('{"bits_per_byte": 1.0}')
    assert chosen_checkpoint(train, "best").name == "iter_0000010"


def test_the_best_checkpoint_has_the_lowest_score(train):
    for name, score in (("10", 1.0), ("20", 1.5)):
        (train / f"checkpoints/iter_00000{name}/score.json").write_text(json.dumps({"bits_per_byte": score}))
    assert chosen_checkpoint(train, "best").name == "iter_0000010"


@pytest.mark.parametrize(("which", "advice"), [("last", "delete .*manifest.json"), ("best", "checkpoint=last")])
def test_a_truncated_checkpoint_is_not_exported(train, which, advice):
    (train / "checkpoints/iter_0000020/score.json").write_text('{"bits_per_byte": 1.0}')
    (train / "checkpoints/iter_0000020" / TENSORS).write_text("a")
    with pytest.raises(UserError, match=rf"iter_0000020 is damaged \(__0_0.distcp has 1 of \d+ bytes\): .*{advice}"):
        chosen_checkpoint(train, which)


@pytest.mark.parametrize(("value", "is_refused"), [(7.0, True), (8.0, False)])
def test_a_checkpoint_with_other_weights_than_were_written_is_not_exported(train, value, is_refused):
    """The state of the optimizer is not looked at."""
    file = train / "checkpoints/iter_0000020" / TENSORS
    before, after = (torch.tensor([value, value, last]).numpy().tobytes() for last in (value, 9.0))
    assert file.read_bytes().count(before) == 1
    file.write_bytes(file.read_bytes().replace(before, after))
    if is_refused:
        with pytest.raises(UserError, match=r"iter_0000020 is damaged \(__0_0.distcp is not what was written"):
            chosen_checkpoint(train, "last")
    else:
        assert chosen_checkpoint(train, "last").name == "iter_0000020"


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("last", "has no last checkpoint: run the train"),
        ("best", "keep_best=true"),
        ("bset", "is not one of last, best"),
    ],
)
def test_a_missing_or_unknown_checkpoint_is_reported(tmp_path, which, says):
    with pytest.raises(UserError, match=says):
        chosen_checkpoint(tmp_path, which)
