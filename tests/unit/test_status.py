"""``nemo-adapt status``: its report at every moment of a run, and that it changes no file."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import replace
from unittest import mock

import pytest

from nemo_adapt import training_files
from nemo_adapt.config import recipes
from nemo_adapt.console.printed import print_table
from nemo_adapt.errors import UserError
from nemo_adapt.launch.slurm import State
from nemo_adapt.status import command, run_files, training
from nemo_adapt.train import fence as fence_module
from nemo_adapt.train.fence import Fence

SETTINGS = [
    *("run.name=r", "model.path=/model", "data.target=[/tr.txt]", "data.replay=[/en.txt]", "data.replay_share=0.25"),
    *("train.seq_length=10", "train.global_batch=10"),
]
TWO_PHASES = "train.phases=[{train: new_rows, steps: 40}, {train: all, steps: 160}]"
IN_BYTES = "train.phases=[{train: all, bytes: 36000}]"


def write(path, content, age=0.0):
    """Write a file of text, or of JSON, as if ``age`` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    for place in (path, path.parent):
        os.utime(place, (time.time() - age,) * 2)


def new_run(tmp_path, *words):
    """The folder of a run without results."""
    root = tmp_path / "r"
    write(root / "config.yaml", recipes.to_yaml(recipes.load("blank", [*SETTINGS, *words])))
    return root


def lock(place, age=0.0, pid=None, host=None, job=""):
    """The lock file of a folder that a process makes."""
    start = {"host": host or platform.node(), "pid": pid or os.getpid(), "job": job}
    write(place.with_name(f".{place.name}.lock"), start, age)


def finish(place, seconds=2.5, age=0.0):
    write(place / "manifest.json", {"stage": place.name, "seconds": seconds}, age)


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def record(step, **facts):
    given = {"step": step, "loss": 3.0, "bits_per_byte": 1.5, "tokens_per_second": 50.0, "seconds": 2.0 * step}
    given["tokens"] = 100 * step
    return {**given, **facts}


def in_training(tmp_path, age=0.0, host=None, pid=None, **starts):
    """A run after 100 of 200 steps, a record every 20 s; something was last written ``age`` seconds ago."""
    root = new_run(tmp_path, TWO_PHASES)
    for result in ("tokenizer", "data/target", "data/replay", "convert"):
        finish(root / result)
    train = root / "train"
    for name in ("iter_0000040", "iter_0000080"):
        for file, content in ((".metadata", "m"), ("weights", "1234"), ("files.json", {".metadata": 1, "weights": 4})):
            write(train / "checkpoints" / name / file, content, age + 30)
    write(train / "checkpoints/iter_0000120.abc.partial/weights", "12", age)
    write(train / "checkpoints/iter_0000040/score.json", {"bits_per_byte": 1.25}, age + 30)
    scores = [{"step": step, "bits_per_byte": {"tr": 4.0 - step / 40, "en": None}} for step in (40, 60, 80)]
    write(train / "held_out.jsonl", lines(*scores), age)
    owner = {"token": "t", "host": host or platform.node(), "pid": pid or os.getpid(), "job": "", "ranks": 2}
    write(train / "owner.json", owner, age)
    write(train / "starts.json", {"step": 40, "starts": 2, **starts}, age)
    metrics = [record(step) for step in range(10, 90, 10)] + [record(90, phase=2), record(100, phase=2)]
    write(train / "metrics.jsonl", lines(*metrics), age)
    for place in (train / "checkpoints", train):
        os.utime(place, (time.time() - age,) * 2)
    return root


def reported(root, capsys):
    """The command's report, read from JSON."""
    command.main([str(root), "json=-"])
    return json.loads(capsys.readouterr().out)


def printed(root, capsys):
    command.main([str(root)])
    return capsys.readouterr().out


def states(report):
    return {each["stage"]: each["state"] for each in report["stages"]}


