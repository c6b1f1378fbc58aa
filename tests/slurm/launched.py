"""A run on the cluster: what a user does with it, and what tests wait for."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cluster import Cluster

from nemo_adapt.checkpoint.folders import complete
from nemo_adapt.checkpoint.integrity import damage
from nemo_adapt.checkpoint.reader import Checkpoint

PATIENCE = 600.0
"""Timeout in seconds for anything on a busy machine."""


@dataclass
class Launched:
    """The run ``name`` in ``world``."""

    cluster: Cluster
    world: Path
    name: str

    @property
    def root(self) -> Path:
        return self.world / "runs" / self.name

    def copy(self, name: str) -> "Launched":
        """Return a new run with a copy of all stages before training."""
        for part in ("tokenizer", "data", "convert"):
            shutil.copytree(self.root / part, self.world / "runs" / name / part)
        return Launched(self.cluster, self.world, name)

    def command(self, *words: str) -> tuple[int, str]:
        """Run ``nemo-adapt WORDS`` as on a login node; return exit code and output."""
        done = subprocess.run(
            [sys.executable, "-m", "nemo_adapt", *words],
            cwd=self.world,
            env={**self.cluster.environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    def run_stage(self, stage: str, *words: str) -> None:
        """Run a stage without Slurm."""
        code, said = self.command(stage, *words, f'run.name="{self.name}"')
        assert code == 0, said

    def launch(self, *words: str) -> None:
        """Submit it."""
        code, said = self.command("launch", "site=site.yaml", *words, f'run.name="{self.name}"')
        assert code == 0 and "submitted prepare" in said, said

    def status(self) -> dict[str, Any]:
        """Return what ``nemo-adapt status`` reports as JSON."""
        code, said = self.command("status", str(self.root), "json=-")
        assert code == 0, said
        return json.loads(said)

    def status_text(self) -> str:
        """Return what ``nemo-adapt status`` prints."""
        code, said = self.command("status", str(self.root))
        assert code == 0, said
        return said

    def job_id(self, job: str) -> str:
        """Return the ID of one of its jobs."""
        jobs = json.loads((self.root / "launch/jobs.json").read_text())["jobs"]
        return next(each["id"] for each in jobs if each["name"] == job)

    def job_field(self, job: str, name: str) -> str:
        """Return a field that Slurm reports of one of its jobs: ``JobState``, ``Restarts``, ``BatchHost``, …"""
        out = self.cluster.call("scontrol", "-o", "show", "job", self.job_id(job), check=False)
        return next((word.partition("=")[2] for word in out.split() if word.startswith(f"{name}=")), "")

    def log(self, job: str) -> str:
        """Return the log of one of its jobs."""
        path = self.root / "logs" / f"{job}-{self.job_id(job)}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def metrics(self) -> list[dict[str, Any]]:
        path = self.root / "train/metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def step(self) -> int:
        """Return the last step in metrics.jsonl (0: none)."""
        found = self.metrics()
        return int(found[-1]["step"]) if found else 0

    def owner(self) -> dict[str, Any]:
        """Return which start owns the training's folder."""
        return json.loads((self.root / "train/owner.json").read_text())

    def checkpoints(self) -> list[str]:
        """Return the names of its undamaged checkpoints."""
        return [place.name for place in complete(self.root / "train/checkpoints") if not damage(place)]

    def wait_until(self, happened: Callable[[], Any], what: str) -> None:
        """Wait until it has happened; the error contains the logs."""
        until = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > until:
                raise AssertionError(f"not within {PATIENCE:.0f} s: {what}\n{self.all_logs()}")
            time.sleep(0.3)

    def wait_for_state(self, job: str, state: str) -> None:
        """Wait until a job is in a state; fail if it ends in another."""
        ends = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"} - {state}

        def happened() -> bool:
            now = self.job_field(job, "JobState")
            assert now not in ends, f"{job} is {now}\n{self.all_logs()}"
            return now == state

        self.wait_until(happened, f"{job} is {state}")

    def all_logs(self) -> str:
        return "\n".join(f"{path}\n{path.read_text(errors='replace')[-3000:]}" for path in self.root.glob("logs/*"))

    def losses(self) -> list[tuple[int, float]]:
        return [(record["step"], record["loss"]) for record in self.metrics()]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return all tensors of the last checkpoint, including the optimizer state."""
        opened = Checkpoint(complete(self.root / "train/checkpoints")[-1])
        return {key: opened.rows(key, 0, shape[0]) for key, shape in opened.shapes.items()}

    def assert_ends_like(self, other: "Launched") -> None:
        """Assert that weights, optimizer state and losses are another training's bits; no checkpoint is damaged."""
        assert len(self.checkpoints()) == len(complete(self.root / "train/checkpoints"))
        assert self.losses() == other.losses()
        ours, theirs = self.weights(), other.weights()
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert torch.equal(ours[key], tensor), key
