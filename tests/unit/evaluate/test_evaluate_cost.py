"""Time and memory of a run, from the files of its stages."""

import json
import shutil
from pathlib import Path

from nemo_adapt.evaluate import cost, tables


def made(root: Path, name: str, seconds: float, **manifest: object) -> Path:
    """A finished stage's folder."""
    folder = root / name
    folder.mkdir(parents=True)
    kept = {"stage": name.split("/")[0], "fingerprint": "hash", "inputs": {}, "config": {}}
    content = {**kept, "seconds": seconds, "peak_memory_mib": 100, **manifest}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def run(root: Path) -> dict[str, dict[str, object]]:
    """A run whose training on four GPUs was resumed, from a base model exported by another run."""
    read = {
        "model": made(root, "other/export", 5000.0),
        "tokenizer": made(root, "tokenizer", 36.0),
        "checkpoint": made(root, "convert", 18.0),
        "data.target": made(root, "data/target", 72.0),
        "data.replay": root / "data/gone",
        "train.keep_best": root / "held_out.txt",
    }
    (root / "held_out.txt").touch()
    (root / "data/target/counts.json").write_text(json.dumps({"documents": 3, "tokens": 1000, "bytes": 4000}))
    train = made(root, "train", 60.0, inputs={key: {str(path): "hash"} for key, path in read.items()})
    summary = {"tokens": 5000, "bytes": 20000, "seconds": 360.0, "ranks": 4, "device": "cuda", "steps": 3}
    summary["memory_mib"] = 700
    return cost.of_stages(train, made(root, "export", 9.0), summary)


def test_stages_are_found_through_the_inputs_of_training(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert list(found) == ["tokenizer", "convert", "data (target)", "train", "export"]
    assert found["convert"] == {"seconds": 18.0, "peak_memory_mib": 100}
    assert found["data (target)"] == {"seconds": 72.0, "peak_memory_mib": 100, "tokens": 1000, "bytes": 4000}
    assert found["train"]["peak_memory_mib"] == 700, "of a rank, not of the process that started them"
    assert found["train"]["seconds"] == 360.0 and found["train"]["ranks"] == 4
    assert cost.of_stages(None, tmp_path / "nothing", {}) == {}


def test_costs_of_a_moved_run_are_its_own(tmp_path: Path) -> None:
    """Its training has recorded where its inputs were, where there may be another run now."""
    before = run(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    summary = {"seconds": 360.0, "ranks": 4}
    shutil.rmtree(tmp_path / "a/convert")
    made(tmp_path / "a", "convert", 9999.0)
    found = cost.of_stages(tmp_path / "b/train", tmp_path / "b/export", summary)
    assert {name: fact["seconds"] for name, fact in found.items()} == {
        name: fact["seconds"] for name, fact in before.items()
    }


def test_stages_that_several_processes_shared_have_their_number(tmp_path: Path) -> None:
    for name, count in (("convert", 2), ("export", 3)):
        made(tmp_path, name, 72.0, bytes=1, processes=count, per_process=[{"peak_mib": 1}] * count)
    data = made(tmp_path, "data/target", 72.0, processes=4)
    read = {"checkpoint": tmp_path / "convert", "data.target": data}
    train = made(tmp_path, "train", 60.0, inputs={key: {str(path): "hash"} for key, path in read.items()})
    found = cost.of_stages(train, tmp_path / "export", {"ranks": 8})
    assert {name: fact["ranks"] for name, fact in found.items()} == {
        "convert": 2,
        "data (target)": 4,
        "train": 8,
        "export": 3,
    }


def test_hours_are_seconds_times_processes(tmp_path: Path) -> None:
    of = {"seconds": {"load": 1.0, "score": 2.0}, "tokens_scored": 70, "tokens_written": 7, "device": "cpu"}
    report = {"stages": run(tmp_path), "cost": {"base": of, "adapted": of}, "peak_memory_mib": 50}
    report["scores"] = {"base": {"tr": {"bytes": 300}, "en": {"bytes": 200}}}
    table = tables.stages(report)
    assert table.columns == [
        "Stage",
        "Seconds",
        "Processes",
        "CPU- or GPU-hours",
        "Tokens",
        "Bytes",
        "Peak memory, MiB",
    ]
    assert table.rows[2] == ["data (target)", "72.0", "1", "0.020 CPU", "1,000", "4,000", "100"]
    assert table.rows[3] == ["train", "360.0", "4", "0.400 GPU", "5,000", "20,000", "700"]
    assert table.rows[5] == ["evaluate", "6.0", "1", "0.002 CPU", "154", "1,000", "50"]
    assert table.rows[6][:4] == ["all", "501.0", "", "0.039 CPU + 0.400 GPU"]
    assert tables.stages({**report, "stages": {}}).rows == []


def test_the_training_s_table_says_how_often_text_was_read() -> None:
    table = tables.training({"steps": 3, "passes": {"target": 4.0, "replay": 0.125}})
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "Steps": "3",
        "Times target was read": "4.00",
        "Times replay was read": "0.12",
    }
