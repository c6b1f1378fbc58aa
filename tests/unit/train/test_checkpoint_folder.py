"""The folder of checkpoints when a start is killed, stalls, or cannot write to the disk."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemo_adapt.checkpoint.folders import complete
from nemo_adapt.checkpoint.integrity import damage, sizes_of
from nemo_adapt.checkpoint.scores import best, score_of
from nemo_adapt.errors import UserError
from nemo_adapt.train import checkpoint_folder as folder_of


@dataclass
class FakeFence:
    """A fence that reads no file."""

    token: str = "mine"
    checks: int = 1000
    """Number of checks that pass before another start owns the folder."""

    def check(self):
        self.checks -= 1
        if self.checks < 0:
            raise UserError("another start")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def written(folder, step, token="mine", tensors=b"1234"):
    """Write a checkpoint as it is before its rename; return that folder and the final one."""
    place = folder / f"iter_{step:07d}"
    partial = place.with_name(f"{place.name}.{token}.partial")
    partial.mkdir()
    for name in (".metadata", "common.pt", "metadata.json"):
        (partial / name).write_text(name)
    (partial / "__0_0.distcp").write_bytes(tensors)
    return partial, place


def put(folder, step, keep=2, score=None, token="mine", tensors=b"1234", keep_every=0):
    partial, place = written(folder, step, token, tensors)
    scored = score and {"bits_per_byte": score, "chosen_by": {"text": "a"}}
    old = folder_of.publish(partial, place, sizes_of(partial), FakeFence(token), keep, scored, keep_every)
    assert {each.name for each in folder.glob("*.partial")} >= {each.name for each in old}, "no whole name is deleted"
    folder_of.delete(old)


def names(folder):
    return sorted(place.name for place in folder.iterdir())


def test_the_newest_and_the_best_are_kept(folder):
    for step, score in ((2, 3.0), (4, 2.0), (6, None), (8, None), (10, 1.0)):
        put(folder, step, score=score)
    assert names(folder) == ["iter_0000008", "iter_0000010"] and best(folder) == ("iter_0000010", 1.0)
    put(folder, 12)
    put(folder, 14)
    assert names(folder) == ["iter_0000010", "iter_0000012", "iter_0000014"]
    assert not any(damage(place) for place in complete(folder))


def test_checkpoints_of_every_so_many_steps_are_never_deleted(folder):
    for step in (2, 4, 5, 6, 8, 10, 12, 14):
        put(folder, step, keep=1, keep_every=5)
    assert names(folder) == ["iter_0000005", "iter_0000010", "iter_0000014"]


def test_a_kill_right_after_the_rename_loses_no_best_checkpoint(folder, monkeypatch):
    put(folder, 4, score=3.0)

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_of, "_sync", lambda place: killed() if place == folder else None)
    with pytest.raises(KeyboardInterrupt):
        put(folder, 8, score=2.0)
    assert best(folder) == ("iter_0000008", 2.0) and folder_of.newest(folder).name == "iter_0000008"


def test_a_start_deletes_incomplete_checkpoints_of_earlier_ones(folder):
    """At once, not only after its first save: the disk may have no room for that."""
    put(folder, 2)
    written(folder, 4, token="killed")
    folder_of.clean_up(folder, FakeFence())
    assert names(folder) == ["iter_0000002"]
    written(folder, 4, token="later")
    with pytest.raises(UserError, match="another start"):
        folder_of.clean_up(folder, FakeFence(checks=0))
    assert names(folder) == ["iter_0000002", "iter_0000004.later.partial"]


def test_scores_of_another_text_are_deleted(folder):
    put(folder, 2, score=1.0)
    folder_of.drop_scores(folder, {"text": "a"})
    assert best(folder) == ("iter_0000002", 1.0) and not damage(folder / "iter_0000002")
    folder_of.drop_scores(folder, {"text": "b"})
    assert best(folder)[0] == "" and score_of(folder / "iter_0000002") == {}
    assert not damage(folder / "iter_0000002"), "without its score it is whole"
    put(folder, 4, score=2.0)
    folder_of.drop_scores(folder, None)
    assert best(folder)[0] == "", "no best one is to be kept any more"


def test_a_damaged_checkpoint_is_the_best_no_longer(folder, capsys):
    """It could not be exported, and a later one had to beat its score."""
    put(folder, 2, score=0.5)
    put(folder, 4)
    (folder / "iter_0000002/__0_0.distcp").write_bytes(b"12")
    folder_of.drop_scores(folder, {"text": "a"})
    assert best(folder)[0] == "" and score_of(folder / "iter_0000002") == {}
    assert "iter_0000002 is damaged (__0_0.distcp has 2 of 4 bytes): it no longer counts" in capsys.readouterr().out


def test_the_best_checkpoint_of_a_finished_training_stays(folder):
    """No step is left in which another could be chosen."""
    put(folder, 2, score=1.0)
    folder_of.check_best(folder, {"text": "a"})
    folder_of.check_best(folder, None)
    with pytest.raises(UserError, match="all steps are done, so that no best checkpoint can be chosen"):
        folder_of.check_best(folder, {"text": "b"})
    assert best(folder) == ("iter_0000002", 1.0)
    folder_of.drop_scores(folder, None)
    with pytest.raises(UserError, match="all steps are done"):
        folder_of.check_best(folder, {"text": "a"})


def test_a_stalled_start_deletes_nothing_of_a_later_one(folder):
    """It stalls after a check of the fence, until the later start has saved the same step."""
    partial, place = written(folder, 4, token="first", tensors=b"first")
    put(folder, 4, token="later", keep=1)
    written(folder, 6, token="later")
    with pytest.raises(UserError, match="another start"):
        folder_of.publish(partial, place, sizes_of(partial), FakeFence("first", checks=1), 1, None)
    assert names(folder) == ["iter_0000004", "iter_0000006.later.partial"] and not damage(place)
    assert (place / "__0_0.distcp").read_bytes() == b"1234"


def test_a_step_that_a_stalled_start_has_saved_is_kept(folder):
    """The owner's training continues: the checkpoint of the same step is as good as its own."""
    put(folder, 4, token="first", tensors=b"first")
    put(folder, 4, token="owner")
    assert names(folder) == ["iter_0000004"] and not damage(folder / "iter_0000004")
    assert (folder / "iter_0000004/__0_0.distcp").read_bytes() == b"first"


