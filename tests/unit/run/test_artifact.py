"""Result folders of stages: when they count as finished, what makes a stage run again, and interrupted builds."""

import errno
import hashlib
import json
import os
import threading
import time
from unittest import mock

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.files import file_hash
from nemo_adapt.run import artifact
from nemo_adapt.run.artifact import Stage
from nemo_adapt.run.inputs import input_hash
from nemo_adapt.run.manifest import read_manifest
from nemo_adapt.run.restart import STARTED, Restart


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("one\n")
    return file


def write_result(folder):
    (folder / "result").write_text("done")


def test_what_a_stage_returns_is_in_its_manifest(tmp_path, source):
    artifact.run(Stage("data", tmp_path / "out", {}, {"text": [source]}), lambda folder: {"processes": 3})
    assert read_manifest(tmp_path / "out")["processes"] == 3


def test_a_finished_stage_is_recognized_and_has_a_manifest(tmp_path, source):
    stage = Stage("data", tmp_path / "out", {"a": 1}, {"text": [source]})
    assert not stage.finished
    artifact.run(stage, write_result)
    assert stage.finished and not stage.workplace.exists()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["config"] == {"a": 1} and manifest["versions"]["python"] and manifest["peak_memory_mib"] > 0
    assert str(source) in manifest["inputs"]["text"]


def test_a_changed_configuration_or_input_makes_a_stage_unfinished(tmp_path, source):
    artifact.run(Stage("data", tmp_path / "out", {"a": 1}, {"text": [source]}), write_result)
    assert not Stage("data", tmp_path / "out", {"a": 2}, {"text": [source]}).finished
    source.write_text("two\n")
    assert not Stage("data", tmp_path / "out", {"a": 1}, {"text": [source]}).finished


def test_a_result_whose_file_is_gone_is_made_again(tmp_path, source):
    """A file system for temporary data deletes what was not read for long: the manifest may be younger."""

    def build(folder):
        (folder / "layers").mkdir()
        (folder / "layers/0").write_text("weights")
        write_result(folder)

    out = tmp_path / "out"
    stage = Stage("data", out, {}, {"text": [source]})
    artifact.run(stage, build)
    assert read_manifest(out)["files"] == ["layers/0", "result"]
    (out / "layers/0").unlink()
    assert not stage.finished and stage.change == f"no {out / 'layers/0'}" and stage.missing == out / "layers/0"
    artifact.run(stage, build)
    assert stage.finished and not stage.change and (out / "layers/0").is_file()
    (out / "result").write_text("edited by the user")
    assert stage.finished


def test_a_stage_says_which_files_its_result_needs(tmp_path, source):
    stage = Stage("evaluate", tmp_path / "out", {}, {"text": [source]})
    (tmp_path / "page").touch()

    def build(folder):
        (folder / "page").touch()
        write_result(folder)
        return {"files": ["result"]}

    artifact.run(stage, build)
    (tmp_path / "out/page").unlink()
    assert stage.finished
    (tmp_path / "out/result").unlink()
    assert not stage.finished


def test_files_of_a_resumable_stage_may_go(tmp_path, source):
    """A finished training's checkpoints take terabytes: without them it is still finished."""
    stage = Stage("train", tmp_path / "out", {}, {"text": [source]}, Restart(resumable=True))
    artifact.run(stage, write_result)
    (tmp_path / "out/result").unlink()
    assert stage.finished


def test_an_input_moved_without_changes_keeps_a_stage_finished(tmp_path, source):
    artifact.run(Stage("data", tmp_path / "out", {}, {"text": [source]}), write_result)
    moved = source.rename(tmp_path / "moved.txt")
    assert Stage("data", tmp_path / "out", {}, {"text": [moved]}).finished


def test_changed_settings_and_inputs_are_named(tmp_path, source):
    other, out = tmp_path / "other.txt", tmp_path / "out"
    other.write_text("three\n")

    def change(config, *files):
        return Stage("data", out, config, {"text": list(files)}).change

    before = {"train": {"seed": 1, "lr": 2}, "a": 1}
    assert change(before, source) == f"no {out}"
    artifact.run(Stage("data", out, before, {"text": [source, other]}), write_result)
    assert change(before, source, other) == ""
    assert change({**before, "train": {"seed": 1, "lr": 3}}, source, other) == "train.lr"
    assert change({"train": {}, "b": 1}, source, other) == "a, b, train.lr, …"
    assert change(before, other, source) == "text"
    assert change(before, source) == str(other), "which is not read any more"
    source.write_text("two\n")
    assert change({**before, "a": 2}, source, other) == f"a, {source}"
    assert Stage("words", out, before, {"text": [source, other]}).change == str(source)
    artifact.run(Stage("data", out, before, {"text": [source, other]}), write_result)
    assert Stage("words", out, before, {"text": [source, other]}).change == "words"


