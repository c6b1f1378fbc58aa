"""A study as a job array on a real Slurm: cancellation, time limit, power failure, and a cell that fails."""

import json
import re
from pathlib import Path

import pytest
from helpers.worlds import SHORT
from launched import Launched

from nemo_adapt.checkpoint.folders import complete
from nemo_adapt.checkpoint.integrity import damage

STUDY = """
defaults: [demo, _self_]
parallel: {tp: 1, sequence: false}
train: {save_every: 10, phases: [{train: all, bytes: 200000, lr: 2e-3}]}
evaluate: {generate: 2}
study:
  seeds: 1
  axes:
    vocabulary: {"0": [tokenizer.new_tokens=0], "100": [tokenizer.new_tokens=100]}
    replay: {same: [], later: ["data.replay=[later.jsonl]"]}
  leave_out: ["vocabulary=0 replay=later"]
"""
FIRST, SECOND, BROKEN = CELLS = ["0-same-seed0", "100-same-seed0", "100-later-seed0"]
"""The first of two tasks has the first and the last cell."""


class Study(Launched):
    """A launched study; ``cells_1`` is a task of its array."""

    def submit(self) -> tuple[int, str]:
        """Run the command that launches it, each task on its own node; return exit code and output."""
        own = [word for word in SHORT if not word.startswith(("recipe=", "tokenizer.new_tokens=", "train.log_every="))]
        words = ["site=site.yaml", "site.sbatch=[--exclusive]", "study.array=2", f'run.name="{self.name}"']
        return self.command("study", "recipe=study.yaml", *own, "train.log_every=1", *words)

    def launch(self, *words: str) -> None:
        code, said = self.submit()
        assert code == 0 and "submitted prepare" in said, said

    def job_id(self, job: str) -> str:
        name, _, task = job.partition("_")
        return super().job_id(name) + (f"_{task}" if task else "")

    def log(self, job: str) -> str:
        path = self.root / "logs" / f"{job.partition('_')[0]}-{self.job_id(job)}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def cell(self, name: str) -> Launched:
        """Return the run of a cell."""
        return Launched(self.cluster, self.world, f"{self.name}/cells/{name}")

    def log_of(self, cell: str) -> str:
        path = self.cell(cell).root / "log.txt"
        return path.read_text(errors="replace") if path.is_file() else ""


@pytest.fixture(scope="module")
def study(cluster, world):
    (world / "study.yaml").write_text(STUDY)
    (world / "later.jsonl").write_text('{"text": "read before"}\n{"text": 1}\n')
    return Study(cluster, world, "it's $(touch pwned) a study")


def checkpoints(run: Launched) -> list[Path]:
    return [place for place in complete(run.root / "train/checkpoints") if not damage(place)]


def test_cancelled_tasks_save_and_no_report_is_written(full_cluster, study):
    """Both tasks are training, and get the time to save; the next test resumes from there."""
    study.launch()
    mark_code(study)
    assert "0 of 3 cells finished, 3 not yet" in study.status_text()
    again, said = study.submit()
    assert again == 2 and re.search(r"has been launched, and \w+ \(\d+\)", said)
    study.wait_until(lambda: study.cell(FIRST).step() > 2 and study.cell(SECOND).step() > 2, "two cells train")
    code, said = study.command("cancel", str(study.root))
    assert code == 0 and re.search(r"cancelled: cells \(\d+\), report \(\d+\)", said), said
    assert "later.jsonl: line 2 is not" in study.log("prepare"), "one that cannot be prepared leaves the others"
    for job in ("cells_0", "cells_1", "report"):
        study.wait_for_state(job, "CANCELLED")
    assert all(checkpoints(study.cell(cell)) for cell in (FIRST, SECOND)), "they were given the time to save"
    assert study.job_field("cells_0", "Restarts") == study.job_field("cells_1", "Restarts") == "0"
    assert not (study.root / "study.md").exists() and not study.log("report")
    assert "as it was launched" in study.log_of(FIRST), "cells run the program that was launched"