def ended_pid():
    """The PID of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_report_of_a_run_without_results(tmp_path, capsys):
    root = new_run(tmp_path)
    report = reported(root, capsys)
    assert set(states(report).values()) == {"not yet"} and report["training"] is None
    assert "probe" not in states(report) and "resize" not in states(report)
    assert list(states(report))[:4] == ["tokenizer", "data (target)", "data (replay)", "convert"]
    assert "training" not in printed(root, capsys)


def test_states_of_stages_follow_from_their_folders(tmp_path, capsys):
    root = new_run(tmp_path)
    finish(root / "tokenizer", 12.34, age=3600)
    write(root / "data/target.partial/target.bin", "12", age=90)
    finish(root / "convert")
    write(root / "convert.partial/__0_0.distcp", "1")  # made again, as something has changed
    lock(root / "data/target")
    lock(root / "convert", host="elsewhere")
    write(root / "data/replay/manifest.json", '{"seconds": 1')
    finish(root / "probe")  # was run by itself
    report = reported(root, capsys)
    assert states(report) | {"train": 0} == {
        "tokenizer": "finished",
        "data (target)": "being made",
        "data (replay)": "damaged",
        "convert": "being made",
        "probe": "finished",
        "train": 0,
        "export": "not yet",
        "evaluate": "not yet",
    }
    text = printed(root, capsys)
    assert re.search(r"tokenizer +finished +12.3 s +\d{4}-\d\d-\d\d \d\d:\d\d", text)
    assert re.search(r"data \(target\) +being made +last written 0:01:3\d ago", text)


@pytest.mark.parametrize("seconds", [6.7, 40.0])
def test_a_resumed_training_took_the_seconds_of_all_its_starts(tmp_path, capsys, seconds):
    """The manifest has those of the last start alone, including what is no training."""
    root = new_run(tmp_path)
    finish(root / "train", seconds)
    write(root / "train/summary.json", {"steps": 200, "seconds": 36.0})
    (took,) = [each["seconds"] for each in reported(root, capsys)["stages"] if each["stage"] == "train"]
    assert took == max(seconds, 36.0)


def test_report_of_a_running_training(tmp_path, capsys):
    root = in_training(tmp_path)
    found = reported(root, capsys)["training"]
    assert (found["step"], found["steps"], found["phase"], found["phases"], found["trains"]) == (100, 200, 2, 2, "all")
    assert found["seconds_left"] == 200 and found["usual"] == 20
    assert found["checkpoint"] == "iter_0000080" and found["best"]["name"] == "iter_0000040"
    assert found["alive"] is True and found["warnings"] == [] and not found["finished"]
    assert found["starts"] == 0, "a checkpoint after the start: it got further"
    text = printed(root, capsys)
    for said in (
        "100 of 200 (50.0%)",
        "10,000 of 20,000",
        "2 of 2, trains all",
        "3.000 nats/token, 1.500 bits/byte",
        "0:03:20 at this speed",
        "tr 3.0000 -> 2.0000 (steps 40 and 80)",
        "iter_0000040, 1.2500 bits/byte",
        f"{os.getpid()}, on {platform.node()}, 2 ranks: alive",
    ):
        assert said in text
    assert "MFU" not in text and "warning" not in text


def test_metrics_recorded_on_a_gpu_are_shown(tmp_path, capsys):
    root = in_training(tmp_path)
    write(root / "train/metrics.jsonl", lines(record(100, mfu=0.4567, memory_mib=2048, bytes_per_second=12345.6)))
    text = printed(root, capsys)
    assert "50 tokens/s, 12,346 bytes/s, MFU 45.7%" in text and "2,048 MiB" in text


def test_report_of_a_finished_training(tmp_path, capsys):
    root = in_training(tmp_path, age=1000, pid=ended_pid(), step=80, starts=3)
    write(root / "train/summary.json", {"steps": 100, "step": 100})
    finish(root / "train")
    report = reported(root, capsys)
    found = report["training"]
    assert states(report)["train"] == "finished" and found["finished"]
    assert (found["step"], found["steps"]) == (100, 100), "the summary knows, whatever the configuration says by now"
    assert found["seconds_left"] is None and found["warnings"] == []
    assert "process" not in printed(root, capsys)


@pytest.mark.parametrize("how", ["failed", "killed", "pid reused"])
def test_a_stage_that_no_process_makes_was_interrupted(tmp_path, capsys, how):
    root = new_run(tmp_path)
    write(root / "tokenizer.partial/x", "1")
    if how != "failed":  # then it deletes its lock
        lock(root / "tokenizer", **({"pid": ended_pid()} if how == "killed" else {"age": 3650 * 86400.0}))
    assert states(reported(root, capsys))["tokenizer"] == "interrupted"


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (State("RUNNING"), "being made"),
        (State("COMPLETING"), "being made"),
        (State("OUT_OF_MEMORY"), "interrupted"),
        (State("PENDING"), "interrupted"),  # it goes on then
        (State(), "interrupted"),  # Slurm has forgotten it
        (State(unanswered="no answer"), "being made"),
        (None, "being made"),  # a job of another run
    ],
)
def test_a_stage_whose_job_has_ended_was_interrupted(tmp_path, monkeypatch, state, shown):
    """A job that was killed leaves its lock, and its node cannot be asked."""
    root = new_run(tmp_path)
    write(root / "data/target.partial/x", "1")
    lock(root / "data/target", host="elsewhere", job="7")
    known = {"7": state} if state else {"8": State("FAILED")}
    monkeypatch.setattr(command, "states", lambda root: known)
    made = {stage.stage: stage.state for stage in command.look(root).stages}
    assert made["data (target)"] == shown


@pytest.mark.parametrize("stage", ["tokenizer", "train"])
def test_watching_ends_when_the_run_is_interrupted(tmp_path, capsys, monkeypatch, stage):
    """Not before it begins, nor while a process makes a stage, or still saves after its command was killed. What an
    earlier command left of a later stage does not count."""
    root = in_training(tmp_path, pid=ended_pid()) if stage == "train" else new_run(tmp_path)
    if stage == "train":
        owner = (root / "train/owner.json").read_text()
        write(root / "train/owner.json", {"host": platform.node(), "pid": os.getpid()})
        lock(root / "train", pid=ended_pid())
        steps = [lambda: write(root / "train/owner.json", owner)]
    else:
        steps = [
            lambda: (write(root / "tokenizer.partial/x", "1"), lock(root / "tokenizer")),
            lambda: (root / ".tokenizer.lock").unlink(),
        ]
    write(root / "evaluate.partial/x", "1")
    left = iter(steps)
    monkeypatch.setattr(command.time, "sleep", lambda seconds: next(left)())
    command.main([str(root), "--watch"])
    assert not list(left)
    assert re.search(rf"{stage} +interrupted", capsys.readouterr().out)


@pytest.mark.parametrize("mark", ["failed.json", "done.json"])
def test_watching_a_study_ends_with_its_last_cell(tmp_path, capsys, monkeypatch, mark):
    """Also where a cell has failed."""
    axes = "++study.axes={rows: {mean: ['resize.input=mean'], zero: ['resize.input=zero']}}"
    root = new_run(tmp_path, axes, "study.seeds=1")
    write(root / "cells/mean-seed0/failed.json", {"why": "no text"})
    write(root / "cells/zero-seed0/log.txt", "begun")
    steps = iter([lambda: write(root / "cells/zero-seed0" / mark, {"why": "no memory"})])
    monkeypatch.setattr(command.time, "sleep", lambda seconds: next(steps)())
    command.main([str(root), "--watch"])
    assert not list(steps)
    assert "2 failed" in capsys.readouterr().out or mark == "done.json"


def test_a_truncated_last_line_of_a_log_is_skipped(tmp_path, capsys):
    root = in_training(tmp_path)
    for name in ("metrics.jsonl", "held_out.jsonl"):
        with (root / "train" / name).open("ab") as stream:
            stream.write(b'{"step": 110, "loss": 2.\xc3')
    found = reported(root, capsys)["training"]
    assert found["record"]["step"] == 100 and found["held_out_last"]["step"] == 80


@pytest.mark.parametrize("content", ["", "{", "7", "[]", "\x00\x00"])
def test_half_written_files_count_as_missing(tmp_path, capsys, content):
    root = in_training(tmp_path)
    places = ("metrics.jsonl", "held_out.jsonl", "owner.json", "starts.json", "checkpoints/iter_0000040/score.json")
    for name in (*places, "checkpoints/iter_0000080/files.json"):
        write(root / "train" / name, content)
    found = reported(root, capsys)["training"]
    assert found["record"] == {} and found["process"] == {} and found["alive"] is None and found["seconds_left"] is None
    assert (found["checkpoint"], found["step"]) == ("iter_0000040", 40)
    assert found["warnings"] == ["iter_0000080 is damaged (files.json is damaged): passed over"]
    printed(root, capsys)


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    many = [record(step) for step in range(1, 3000)]
    write(path, lines(*many))
    assert path.stat().st_size > training_files.TAIL_BYTES
    end = training_files.records(path)
    assert 100 < len(end) < 2999 and end == many[-len(end) :]
    assert training_files.records(path, whole=True) == many


def test_a_damaged_checkpoint_is_reported_and_skipped(tmp_path, capsys):
    root = in_training(tmp_path)
    write(root / "train/checkpoints/iter_0000080/weights", "12")
    found = reported(root, capsys)["training"]
    assert found["checkpoint"] == "iter_0000040" and found["starts"] == 2
    assert found["warnings"] == ["iter_0000080 is damaged (weights has 2 of 4 bytes): passed over"]


def test_an_ended_process_is_reported(tmp_path, capsys):
    pid = ended_pid()
    found = reported(in_training(tmp_path, age=1000, pid=pid), capsys)["training"]
    assert found["alive"] is False
    assert found["warnings"] == [f"stopped: process {pid} has ended; run the same command to go on"]


def test_an_error_that_ended_a_training_is_reported(tmp_path, capsys, monkeypatch):
    """The next start may meet it again: "run the same command to go on" is no advice."""
    root = in_training(tmp_path, age=1000, pid=ended_pid())
    owner = json.loads((root / "train/owner.json").read_text())
    fence = Fence(root / "train", owner.get("token"))
    fence.record_failure(UserError("the loss rose: see suspect_samples.jsonl"))
    found = reported(root, capsys)["training"]
    assert found["warnings"] == ["failed: the loss rose: see suspect_samples.jsonl"]
    fence.record_failure(ValueError("shapes differ\nhere"))
    assert reported(root, capsys)["training"]["warnings"] == ["failed: shapes differ here"]
    with monkeypatch.context() as broken:
        broken.setattr(fence_module, "_owner", mock.Mock(side_effect=OSError(5, "Input/output error")))
        fence.record_failure(UserError("hidden"))  # the error itself is still to come
    replace(fence, token="of a replaced start").record_failure(UserError("late"))
    assert "late" not in (root / "train/owner.json").read_text()
    assert {**json.loads((root / "train/owner.json").read_text()), "failure": ""} == {**owner, "failure": ""}


def test_a_start_that_still_imports_is_the_one_that_runs(tmp_path, capsys):
    """Before it takes the folder over, the owner is the one that has ended."""
    root = in_training(tmp_path, age=1000, pid=ended_pid())
    write(root / ".train.lock", {"host": platform.node(), "pid": os.getpid()}, 0)
    found = reported(root, capsys)["training"]
    assert (found["alive"], found["process"]["pid"]) == (True, os.getpid())
    assert not any("stopped" in warning for warning in found["warnings"])


def test_a_pid_reused_by_another_process_counts_as_ended(tmp_path, capsys):
    day = 86400.0
    assert reported(in_training(tmp_path, age=3650 * day), capsys)["training"]["alive"] is False


def test_the_state_of_a_process_on_another_host_is_unknown(tmp_path, capsys):
    root = in_training(tmp_path, host="elsewhere", pid=ended_pid())
    found = reported(root, capsys)["training"]
    assert found["alive"] is None and found["warnings"] == []
    assert "cannot be asked from this host" in printed(root, capsys)


@pytest.mark.parametrize(("age", "is_stuck"), [(150, False), (250, True)])
def test_a_training_without_recent_records_is_reported_as_stuck(tmp_path, capsys, age, is_stuck):
    found = reported(in_training(tmp_path, age=age, host="elsewhere"), capsys)["training"]
    assert ["stuck or stopped?" in line for line in found["warnings"]] == [True] * is_stuck


def with_scores(tmp_path, age=0.0):
    """A run after 100 of 200 steps that take 2 s each; every 25 steps a score takes 50 s."""
    root = in_training(tmp_path, age=age, host="elsewhere")
    words = [*SETTINGS, TWO_PHASES, "train.score_every=25"]
    write(root / "config.yaml", recipes.to_yaml(recipes.load("blank", words)))
    scores = [{"step": step, "bits_per_byte": {"tr": 2.0}, "seconds": 50.0} for step in (25, 50, 75)]
    write(root / "train/held_out.jsonl", lines(*scores), age)
    return root


def test_scores_count_in_the_time_left_and_between_records(tmp_path, capsys):
    root = with_scores(tmp_path)
    found = reported(root, capsys)["training"]
    assert found["seconds_left"] == 100 * 2 + 5 * 50, "after steps 100, 125, 150, 175 and 200"
    assert (found["usual"], found["scoring"]) == (20 + 50 * 10 / 25, 50)
    assert "a record every 40.0 s, a score takes 50.0 s" in printed(root, capsys)


@pytest.mark.parametrize(("age", "is_stuck"), [(450, False), (550, True)])
def test_a_long_score_is_no_silence(tmp_path, capsys, age, is_stuck):
    found = reported(with_scores(tmp_path, age), capsys)["training"]
    assert ["stuck or stopped?" in line for line in found["warnings"]] == [True] * is_stuck


@pytest.mark.parametrize(
    ("scored", "steps", "every", "left"),
    [(0, 10, 0, 0), (0, 10, 3, 4), (3, 10, 3, 3), (9, 10, 3, 1), (10, 10, 3, 0), (5, 10, 5, 1), (4, 10, 3, 3)],
)
def test_scores_left(scored, steps, every, left):
    assert training.scores_left(scored, steps, every) == left


def test_the_last_allowed_start_is_reported(tmp_path, capsys):
    for starts, said in ((2, []), (3, ["start 3 in a row from step 80, the last one that train.attempts=3 allows"])):
        found = reported(in_training(tmp_path, step=80, starts=starts), capsys)["training"]
        assert found["starts"] == starts and [line.split(" without")[0] for line in found["warnings"]] == said
    found = reported(in_training(tmp_path, pid=ended_pid(), step=80, starts=3), capsys)["training"]
    assert len(found["warnings"]) == 2 and "delete starts.json" in found["warnings"][1]


def test_steps_of_a_byte_budget_are_known_once_the_text_is_counted(tmp_path, capsys):
    root = new_run(tmp_path, IN_BYTES)
    write(root / "train/metrics.jsonl", lines(record(10, phase=1)))
    found = reported(root, capsys)["training"]
    assert found["steps"] is None and found["seconds_left"] is None and "in bytes" in found["steps_unknown"]
    assert "10 of an unknown number" in printed(root, capsys)
    write(root / "data/target/counts.json", {"documents": 1, "tokens": 100, "bytes": 400})
    write(root / "data/replay/counts.json", {"documents": 1, "tokens": 100, "bytes": 240})
    # 0.75 x 4 + 0.25 x 2.4 = 3.6 bytes a token: 10,000 tokens, 100 a step
    assert reported(root, capsys)["training"]["steps"] == 100


def test_phases_of_a_probed_strategy_are_known_once_it_is_chosen(tmp_path, capsys):
    root = new_run(tmp_path, TWO_PHASES, "resize.input=probed")
    (root / "train").mkdir()
    found = reported(root, capsys)["training"]
    assert found["steps"] is None and "run the probe stage first" in found["steps_unknown"]
    write(root / "probe/choice.json", {"input": "warm_start", "output": "warm_start"})
    found = reported(root, capsys)["training"]
    assert (found["steps"], found["phase"], found["phases"], found["trains"]) == (200, 1, 3, "embeddings")


def test_status_changes_no_file(tmp_path, capsys):
    root = in_training(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    command.main([str(root), f"json={tmp_path / 'out.json'}"])
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    assert json.loads((tmp_path / "out.json").read_text())["training"]["step"] == 100
    assert "100 of 200" in capsys.readouterr().out


def test_mistakes_get_one_line(tmp_path):
    root = new_run(tmp_path)
    (tmp_path / "other").mkdir()
    broken = tmp_path / "broken"
    write(broken / "config.yaml", "run: {name: ")
    cases = {
        "takes the folder of one run, not 0": [],
        "takes the folder of one run, not 2": ["a", "b"],
        "other is not a run's folder (no config.yaml)": [str(tmp_path / "other")],
        "absent is not a run's folder": [str(tmp_path / "absent")],
        "broken/config.yaml": [str(broken)],
        "the folder /absent does not exist": [str(root), "json=/absent/x.json"],
        "unknown key 'jsno'": [str(root), "jsno=x"],
        "status has no option --wach, only --watch": [str(root), "--wach"],
    }
    for said, words in cases.items():
        with pytest.raises(UserError, match=re.escape(said)) as error:
            command.main(words)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("watch", ["-1", "nan", "inf"])
def test_a_time_that_cannot_be_waited_is_refused(tmp_path, watch):
    with pytest.raises(UserError, match=f"watch={float(watch)} is not a number of seconds above 0"):
        command.main([str(new_run(tmp_path)), f"watch={watch}"])


def test_status_does_not_import_torch(tmp_path):
    root = in_training(tmp_path)
    code = (
        "import sys; from nemo_adapt import cli; cli.command('status', sys.argv[1:]); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True)
    assert done.returncode == 0 and "100 of 200" in done.stdout, done.stderr


def test_a_table_row_is_one_line_without_a_terminal(capsys):
    reason = "was queued again, and starts soon, expected to start at 2026-11-26T21:49:22, started 3 times " * 3
    print_table(["job", "why"], [("train (97)", reason)])
    assert f"train (97)  {reason.rstrip()}" in capsys.readouterr().out


def test_files_of_complete_checkpoints_are_not_asked_for_their_times(tmp_path, monkeypatch):
    """A thousand ranks write thousands of them, which ``status --watch`` would ask for again and again."""
    whole, partial = tmp_path / "iter_0000100", tmp_path / "iter_0000200.abc.partial"
    for rank in range(10):
        write(whole / f"__{rank}_0.distcp", "12")
        write(partial / f"__{rank}_0.distcp", "12")
    write(whole / ".metadata", "")
    for place, at in ((partial / "__7_0.distcp", 3000), (tmp_path, 2000), (whole, 1000)):
        os.utime(place, (at, at))
    for other in partial.glob("__[!7]*"):
        os.utime(other, (1000, 1000))
    asked, written = [], run_files.written
    monkeypatch.setattr(run_files, "written", lambda path: asked.append(path) or written(path))
    assert run_files.last_written(tmp_path) == 3000
    assert len(asked) == 2 + 10
    os.utime(whole, (4000, 4000))  # as when its score is written
    assert run_files.last_written(tmp_path) == 4000