def test_a_failed_stage_keeps_the_previous_result(tmp_path, source):
    artifact.run(Stage("data", tmp_path / "out", {"a": 1}, {"text": [source]}), write_result)

    def fail(folder):
        write_result(folder)
        raise RuntimeError("power cut")

    again = Stage("data", tmp_path / "out", {"a": 2}, {"text": [source]})
    with pytest.raises(RuntimeError):
        artifact.run(again, fail)
    assert not again.finished
    assert Stage("data", tmp_path / "out", {"a": 1}, {"text": [source]}).finished


def test_a_rebuilt_upstream_stage_makes_the_downstream_one_unfinished(tmp_path, source):
    upstream = Stage("tokenizer", tmp_path / "up", {"a": 1}, {"text": [source]})
    artifact.run(upstream, write_result)
    downstream = Stage("data", tmp_path / "down", {}, {"tokenizer": [tmp_path / "up"]})
    artifact.run(downstream, write_result)
    artifact.run(Stage("tokenizer", tmp_path / "up", {"a": 2}, {"text": [source]}), write_result)
    assert not Stage("data", tmp_path / "down", {}, {"tokenizer": [tmp_path / "up"]}).finished


def test_a_resumable_stage_continues_in_place_and_refuses_other_settings(tmp_path, source):
    def stage(lr):
        return Stage(
            "train", tmp_path / "train", {"train": {"lr": lr}}, {"text": [source]}, restart=Restart(resumable=True)
        )

    write_result(stage(1).prepare())
    assert (stage(1).prepare() / "result").is_file() and not stage(1).finished
    with pytest.raises(UserError, match=r"made with other settings \(train\.lr\)"):
        stage(2).prepare()
    stage(1).finish(1.0, {})
    assert stage(1).finished


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (["data.target", "data.replay"], ["data.target"], "data.replay"),
        (["data.target"], ["data.target", "data.replay"], "data.replay"),
        (["data.target", "auxiliary.vectors"], ["data.target", "auxiliary.overlaps"], ""),
        (["data.target", "train.keep_best"], ["data.target"], ""),
    ],
)
def test_a_resumable_stage_refuses_other_inputs(tmp_path, source, before, now, said):
    """Also with settings that may change: a training went on without its replay text."""
    restart = Restart(resumable=True, may_change=("train.keep_best",), optional=("auxiliary.",))

    def stage(names):
        return Stage("train", tmp_path / "train", {}, {key: [source] for key in names}, restart=restart)

    write_result(stage(before).prepare())
    if said:
        with pytest.raises(UserError, match=rf"made with other settings \({said}\)"):
            stage(now).prepare()
    else:
        stage(now).prepare()
    source.write_text("other\n")
    with pytest.raises(UserError, match=r"made with other settings \(.*the input data\.target"):
        stage(now).prepare()


@pytest.mark.parametrize("damaged", ['{"fingerprint": "a', "", "\0" * 9, "[1]", '{"config": {}}'])
def test_a_damaged_note_of_a_started_stage_is_reported(tmp_path, source, damaged):
    """Training has weeks of work beside it: nothing is deleted. What can be made again is."""
    train = Stage("train", tmp_path / "train", {}, {"text": [source]}, restart=Restart(resumable=True))
    convert = Stage("convert", tmp_path / "convert", {}, {"text": [source]}, restart=Restart(keeps_partial=True))
    for stage in (train, convert):
        write_result(stage.prepare())
        (stage.workplace / STARTED).write_text(damaged)
    with pytest.raises(UserError, match=r"started\.json is damaged.*delete that file"):
        train.prepare()
    (tmp_path / "train" / STARTED).unlink()
    assert (train.prepare() / "result").is_file()
    assert not (convert.prepare() / "result").exists()


