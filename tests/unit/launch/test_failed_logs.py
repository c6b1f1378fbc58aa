"""The reason that ``status`` finds in a failed job's log: the cause, not Slurm's messages that follow from it."""

import json

import pytest

from nemo_adapt.launch.slurm import State
from nemo_adapt.status.jobs import jobs, relevant_log

# Output of Slurm 22.05, pyxis 0.24 and enroot 4.1.
AFTER = """\
srun: error: n1: task 0: Exited with exit code 2
srun: launch/slurm: _step_signal: Terminating StepId=57.1
slurmstepd-n1: error: *** STEP 57.1 ON n1 CANCELLED AT 2026-11-26T16:52:42 ***
srun: error: n2: task 1: Terminated
srun: Force Terminated StepId=57.1
nemo-adapt: the ranks ended with code 143
"""
NAMED = "training: 1/20 steps\nnemo-adapt: error: train: the loss of step 2 is nan\n"
IMAGE = """\
slurmstepd-n1: error: pyxis: child 6033 failed with error code: 1
slurmstepd-n1: error: pyxis: failed to create container filesystem for image: /w/junk.sqsh
slurmstepd-n1: error: pyxis: printing enroot log file:
slurmstepd-n1: error: pyxis:     [ERROR] Invalid image format: /w/junk.sqsh
slurmstepd-n1: error: spank: required plugin spank_pyxis.so: task_init() failed with rc=-1
"""
MOUNT = "slurmstepd-n3: error: pyxis: --container-mounts: source path does not exist: /absent\n"
PYTHON = "slurmstepd-n1: error: execve(): /nowhere/bin/python: No such file or directory\n"
KILLED = "srun: error: n1: task 0: Out Of Memory\n"


@pytest.mark.parametrize(
    ("log", "reason", "last"),
    [
        (NAMED + AFTER, "train: the loss of step 2 is nan", "nemo-adapt: error: train: the loss of step 2 is nan"),
        (IMAGE + AFTER, "pyxis: [ERROR] Invalid image format: /w/junk.sqsh", IMAGE.splitlines()[-1]),
        (MOUNT + AFTER, "pyxis: --container-mounts: source path does not exist: /absent", MOUNT.strip()),
        (PYTHON + AFTER, "execve(): /nowhere/bin/python: No such file or directory", PYTHON.strip()),
        (KILLED + AFTER, "see its log (exit code 143)", KILLED.strip()),
        (AFTER, "see its log (exit code 143)", AFTER.splitlines()[-1]),
    ],
)
def test_status_shows_the_cause_of_a_failed_job(tmp_path, log, reason, last):
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch/jobs.json").write_text(json.dumps({"jobs": [{"name": "train", "id": "57"}]}))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/train-57.log").write_text(log)
    found = jobs(tmp_path, {"57": State("FAILED", "NonZeroExitCode", "143:0")})
    assert found[0].reason == reason
    assert relevant_log(found)[1][-1] == last