def mark_code(study: Study) -> None:
    """Change the copy of the program that the jobs run, to recognize it in their logs."""
    path = study.root / "launch/code/nemo_adapt/study/jobs.py"
    text = path.read_text()
    assert "    pipeline.run_all(" in text
    path.write_text(text.replace("    pipeline.run_all(", '    print("as it was launched")\n    pipeline.run_all('))


def test_tasks_are_requeued_separately_and_failed_cells_reported(full_cluster, study):
    """The report of the finished cells names the one that failed for good."""
    study.launch()
    number = study.job_id("cells")

    def signal_before_time_limit() -> None:
        """Signal, as Slurm does before a time limit, the task whose ID is that of the array."""
        assert study.job_field("cells_1", "JobId") == number != study.job_field("cells_0", "JobId")
        full_cluster.call("scancel", "--signal=USR1", "--batch", f"{number}_1")

    faults = {
        FIRST: lambda: full_cluster.lose_power(study.job_field("cells_0", "BatchHost")),
        SECOND: signal_before_time_limit,
    }

    def all_faults_happened() -> bool:
        for cell in list(faults):  # each as soon as its cell trains again
            if "training goes on from iter_" in study.log_of(cell):
                faults.pop(cell)()
        return not faults

    study.wait_until(all_faults_happened, "both go on from where they were cancelled")
    for job in ("cells_0", "cells_1"):
        study.wait_until(lambda: int(study.job_field(job, "Restarts")) > 0, f"{job} was queued again")  # noqa: B023
    study.wait_for_state("cells_1", "COMPLETED")
    study.wait_for_state("cells_0", "FAILED")
    study.wait_for_state("report", "FAILED")
    assert study.job_field("cells_0", "Restarts") == study.job_field("cells_1", "Restarts") == "1", "each alone"
    assert f"job {number}_1 is queued again" in study.log("cells_1")
    for cell in (FIRST, SECOND):
        assert study.log_of(cell).count("training goes on from iter_") == 2
        steps = [record["step"] for record in study.cell(cell).metrics()]
        assert steps == list(range(1, len(steps) + 1)), "each step once"
    expected = f"1 of 3 cells are not done ({BROKEN}): see"
    found = study.status()
    assert expected in found["jobs"][2]["reason"]
    assert [cell["state"] for cell in found["cells"]] == ["finished", "finished", "failed"]
    assert found["jobs"][1]["reason"] in ("1 failed, 1 done", "1 done, 1 failed")
    shown = study.status_text()
    assert "2 of 3 cells finished, 1 failed" in shown and "later.jsonl: line 2 is not" in shown
    page = (study.root / "study.md").read_text()
    assert "2 of 3 runs" in page and f"failed: {BROKEN}: later.jsonl: line 2 is not" in page


def test_same_command_runs_only_unfinished_cells(full_cluster, study, world):
    """Finished cells do not change, and stages shared by cells have run once."""
    later = (world / "runs/smallworld/text/en.train.txt").read_text().splitlines()[:300]
    (world / "later.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in later))
    before = {cell: study.log_of(cell) for cell in (FIRST, SECOND)}
    study.launch()
    study.wait_for_state("report", "COMPLETED")
    assert {cell: study.log_of(cell) for cell in (FIRST, SECOND)} == before
    assert "3 of 3 runs" in (study.root / "study.md").read_text()
    made = {
        stage: len(list((study.root / "shared").glob(f"*/{stage}/manifest.json")))
        for stage in ("tokenizer", "convert", "data/target", "data/replay", "train", "evaluate")
    }
    assert made == {"tokenizer": 2, "convert": 1, "data/target": 2, "data/replay": 3, "train": 3, "evaluate": 3}
    assert {job["state"] for job in study.status()["jobs"]} == {"done"}
    code, said = study.command("status", str(study.root), "--watch")
    assert code == 0 and "3 of 3 cells finished" in said, "it ends by itself: all is done"
    assert not list(world.rglob("pwned"))