def test_a_folder_that_no_stage_made_is_not_replaced(tmp_path, source):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not a result of nemo-adapt"):
        artifact.run(Stage("export", tmp_path / "out", {}, {"text": [source]}), write_result)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_a_folder_that_the_user_named_like_a_workplace_is_kept(tmp_path, source):
    """As ``export.dir=/models/mine`` beside a download in ``/models/mine.partial``."""
    place = tmp_path / "out.partial"
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")
    stage = Stage("export", tmp_path / "out", {}, {"text": [source]}, restart=Restart(keeps_partial=True))
    with pytest.raises(UserError, match=r"out\.partial is not what an interrupted nemo-adapt export has left"):
        artifact.run(stage, write_result)
    assert (place / "thesis.tex").read_text() == "years of work"
    (place / "thesis.tex").rename(tmp_path / "thesis.tex")
    artifact.run(stage, write_result)
    place.symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"out\.partial is not what an interrupted"):
        artifact.run(Stage("export", tmp_path / "out", {"a": 1}, {"text": [source]}), write_result)
    assert stage.finished


def test_a_stage_killed_as_it_begins_is_begun_again(tmp_path, source):
    """It has left its note under the name that the note has until it is complete."""
    place = tmp_path / "out.partial"
    place.mkdir()
    (place / f".{STARTED}.1a2b3c4d").write_text('{"finger')
    stage = Stage("export", tmp_path / "out", {}, {"text": [source]})
    artifact.run(stage, write_result)
    assert stage.finished and read_manifest(tmp_path / "out")["files"] == ["result"]


@pytest.mark.parametrize("keeps", [False, True])
def test_what_an_interrupted_stage_has_left_is_replaced(tmp_path, source, keeps):
    """At any moment: before it has made anything, by one with other settings, after its manifest."""
    out = tmp_path / "out"
    (tmp_path / "out.partial").mkdir()
    for value in range(2):
        write_result(
            Stage("data", out, {"a": value}, {"text": [source]}, restart=Restart(keeps_partial=keeps)).prepare()
        )
    stage = Stage("data", out, {"a": 2}, {"text": [source]}, restart=Restart(keeps_partial=keeps))
    artifact.run(stage, write_result)
    out.rename(tmp_path / "out.partial")
    artifact.run(stage, write_result)
    assert stage.finished and not (out / STARTED).exists()


def test_an_empty_folder_is_replaced_by_a_result(tmp_path, source, monkeypatch):
    """As one that was made beforehand for a group; not a mount point or a link, which a result cannot replace."""
    out, stage = tmp_path / "out", Stage("export", tmp_path / "out", {}, {"text": [source]})
    (tmp_path / "there").mkdir()
    out.symlink_to(tmp_path / "there")
    with pytest.raises(UserError, match="not a result of nemo-adapt export"):
        artifact.run(stage, write_result)
    out.unlink()
    out.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(type(out), "is_mount", lambda path: path == out)
        with pytest.raises(UserError, match="not a result of nemo-adapt export"):
            artifact.run(stage, write_result)
    artifact.run(stage, write_result)
    assert stage.finished and sorted(each.name for each in tmp_path.iterdir()) == ["out", "text.txt", "there"]


OTHERS = {"name": "my app", "stage": "beta"}
"""A manifest.json of another program."""


@pytest.mark.parametrize(
    "manifest", [OTHERS, ["a", "list"], {**OTHERS, "fingerprint": "f", "config": {}, "inputs": {}}]
)
def test_a_folder_with_a_manifest_of_another_program_or_stage_is_not_replaced(tmp_path, source, manifest):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    stage = Stage("export", tmp_path / "out", {}, {"text": [source]})
    assert not stage.finished
    with pytest.raises(UserError, match="not a result of nemo-adapt export"):
        artifact.run(stage, write_result)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_a_file_is_not_replaced_by_a_result(tmp_path, source):
    (tmp_path / "out").write_text("years of work")
    stage = Stage("export", tmp_path / "out", {}, {"text": [source]})
    assert not stage.finished
    with pytest.raises(UserError, match="not a result of nemo-adapt export"):
        artifact.run(stage, write_result)


def test_a_folder_that_the_user_named_like_an_old_result_is_kept(tmp_path, source):
    (tmp_path / "out.old").mkdir()
    for value in range(2):
        artifact.run(Stage("data", tmp_path / "out", {"a": value}, {"text": [source]}), write_result)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "out.old", "text.txt"]


@pytest.mark.parametrize("moment", ["before the first renaming", "between two renamings"])
def test_a_result_that_only_lacks_its_name_is_kept(tmp_path, source, moment):
    """The process was killed in the last moment of hours of work."""
    out = tmp_path / "out"
    artifact.run(Stage("data", out, {"a": 1}, {"text": [source]}), write_result)
    if moment == "between two renamings":
        out.rename(tmp_path / ".out.old")
    stage = Stage("data", out, {"a": 2}, {"text": [source]})
    write_result(stage.prepare())
    (stage.workplace / "result").write_text("new")
    with mock.patch.object(Stage, "publish"):
        stage.finish(1.0, {})
    assert not stage.finished
    artifact.run(stage, lambda folder: pytest.fail("made again"))
    assert stage.finished and (out / "result").read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "text.txt"]


