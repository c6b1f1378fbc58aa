"""A study of four cells, of which two fail at first and one is killed: the same command finishes it."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command import environment, nemo_adapt

from nemo_adapt.machine.ranks import MORE_TO_DO
from nemo_adapt.study.results import LOST, NEW_SHARE, TARGET, TOKENS

STUDY = """
defaults: [demo, _self_]
run: {name: grid}
parallel: {tp: 1, sequence: false}
train: {save_every: 4, score_every: 10, phases: [{train: all, bytes: 40000, lr: 2e-3}]}
evaluate: {generate: 2, cache: kept}
study:
  seeds: 1
  processes: 2
  axes:
    vocabulary: {"0": [tokenizer.new_tokens=0], "100": [tokenizer.new_tokens=100]}
    replay: {same: [], later: ["data.replay=[later.txt]"]}
"""
CELLS = ["0-same-seed0", "0-later-seed0", "100-same-seed0", "100-later-seed0"]
KILLED = CELLS[0]
PATIENCE = 600.0
"""Timeout in seconds of a command on a busy machine."""
NEEDED = {"tokenizer": 2, "data/target": 2, "data/replay": 4, "convert": 1, "train": 4, "export": 4, "evaluate": 4}
"""Stage -> number of times that four cells need it: two tokenizers, one base, and two texts with each tokenizer."""


@pytest.fixture(scope="module")
def words(world, short):
    (world / "study.yaml").write_text(STUDY, encoding="utf-8")
    own = [word for word in short if not word.startswith(("recipe=", "tokenizer.new_tokens="))]
    return ["study", "recipe=study.yaml", *own]


@pytest.fixture(scope="module")
def broken(world, words):
    """Run the command, and kill a cell during its training; return the exit code and the output."""
    (world / "later.txt").unlink(missing_ok=True)
    process = started(words, world)
    folder, end = world / "runs" / "grid" / "cells" / KILLED, time.monotonic() + PATIENCE
    try:
        while not list(folder.glob(f"train/checkpoints/iter_{'[0-9]' * 7}")):
            assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
            time.sleep(0.02)
        kill_writers_of(folder / "log.txt")
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.terminate()  # it ends its cells too
    return process.returncode, said


def started(words, world):
    """Start the command, with stdout and stderr in one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "nemo_adapt", *words],
        cwd=world,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


def kill_writers_of(log: Path) -> None:
    """Kill -9 all processes whose stdout is a cell's log: the cell and its descendants."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "fd" / "1").resolve() == log.resolve():
                found.append(int(place.name))
    assert found
    for number in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def test_failed_cells_are_reported_and_the_others_finish(broken, world):
    code, said = broken
    run = world / "runs" / "grid"
    assert code == 2, said
    (failed,) = re.findall(r"3 cells failed \((.*)\): see", said)
    assert sorted(failed.split(", ")) == sorted([KILLED, CELLS[1], CELLS[3]]) and "Traceback" not in said
    assert "later.txt" in (run / "cells" / CELLS[1] / "log.txt").read_text()
    assert [name for name in CELLS if (run / "cells" / name / "done.json").is_file()] == [CELLS[2]]
    assert "1 of 4 runs" in (run / "study.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(broken, world, words):
    """Write the text that two cells lacked and run the same command; return the run's folder and the answer."""
    later = (world / "runs/smallworld/text/en.train.txt").read_text(encoding="utf-8").splitlines()[:700]
    (world / "later.txt").write_text("\n".join(later) + "\n", encoding="utf-8")
    answer = nemo_adapt(*words, cwd=world, timeout=PATIENCE)
    assert answer.code == 0, answer.err + answer.out
    return world / "runs" / "grid", answer


