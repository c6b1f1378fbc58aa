"""Slurm's messages in plain words, and the job states that status shows. Output of Slurm 22.05."""

import json

import pytest

from nemo_adapt.launch import messages, slurm
from nemo_adapt.launch.slurm import State
from nemo_adapt.status.jobs import jobs, relevant_log

SHOWN = (
    "JobId=23 JobName=one-train UserId=root(0) Account=(null) JobState={state} Reason={reason} Dependency=(null) "
    "Requeue=1 Restarts=2 ExitCode={code} RunTime=00:00:45 TimeLimit=00:10:00 StartTime=2026-11-26T08:01:02 "
    "NodeList=n[1-2] Command=/x/ JobState=BOGUS/train.sh WorkDir=/x"
)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (
            "sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name",
            "site.partition",
        ),
        ("allocation failure: Requested node configuration is not available", "no such nodes here"),
        ("allocation failure: Invalid feature specification", "site.constraint"),
        ("sbatch: error: Invalid generic resource (gres) specification", "site.gpus_per_node"),
        ("sbatch: unrecognized option '--nope'\nTry \"sbatch --help\"", "site.sbatch"),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", "does not answer"),
        ("sbatch: fatal: Unable to process configuration file", "launch from a login node"),
        ("sbatch: error: something new", "something new"),
        ("", "no reason given"),
    ],
)
def test_refusals_of_sbatch_are_explained(said, means):
    assert means in messages.refusal(said) and "\n" not in messages.refusal(said)


@pytest.mark.parametrize(
    ("state", "reason", "code", "means"),
    [
        ("PENDING", "Priority", "0:0", "waits behind jobs of higher priority"),
        ("PENDING", "DependencyNeverSatisfied", "0:0", "the job before it did not end well"),
        ("PENDING", "ReqNodeNotAvail,_UnavailableNodes:n2", "0:0", "the nodes it could run on are down or reserved"),
        (
            "PENDING",
            "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
            "0:0",
            "the nodes it could run on are down or reserved",
        ),
        ("CANCELLED", "Dependency", "0:0", ""),
        ("CANCELLED", "DependencyNeverSatisfied", "0:0", "the job before it did not end well"),
        ("PENDING", "QOSMaxJobsPerUserLimit", "0:0", "a limit of its quality of service is reached"),
        ("PENDING", "AssocGrpGRESMinutes", "0:0", "a limit of your account is reached"),
        ("PENDING", "SomethingNew", "0:0", "Slurm says: SomethingNew"),
        ("FAILED", "NonZeroExitCode", "2:0", "see its log (exit code 2)"),
        ("FAILED", "JobLaunchFailure", "0:53", "its node could not write the log: it does not see the run's folder"),
        ("RUNNING", "None", "0:0", ""),
    ],
)
def test_reasons_of_slurm_are_explained(state, reason, code, means):
    assert messages.reason(state, reason, code) == means


def test_names_of_job_states():
    assert [messages.state(name) for name in ("RUNNING", "CANCELLED by 0", "CANCELLED+", "SIGNALING", "")] == [
        *("running", "cancelled", "cancelled", "signaling", "unknown"),
    ]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for Slurm's commands: ``commands(scontrol=..., sacct=...)``, in bash."""

    def make(**bodies):
        for name, body in bodies.items():
            path = tmp_path / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/bash\n{body}\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")

    return make


def test_state_of_a_job_is_parsed_from_scontrol(commands):
    commands(scontrol=f"echo '{SHOWN.format(state='RUNNING', reason='None', code='0:0')}'")
    assert slurm.states(["23"])["23"] == State(
        "RUNNING", "None", "0:0", "n[1-2]", "00:00:45", "00:10:00", "2026-11-26T08:01:02", 2
    )


def test_state_of_a_job_comes_from_sacct_once_scontrol_has_forgotten_it(commands):
    """The controller forgets jobs after a while; without accounting they are then unknown."""
    commands(
        scontrol="echo slurm_load_jobs error: Invalid job id specified >&2; exit 1",
        sacct="echo '23|CANCELLED by 0|None|0:0|n1|00:01:00|00:10:00|2026-11-26T08:01:02'",
    )
    found = slurm.states(["23", "24"])
    assert found["23"].state == "CANCELLED" and found["24"] == State()
    commands(sacct="echo Slurm accounting storage is disabled >&2; exit 1")
    assert slurm.states(["23"]) == {"23": State()}


def test_controller_that_does_not_answer_is_asked_only_once(commands, tmp_path):
    """Each question may take half a minute."""
    says = "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1"
    commands(scontrol=f"echo >> {tmp_path}/asked; {says}", sacct="exit 1")
    found = slurm.states(["23", "24"])
    assert all(state.is_live and "controller does not answer" in state.unanswered for state in found.values())
    assert len(found) == 2 and (tmp_path / "asked").read_text() == "\n"


def launched(tmp_path, *names):
    (tmp_path / "launch").mkdir()
    rows = [{"name": name, "id": str(number), "stages": []} for number, name in enumerate(names, 1)]
    (tmp_path / "launch/jobs.json").write_text(json.dumps({"jobs": rows}))
    (tmp_path / "logs").mkdir()
    return tmp_path


def test_status_has_states_reasons_and_the_relevant_log(tmp_path):
    root = launched(tmp_path, "prepare", "train", "export")
    (root / "logs/prepare-1.log").write_text("[tokenizer]\nnemo-adapt: error: no such text\nsrun: error: n1: task 0\n")
    (root / "logs/train-2.log").write_text("".join(f"line {number}\n\n" for number in range(9)))
    known = {"1": State("FAILED", "NonZeroExitCode", "2:0"), "2": State("RUNNING", "None", nodes="n1", restarts=1)}
    (queued,) = jobs(root, {"1": State("PENDING", "Resources", start="2026-11-26T09:00:00")})[:1]
    assert queued.reason == "waits for nodes to become free, expected to start at 2026-11-26T09:00:00"
    found = jobs(root, known)
    assert [(job.state, job.reason) for job in found] == [
        ("failed", "no such text"),
        ("running", ""),
        ("unknown", "Slurm does not know it any more"),
    ]
    assert relevant_log(found) == (str(root / "logs/train-2.log"), [f"line {number}" for number in range(4, 9)])
    assert {job.reason for job in jobs(root, {})} == {"Slurm cannot be asked on this machine"}
    assert relevant_log(found[:1])[1][0] == "[tokenizer]"