def test_small_files_are_fsynced_before_the_atomic_rename(folder, monkeypatch):
    synced = []
    sync, rename = os.fsync, Path.rename

    def recorded_sync(number):
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        sync(number)

    def recorded_rename(place, to):
        synced.append(f"-> {to.name}")
        return rename(place, to)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    put(folder, 2)
    before = {Path(name).name for name in synced[: synced.index("-> iter_0000002")]}
    assert before >= {".metadata", "common.pt", "metadata.json", "files.json", "iter_0000002.mine.partial"}
    assert str(folder) in synced[synced.index("-> iter_0000002") :]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(folder):
    put(folder, 2)
    put(folder, 4)
    (folder / "iter_0000004" / "__0_0.distcp").write_bytes(b"1")
    put(folder, 4)
    assert names(folder) == ["iter_0000002", "iter_0000004", "iter_0000004.damaged"]
    put(folder, 6, keep=1)
    assert names(folder) == ["iter_0000006"]


@pytest.mark.parametrize("name", [".metadata", "common.pt", "metadata.json", "__0_0.distcp"])
def test_training_does_not_restart_if_no_checkpoint_is_intact(folder, name):
    assert folder_of.newest(folder) is None, "at the first start"
    put(folder, 2)
    file = folder / "iter_0000002" / name
    file.write_bytes(b"" if name.endswith("distcp") else bytes(file.stat().st_size))
    with pytest.raises(UserError, match=r"no saved checkpoint is intact .* or delete"):
        folder_of.newest(folder)
    assert names(folder) == ["iter_0000002.damaged"]
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(UserError, match="no saved checkpoint is intact"):
        folder_of.newest(folder)


def test_an_undeletable_old_checkpoint_is_left_for_the_next_start(folder, monkeypatch, capsys):
    put(folder, 2, keep=1)
    monkeypatch.setattr(shutil, "rmtree", lambda place, ignore_errors=False: None)
    put(folder, 4, keep=1)
    assert names(folder) == ["iter_0000002.mine.partial", "iter_0000004"]
    assert "cannot be deleted now" in capsys.readouterr().out
    monkeypatch.undo()
    folder_of.clean_up(folder, FakeFence("next"))
    assert names(folder) == ["iter_0000004"]


def test_an_error_at_the_first_checkpoint_promises_no_other(folder):
    assert str(folder_of.not_written(folder, "full")).endswith("could not be written: full. There is no earlier one")


def test_an_error_leaves_no_incomplete_checkpoint(folder, monkeypatch):
    put(folder, 2)

    def full(place, sizes):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_of, "seal", full)
    said = r"could not be written: .*No space left on device.*\. iter_0000002 is intact: the same command goes on"
    with pytest.raises(UserError, match=said):
        put(folder, 4)
    assert names(folder) == ["iter_0000002"]
    monkeypatch.undo()
    partial, place = written(folder, 4)
    with pytest.raises(UserError, match="another start"):
        folder_of.publish(partial, place, sizes_of(partial), FakeFence(checks=0), 2, None)
    assert names(folder) == ["iter_0000002"]