def test_same_command_finishes_the_study_and_then_does_nothing(finished, world, words):
    run, _ = finished
    assert "training goes on from iter_" in (run / "cells" / KILLED / "log.txt").read_text()
    logs = {name: (run / "cells" / name / "log.txt").read_bytes() for name in CELLS}
    assert logs[CELLS[2]].count(b"[train] done") == 1
    answer = nemo_adapt(*words, cwd=world)
    assert answer.code == 0 and {name: (run / "cells" / name / "log.txt").read_bytes() for name in CELLS} == logs


def test_stages_shared_by_cells_run_once(finished):
    run, _ = finished
    made = {stage: len(list((run / "shared").glob(f"*/{stage}/manifest.json"))) for stage in NEEDED}
    assert made == NEEDED
    assert len({(run / "cells" / name / "convert").resolve() for name in CELLS}) == 1
    tokenizers = [(run / "cells" / name / "tokenizer").resolve() for name in CELLS]
    assert tokenizers[0] == tokenizers[1] != tokenizers[2] == tokenizers[3]


def test_study_tables_equal_the_reports_of_the_cells(finished):
    run, answer = finished
    reports = [json.loads((run / "cells" / name / "evaluate/report.json").read_text()) for name in CELLS]
    bits = [report["bits_per_byte"]["adapted"]["tr"] for report in reports]
    assert len(set(bits)) == 4
    study = json.loads((run / "study.json").read_text(encoding="utf-8"))
    assert [row["measures"][TARGET] for row in study["rows"]] == bits
    for row, report in zip(study["rows"], reports, strict=True):
        assert row["base"][TARGET] == report["bits_per_byte"]["base"]["tr"]
        assert row["measures"][LOST] == pytest.approx(report["changes"]["adapted"]["en"]["bits_per_byte"])
        assert row["measures"][NEW_SHARE] == 100 * report["generation"]["adapted"]["tr"]["new_share"]
        assert len(row["curve"]) >= 2
    (longer,) = study["differences"]["vocabulary"][TARGET]
    assert longer["mean"]["value"] == pytest.approx((bits[2] - bits[0] + bits[3] - bits[1]) / 2)
    (tokens,) = study["differences"]["vocabulary"][TOKENS]
    assert tokens["mean"]["value"] < -0.2
    with (run / "study.csv").open(encoding="utf-8") as stream:
        assert [float(line[TARGET]) for line in csv.DictReader(stream)] == bits
    markdown, page = ((run / f"study.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    for text in (markdown, page):
        assert "4 of 4 runs" in text and all(f"{value:.4f}" in text for value in bits)
        assert "one seed: not tested" in text
    assert "one seed: not tested" in answer.out and "study.html" in answer.out
    assert page.count("data:image/png") == len(list((run / "plots").glob("*.png"))) >= 6


def test_edited_recipe_reruns_cells_and_a_stopped_study_still_reports(finished, world, words):
    run, _ = finished
    (world / "study.yaml").write_text(STUDY.replace("generate: 2", "generate: 1"), encoding="utf-8")
    process, end = started([*words, "study.seeds=2"], world), time.monotonic() + PATIENCE
    try:
        again = [run / "cells" / name / "done.json" for name in CELLS]  # a cell deletes its own when it starts
        while not (list(run.glob("cells/*seed1/train/metrics.jsonl")) and all(mark.is_file() for mark in again)):
            assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.terminate()
    assert process.returncode == MORE_TO_DO and "study.html" in said, said
    assert f"run again because something has changed: 4 of 8 cells ({CELLS[0]}: evaluate.generate)" in said
    for name in CELLS:
        report = json.loads((run / "cells" / name / "evaluate/report.json").read_text())
        assert report["generation"]["adapted"]["tr"]["examples"] == 1
        assert (run / "cells" / name / "log.txt").read_bytes().count(b"[train] done") == 1
    found = re.search(r"(\d) of 8 runs", (run / "study.md").read_text(encoding="utf-8"))
    assert found and int(found[1]) == len(list(run.glob("cells/*/done.json"))) < 8
