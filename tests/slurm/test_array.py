"""A study as a job array on a real Slurm: cancelled, stopped before its time limit, without power, with a bad cell."""

import json
import re
from pathlib import Path

import pytest
from helpers.worlds import SHORT
from launched import Launched

from nemo_adapt.checkpoint.integrity import complete, damage

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
"""The first task of two has the first and the last."""


class Study(Launched):
    """A launched study; ``cells_1`` is a task of its array."""

    def submit(self) -> tuple[int, str]:
        """Exit code and output of the command that launches it; each task has a node for itself."""
        own = [word for word in SHORT if not word.startswith(("recipe=", "tokenizer.new_tokens=", "train.log_every="))]
        words = ["site=site.yaml", "site.sbatch=[--exclusive]", "study.array=2", f'run.name="{self.name}"']
        return self.command("study", "recipe=study.yaml", *own, "train.log_every=1", *words)

    def launch(self, *words: str) -> None:
        code, said = self.submit()
        assert code == 0 and "submitted prepare" in said, said

    def number(self, job: str) -> str:
        name, _, task = job.partition("_")
        return super().number(name) + (f"_{task}" if task else "")

    def log(self, job: str) -> str:
        path = self.root / "logs" / f"{job.partition('_')[0]}-{self.number(job)}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def cell(self, name: str) -> Launched:
        """The run of a cell."""
        return Launched(self.cluster, self.world, f"{self.name}/cells/{name}")

    def log_of(self, cell: str) -> str:
        path = self.cell(cell).root / "log.txt"
        return path.read_text(errors="replace") if path.is_file() else ""


@pytest.fixture(scope="module")
def study(cluster, world):
    (world / "study.yaml").write_text(STUDY)
    (world / "later.jsonl").write_text('{"text": 1}\n')
    return Study(cluster, world, "it's $(touch pwned) a study")


def checkpoints(run: Launched) -> list[Path]:
    return [place for place in complete(run.root / "train/checkpoints") if not damage(place)]


def test_cancel(whole, study):
    """Of both tasks; those that train save first, and there is no report. What comes next goes on from there."""
    study.launch()
    mark_code(study)
    assert "0 of 3 cells finished, 3 not yet" in study.shown()
    again, said = study.submit()
    assert again == 2 and re.search(r"has been launched, and \w+ \(\d+\)", said)
    study.until(lambda: study.cell(FIRST).step() > 2 and study.cell(SECOND).step() > 2, "two cells train")
    code, said = study.command("cancel", str(study.root))
    assert code == 0 and re.search(r"cancelled: cells \(\d+\), report \(\d+\)", said), said
    assert "later.jsonl: line 1 is not" in study.log("prepare"), "one that cannot be prepared leaves the others"
    for job in ("cells_0", "cells_1", "report"):
        study.until_state(job, "CANCELLED")
    assert all(checkpoints(study.cell(cell)) for cell in (FIRST, SECOND)), "they were given the time to save"
    assert study.fact("cells_0", "Restarts") == study.fact("cells_1", "Restarts") == "0"
    assert not (study.root / "study.md").exists() and not study.log("report")
    assert "as it was launched" in study.log_of(FIRST), "cells run the program that was launched"


def mark_code(study: Study) -> None:
    """Change the program that the jobs start, to know it again."""
    path = study.root / "launch/code/nemo_adapt/study/jobs.py"
    text = path.read_text()
    assert "    pipeline.run_all(" in text
    path.write_text(text.replace("    pipeline.run_all(", '    print("as it was launched")\n    pipeline.run_all('))


def test_stops_and_failures(whole, study):
    """Each task is queued again alone; a cell that fails for good is named by the report of the others."""
    study.launch()
    number = study.number("cells")

    def stop_in_time() -> None:
        """What Slurm does before a time limit, to the task that has the number of the whole array."""
        assert study.fact("cells_1", "JobId") == number != study.fact("cells_0", "JobId")
        whole.call("scancel", "--signal=USR1", "--batch", f"{number}_1")

    faults = {FIRST: lambda: whole.lose_power(study.fact("cells_0", "BatchHost")), SECOND: stop_in_time}

    def met() -> bool:
        for cell in list(faults):  # each as soon as it trains
            if "training goes on from iter_" in study.log_of(cell):
                faults.pop(cell)()
        return not faults

    study.until(met, "both go on from where they were cancelled")
    for job in ("cells_0", "cells_1"):
        study.until(lambda: int(study.fact(job, "Restarts")) > 0, f"{job} was queued again")  # noqa: B023
    study.until_state("cells_1", "COMPLETED")
    study.until_state("cells_0", "FAILED")
    study.until_state("report", "FAILED")
    assert study.fact("cells_0", "Restarts") == study.fact("cells_1", "Restarts") == "1", "each alone"
    assert f"job {number}_1 is queued again" in study.log("cells_1")
    for cell in (FIRST, SECOND):
        assert study.log_of(cell).count("training goes on from iter_") == 2
        steps = [record["step"] for record in study.cell(cell).metrics()]
        assert steps == list(range(1, len(steps) + 1)), "each step once"
    told = f"1 of 3 cells are not done ({BROKEN}): see"
    found = study.status()
    assert told in found["jobs"][2]["reason"]
    assert [cell["state"] for cell in found["cells"]] == ["finished", "finished", "failed"]
    assert found["jobs"][1]["reason"] in ("1 failed, 1 done", "1 done, 1 failed")
    shown = study.shown()
    assert "2 of 3 cells finished, 1 failed" in shown and "later.jsonl: line 1 is not" in shown
    page = (study.root / "study.md").read_text()
    assert "2 of 3 runs" in page and f"failed: {BROKEN}: later.jsonl: line 1 is not" in page


def test_the_same_command_does_the_rest(whole, study, world):
    """What is done stays as it is, and what cells share was made once."""
    later = (world / "runs/smallworld/text/en.train.txt").read_text().splitlines()[:300]
    (world / "later.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in later))
    before = {cell: study.log_of(cell) for cell in (FIRST, SECOND)}
    study.launch()
    study.until_state("report", "COMPLETED")
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
