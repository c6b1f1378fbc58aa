"""Which checkpoint is exported."""

import json

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.export import chosen_checkpoint


@pytest.fixture
def train(tmp_path):
    for name in ("iter_0000010", "iter_0000020", "iter_0000030.1a2b3c4d.partial", "iter_0000040.damaged"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / ".metadata").touch()
        (tmp_path / "checkpoints" / name / "files.json").write_text('{"__0_0.distcp": 3}')
        (tmp_path / "checkpoints" / name / "__0_0.distcp").write_text("abc")
    return tmp_path


def test_incomplete_and_damaged_checkpoints_are_not_chosen(train):
    assert chosen_checkpoint(train, "last").name == "iter_0000020"


def test_the_best_checkpoint_has_the_lowest_score(train):
    for name, score in (("10", 1.0), ("20", 1.5)):
        (train / f"checkpoints/iter_00000{name}/score.json").write_text(json.dumps({"bits_per_byte": score}))
    assert chosen_checkpoint(train, "best").name == "iter_0000010"


@pytest.mark.parametrize(("which", "advice"), [("last", "delete .*manifest.json"), ("best", "checkpoint=last")])
def test_a_truncated_checkpoint_is_not_exported(train, which, advice):
    (train / "checkpoints/iter_0000020/score.json").write_text('{"bits_per_byte": 1.0}')
    (train / "checkpoints/iter_0000020/__0_0.distcp").write_text("a")
    with pytest.raises(UserError, match=rf"iter_0000020 is damaged \(__0_0.distcp has 1 of 3 bytes\): .*{advice}"):
        chosen_checkpoint(train, which)


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
