"""Which cells of a study are done, and running the others."""

import signal
from collections import Counter
from types import SimpleNamespace

import pytest

from nemo_adapt import pipeline
from nemo_adapt.config import Config, RunConfig
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.run.inputs import input_hash
from nemo_adapt.run.steps import Step, run_step
from nemo_adapt.study import work as working
from nemo_adapt.study.cells import Cell
from nemo_adapt.study.work import DONE, LOG, Job, run_cells, unfinished


@pytest.fixture
def text(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("one\n")
    return text


@pytest.fixture
def step(monkeypatch, text):
    """The only stage of the runs."""
    step = Step("toy", "helpers.toy_stage", lambda config, run: {"log": [text]}, "toy", ("resize.seed",))
    monkeypatch.setattr(pipeline, "run_steps", lambda config: [step])
    return step


def config_of(tmp_path, name, seed=1):
    config = Config(run=RunConfig(name, str(tmp_path / "runs"), str(tmp_path / "shared")))
    config.resize.seed = seed
    return config


def jobs_of(tmp_path, step, second=("recipes",), seed=1):
    """Two cells whose stage is finished, with quick commands; ``second``: the command of the second."""
    jobs = []
    for name, command in (("one", ["recipes"]), ("two", list(second))):
        config = config_of(tmp_path, name, seed)
        jobs.append(Job(Cell({"cell": name}, 0, ()), tmp_path / "runs" / name, command, lambda config=config: config))
        jobs[-1].folder.mkdir(parents=True, exist_ok=True)
        if step:
            run_step(config, step)
    return jobs


def ended(jobs):
    for job in jobs:
        write_json(job.folder / DONE, {"command": job.command})
    return jobs


def test_failed_cells_are_run_again_and_finished_ones_are_not(tmp_path, step):
    jobs = jobs_of(tmp_path, step, ["verify", "nowhere", "nowhere"])
    assert [job.cell.name for job in run_cells(jobs, 2)] == ["two-seed0"]
    assert (jobs[1].folder / LOG).read_text().startswith("nemo-adapt: error: nowhere")
    jobs = jobs_of(tmp_path, step)
    assert unfinished(jobs) == {"two-seed0": ""}
    assert run_cells(jobs, 1) == [] and unfinished(jobs) == {}
    assert (jobs[0].folder / LOG).read_text().count("llama2_7b\n") == 1
    assert (jobs[1].folder / LOG).read_text().count("llama2_7b\n") == 1  # after the error's line


def test_cell_is_done_only_while_its_inputs_and_settings_are_unchanged(tmp_path, step, text):
    jobs = ended(jobs_of(tmp_path, step))
    assert unfinished(jobs) == {}
    text.write_text("two\n")
    assert unfinished(jobs) == {"one-seed0": str(text), "two-seed0": str(text)}
    run_step(jobs[0].config, step)
    assert unfinished(jobs) == {"two-seed0": str(text)}
    text.write_text("one\n")
    assert unfinished(jobs) == {"one-seed0": str(text)}, "its link is to the other result"
    run_step(jobs[0].config, step)
    others = jobs_of(tmp_path, None, seed=2)  # the recipe was edited, the commands are the same
    assert unfinished(others) == {"one-seed0": "resize.seed", "two-seed0": "resize.seed"}
    (tmp_path / "runs/one/toy").unlink()
    assert unfinished(jobs) == {"one-seed0": f"no {tmp_path}/runs/one/toy"}


def test_cell_whose_settings_now_raise_a_user_error_is_not_done(tmp_path, step, monkeypatch):
    jobs = ended(jobs_of(tmp_path, step))

    def missing(config, run):
        raise UserError("data.target: no file text.txt")

    monkeypatch.setattr(pipeline, "run_steps", lambda config: [Step("toy", "", missing, "toy")])
    assert unfinished(jobs)["two-seed0"] == "data.target: no file text.txt"


def test_shared_inputs_are_hashed_once_per_check(tmp_path, step, text, monkeypatch):
    seen = Counter()

    def counted(path):
        seen[path] += 1
        return input_hash(path)

    jobs = ended(jobs_of(tmp_path, step))
    monkeypatch.setattr(working, "input_hash", counted)
    assert unfinished(jobs) == {} and seen == {text: 1}
    text.write_text("two\n")
    assert len(unfinished(jobs)) == 2 and seen == {text: 2}, "another look is a fresh one"


def test_changed_cells_are_reported_and_not_done_while_they_run_again(tmp_path, step, text, monkeypatch, capsys):
    jobs = ended(jobs_of(tmp_path, step))
    text.write_text("two\n")
    run_step(jobs[0].config, step)
    capsys.readouterr()
    during, start = [], working.start

    def watched(*given, **settings):
        during.append([job.has_ended for job in jobs])
        return start(*given, **settings)

    monkeypatch.setattr(working, "start", watched)
    assert run_cells(jobs, 1) == [] and during == [[True, False]]
    said = f"study: run again because something has changed: 1 of 2 cells (two-seed0: {text})\n"
    assert capsys.readouterr().out.startswith(said)
    assert not (jobs[0].folder / LOG).exists() and (jobs[1].folder / LOG).read_text()


def test_a_cell_that_is_starting_when_the_study_is_stopped_is_stopped_too(tmp_path, monkeypatch):
    """The first one starts only once everything is imported, and a signal in that time came before its process."""
    workers, sent = working.Workers(None, 0), []

    def start(*words):
        workers.stop(signal.SIGTERM, None)
        return SimpleNamespace(pid=7)

    monkeypatch.setattr(working, "start", start)
    monkeypatch.setattr(working.os, "kill", lambda pid, number: sent.append((pid, number)))
    workers.start(SimpleNamespace(folder=tmp_path / "cell", frozen=["x"], ranks=1))
    assert sent == [(7, signal.SIGTERM)]