def test_a_complete_workplace_does_not_replace_a_user_s_folder(tmp_path, source):
    stage = Stage("data", tmp_path / "out", {}, {"text": [source]})
    write_result(stage.prepare())
    with mock.patch.object(Stage, "publish"):
        stage.finish(1.0, {})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/own").touch()
    with pytest.raises(UserError, match="not a result of nemo-adapt data"):
        artifact.run(stage, write_result)
    assert (tmp_path / "out/own").is_file()


def test_a_full_disk_is_said_with_its_folder(tmp_path, source):
    def build(folder):
        raise OSError(errno.ENOSPC, "No space left on device")  # as of a write

    with pytest.raises(OSError, match=r"No space left on device: '.*/out\.partial'"):
        artifact.run(Stage("data", tmp_path / "out", {}, {"text": [source]}), build)


def test_a_link_to_a_result_is_replaced_by_results(tmp_path, source):
    (tmp_path / "shared").mkdir()
    artifact.run(Stage("data", tmp_path / "shared/out", {"a": 0}, {"text": [source]}), write_result)
    (tmp_path / "out").symlink_to("shared/out")
    for value in range(1, 4):
        artifact.run(Stage("data", tmp_path / "out", {"a": value}, {"text": [source]}), write_result)
    assert not (tmp_path / "out").is_symlink() and (tmp_path / "shared/out/result").is_file()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "shared", "text.txt"]


def test_a_result_is_on_the_disk_before_it_has_its_name(tmp_path, source, monkeypatch):
    written = set()
    monkeypatch.setattr(os, "fsync", lambda number: written.add(os.fstat(number).st_ino))

    def build(folder):
        write_result(folder)
        (folder / "parts").mkdir()
        write_result(folder / "parts")

    artifact.run(Stage("data", tmp_path / "out", {}, {"text": [source]}), build)
    files = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(files) == 5 and {file.stat().st_ino for file in files} <= written


@pytest.mark.parametrize(
    ("out", "said"),
    [("model", "is"), ("link", "is"), ("model/new", "is inside"), ("link/new", "is inside"), (".", "cont")],
)
def test_a_result_never_takes_the_place_of_an_input(tmp_path, out, said):
    artifact.run(Stage("resize-hf", tmp_path / "model", {}, {}), write_result)
    (tmp_path / "link").symlink_to(tmp_path / "model")
    with pytest.raises(UserError, match=f"{said}.*which resize-hf reads: choose another folder"):
        Stage("resize-hf", tmp_path / out, {}, {"model": [tmp_path / "model"]})
    Stage("resize-hf", tmp_path / "model2", {}, {"model": [tmp_path / "model"]})


def test_an_input_folder_with_a_manifest_of_another_program_is_hashed_by_its_files(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(OTHERS))
    (tmp_path / "weights").write_text("1")
    before = input_hash(tmp_path)
    (tmp_path / "manifest.json").write_text("[1]")
    assert input_hash(tmp_path) != before


def test_files_that_no_stage_reads_do_not_change_a_model_folder(tmp_path):
    (tmp_path / "weights").write_text("1")
    before = input_hash(tmp_path)
    assert before == hashlib.sha256(f"weights\0{file_hash(tmp_path / 'weights')}\n".encode()).hexdigest()
    for name in ("README.md", "LICENSE", "Notice.txt", "model.PNG", ".gitattributes", ".cache/huggingface/x.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("later")
    assert input_hash(tmp_path) == before
    for name in ("config.json", "chat_template.jinja", "part/.metadata", "generation_config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("later")
        assert input_hash(tmp_path) != before, name
        before = input_hash(tmp_path)


def test_a_damaged_manifest_is_reported(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_manifest(tmp_path)


def test_a_waiting_process_uses_the_result_of_the_one_that_built(tmp_path):
    source = tmp_path / "input.txt"
    source.write_text("text", encoding="utf-8")
    stages = [artifact.Stage("toy", tmp_path / "out", {}, {"text": [source]}) for _ in range(2)]
    built = []

    def wait():
        with artifact.claimed(stages[1], waits=True) as is_open:
            built.append(is_open)

    waiting = threading.Thread(target=wait)

    def build(place):
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()

    artifact.run(stages[0], build)
    waiting.join(20)
    assert not waiting.is_alive() and built == [False] and stages[1].finished
