"""Configurations to launch, and a machine with stand-ins for Slurm's commands that record their arguments."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt import pipeline
from nemo_adapt.config import Config, recipes
from nemo_adapt.launch import sbatch
from nemo_adapt.launch.chain import Job, chain, size_of, with_dp_of_jobs
from nemo_adapt.launch.paths import LaunchPaths

SETTINGS = (
    *("model.path=/models/base", "data.target=[/text/tr.txt]", "tokenizer.text=[/text/tr.txt]"),
    *("parallel.tp=8", "parallel.dp=2", "train.global_batch=32", "evaluate.texts.tr=/text/tr.heldout.txt"),
)
WORKDIR = Path("/home/user/adapt")
STAND_INS = {
    # A script has two srun steps: the first (bash) is executed, as on one node; the second runs $TASKS, not the ranks.
    "srun": """\
while [[ $1 == --* ]]; do options+=("$1"); shift; done
if [ "$1" = bash ]; then SLURMD_NODENAME=n1 exec "$@"; fi
printf '%s\\0' "${options[@]}" "$@" > "$NOTES/srun"
export -p > "$NOTES/environment"
export STARTED=$RUN/launch/seen/$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}.started
eval "$TASKS"
""",
    "scontrol": """\
echo "$*" >> "$NOTES/scontrol"
case $* in
*hostnames*) echo n1; echo n2 ;;
*show*) [ -z "${DOWN:-}" ] || { DOWN=; [ -e "$NOTES/down" ] || { touch "$NOTES/down"; exit 1; }; }
    echo "JobId=7 JobName=x JobState=${STATE:-RUNNING} Reason=${REASON:-None} Restarts=${RESTARTS:-0} Command=/x" ;;
esac
""",
    "module": 'echo "$*" >> "$NOTES/module"\n',
    "sleep": "exec /bin/sleep 0.02\n",
}
"""Command -> its stand-in, in bash."""


def config_of(*words: str) -> Config:
    """Return a configuration to launch, laid out with as many model replicas (DP) as fit."""
    return with_dp_of_jobs(recipes.load("blank", ["run.name=turkish", *SETTINGS, *words]))


def jobs_of(config: Config) -> dict[str, Job]:
    """Return the jobs of a run by name."""
    return {job.name: job for job in chain(pipeline.run_steps(config))}


def script_of(config: Config, job: str, paths: LaunchPaths | None = None, workdir: Path = WORKDIR) -> str:
    """Return the batch script of a job."""
    paths = paths or LaunchPaths(workdir / config.run.dir / config.run.name)
    return sbatch.script(config, jobs_of(config)[job], size_of(config), paths, workdir, "python")


@dataclass
class Machine:
    """A node of a job: runs scripts with the stand-ins, which record their arguments in ``notes``."""

    folder: Path
    run: Path
    """The run's folder."""

    def __post_init__(self) -> None:
        self.notes = self.folder / "notes"
        self.notes.mkdir(parents=True)
        (self.folder / "bin").mkdir()
        for name, body in STAND_INS.items():
            path = self.folder / "bin" / name
            path.write_text(f"#!/usr/bin/env bash\n{body}")
            path.chmod(0o755)
        (self.run / "launch").mkdir(parents=True)
        (self.run / "launch/config.yaml").touch()
        (self.run / "train").mkdir()

    def start(self, script: str, tasks: str = "exit 0", **environment: str) -> subprocess.Popen[str]:
        """Start a script; ``tasks``: bash code in the place of the ranks, which touches ``$STARTED`` when all run."""
        path = self.folder / "script.sh"
        path.write_text(script)
        job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n[1-2]"}
        path_variable = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(path)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                "PATH": path_variable,
                "NOTES": str(self.notes),
                "RUN": str(self.run),
                "TASKS": tasks,
                **job,
                **environment,
            },
        )

    def ends(self, script: str, tasks: str = "exit 0", **environment: str) -> tuple[int, str]:
        """Run a script to its end; return its exit code and output."""
        process = self.start(script, tasks, **environment)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def wait_for(self, name: str) -> None:
        """Wait until a stand-in has made a file of this name in ``notes``."""
        until = time.monotonic() + 60
        while not (self.notes / name).exists():
            assert time.monotonic() < until, f"no {name}"
            time.sleep(0.02)

    def noted(self, command: str) -> str:
        """Return the recorded calls of a command, one per line; empty if it was not called."""
        path = self.notes / command
        return path.read_text() if path.exists() else ""

    @property
    def words(self) -> list[str]:
        """The arguments of the srun call that started the ranks."""
        return self.noted("srun").split("\0")[:-1]

    @property
    def is_requeued(self) -> bool:
        """Whether the job was requeued."""
        return "requeue 7" in self.noted("scontrol")
