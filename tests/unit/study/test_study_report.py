"""What a study writes, and how its cells are run."""

import csv
import json

import pytest

from nemo_adapt.study import report
from nemo_adapt.study.cells import Cell
from nemo_adapt.study.results import REFERENCE, SECONDS, TARGET, TOKENS, Row
from nemo_adapt.study.work import DONE, LOG, MANIFEST, Job, part_of, work

AXES = {"vocabulary": ["0", "1000", "50000"], "strategy": ["mean", "random_init"]}


@pytest.fixture
def rows():
    return [
        Row(
            {"vocabulary": vocabulary, "strategy": strategy},
            seed,
            {
                TARGET: 1.0 - 0.1 * place + 0.2 * (strategy != "mean") + 0.001 * seed,
                REFERENCE: 1.0 + 0.0003 * seed,
                TOKENS: 2.0 - 0.5 * place,
                SECONDS: 10.0,
            },
            [(100.0, 3.0), (200.0 + seed, 2.0)],
        )
        for place, vocabulary in enumerate(AXES["vocabulary"])
        for strategy in AXES["strategy"]
        for seed in range(3)
    ]


def test_tables_and_plots(rows, tmp_path):
    text = report.write("mine", AXES, rows, 20, "bytes", tmp_path)
    assert text == (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "18 of 20 runs" in text and "as many bytes" in text
    assert "strategy random_init against mean: +0.2000 ± 0.0000 bits/byte, target (larger than noise" in text
    assert "| 1000 less 0 | -0.1000 ± 0.0000* | +0.0000 ± 0.0000 | -0.500 ± 0.000* |" in text
    assert "| vocabulary \\ strategy | mean | random_init |" in text
    drawn = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert drawn == [
        "strategy-curves.png",
        "strategy-target.png",
        "vocabulary-curves.png",
        "vocabulary-target.png",
        "vocabulary-tokens.png",
    ]
    assert all(f"plots/{name}" in text for name in drawn)
    found = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert len(found["rows"]) == 18 and found["differences"]["strategy"][TARGET][0]["value"] == "random_init"
    with (tmp_path / "study.csv").open(encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == ["vocabulary", "strategy", "seed", TARGET, REFERENCE, TOKENS, SECONDS] and len(lines) == 19


def test_a_study_of_which_little_is_done(rows, tmp_path):
    text = report.write("mine", AXES, rows[:1], 20, "bytes", tmp_path)
    assert "1 of 20 runs" in text and "## All cells" in text and "less" not in text


def jobs_of(tmp_path, second):
    """Two jobs of quick commands beside a run's: one that ends well, and ``second``."""
    commands = {"one": ["recipes"], "two": second}
    for name in commands:
        manifest = tmp_path / name / MANIFEST
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text("{}")
    return [Job(Cell({"cell": name}, 0, ()), tmp_path / name, command) for name, command in commands.items()]


def test_what_is_done_is_not_run_again_and_what_failed_is(tmp_path):
    jobs = jobs_of(tmp_path, ["verify", "nowhere", "nowhere"])
    assert [job.cell.name for job in work(jobs, 2)] == ["two-seed0"]
    assert (tmp_path / "two" / LOG).read_text().startswith("nemo-adapt: error: nowhere")
    jobs = jobs_of(tmp_path, ["recipes"])
    assert work(jobs, 1) == [] and all(job.done for job in jobs)
    assert (tmp_path / "one" / LOG).read_text().count("llama2_7b\n") == 1
    assert (tmp_path / "two" / LOG).read_text().count("llama2_7b\n") == 1  # after the error's line
    other = Job(jobs[0].cell, jobs[0].folder, ["recipes", "train.seed=2"])
    assert not other.done
    (tmp_path / "one" / MANIFEST).unlink()
    assert not jobs[0].done and (tmp_path / "one" / DONE).is_file()


def test_a_job_array_shares_the_cells(monkeypatch):
    jobs = list(range(10))
    assert part_of(jobs) == jobs
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "5")
    parts = []
    for task in (5, 6, 7):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        parts += part_of(jobs)
    assert sorted(parts) == jobs and parts != jobs
