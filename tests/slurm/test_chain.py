"""The whole road on a real Slurm, and runs that fail."""

import json
import re
import subprocess
import sys

from helpers.worlds import SHORT
from launched import Launched

BRIEF = [*SHORT, "train.phases=[{steps: 20, lr: 1e-3}]"]


def test_two_concurrent_runs_finish_with_reports(full_cluster, world, prepared):
    """Each with TP=2 over two nodes, one with a name that a shell would execute; slurmctld restarts meanwhile."""
    runs = [Launched(full_cluster, world, name) for name in ("one", "it's $(touch pwned)\n`two` 100%j")]
    for run in runs:
        run.launch(*BRIEF)
    waiting = runs[0].status_text()
    assert re.search(r"evaluate \(\d+\) +waiting +waits for the job before it", waiting)
    again, said = runs[0].command("launch", "site=site.yaml", *BRIEF, "run.name=one")
    assert again == 2 and re.search(r"has been launched, and \w+ \(\d+\)", said) and "nemo-adapt cancel" in said
    runs[0].wait_until(lambda: runs[0].job_field("train", "JobState") == "RUNNING", "the training runs")
    assert runs[0].job_field("train", "NumNodes") == "2"
    full_cluster.restart_controller(after=3)
    for run in runs:
        run.wait_for_state("evaluate", "COMPLETED")
        report = json.loads((run.root / "evaluate/report.json").read_text())
        assert report["training"]["steps"] == 20 and set(report["bits_per_byte"]["adapted"]) == {"tr", "en"}
        owner = run.owner()
        assert (owner["ranks"], owner["job"], owner["restart"]) == (2, run.job_id("train"), 0)
        found = run.status()
        assert {job["state"] for job in found["jobs"]} == {"done"}
        assert {stage["state"] for stage in found["stages"]} == {"finished"}
        watched = subprocess.run(
            [sys.executable, "-m", "nemo_adapt", "status", str(run.root), "--watch"],
            env=full_cluster.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert watched.returncode == 0 and "[evaluate] done in" in watched.stdout, "it ends by itself: all is done"
    assert not list(world.rglob("pwned"))


def test_failed_preparation_cancels_the_rest_of_the_chain(full_cluster, world):
    run = Launched(full_cluster, world, "fails")
    broken = world / "broken.jsonl"
    broken.write_text('{"text": "read before"}\n{"text": 1}\n')
    run.launch(*BRIEF, f"data.target=[{broken}]")
    run.wait_for_state("prepare", "FAILED")
    for job in ("train", "export", "evaluate"):
        run.wait_for_state(job, "CANCELLED")
    assert not (run.root / "train").exists() and not run.log("train")
    found = {job["name"]: job for job in run.status()["jobs"]}
    assert found["prepare"]["state"] == "failed" and "broken.jsonl" in found["prepare"]["reason"]
    assert found["evaluate"]["reason"] == "the job before it did not end well"
    assert "broken.jsonl" in run.status_text()


def test_user_error_of_all_ranks_is_printed_once(full_cluster, prepared):
    """A loss that is not finite, and a truncated token file: one line, and the exit code of user errors."""
    spoiled, cut = prepared.copy("spoiled"), prepared.copy("cut")
    with (cut.root / "data/target/target.bin").open("r+b") as file:
        file.truncate(100)
    spoiled.launch(*SHORT, "train.phases=[{steps: 20, lr: 1e30}]", "train.clip_grad=0")
    cut.launch(*BRIEF)
    for run, says in (
        (spoiled, "train: the gradient norm of step 2 is nan"),
        (cut, "target.bin is damaged: 100 bytes"),
    ):
        run.wait_for_state("train", "FAILED")
        log = run.log("train")
        assert log.count("nemo-adapt: error: ") == 1 and "Traceback" not in log, log
        assert run.job_field("train", "ExitCode") == "2:0", log
        assert says in next(job["reason"] for job in run.status()["jobs"] if job["name"] == "train")
        assert run.status_text().splitlines()[-1].strip().startswith("nemo-adapt: error: "), (
            "and not what srun says after it"
        )


def test_folder_that_nodes_do_not_share_is_reported(full_cluster, world):
    """Each node has its own file system at the run's folder."""
    place = world / "runs" / "unshared"
    place.mkdir(parents=True)
    for node in full_cluster.nodes:
        full_cluster.on(node, "mount", "-t", "tmpfs", "none", str(place))
    run = Launched(full_cluster, world, "unshared/alone")
    try:
        run.launch(*BRIEF)
        run.wait_for_state("prepare", "FAILED")
        reason = run.status()["jobs"][0]["reason"]
        assert reason == "its node could not write the log: it does not see the run's folder"
        # Where logs can be written, the job itself says so.
        for node in full_cluster.nodes:
            full_cluster.on(node, "mkdir", "-p", str(run.root / "logs"))
        run.wait_for_state("evaluate", "CANCELLED")
        run.launch(*BRIEF)
        run.wait_for_state("prepare", "FAILED")
        node = run.job_field("prepare", "BatchHost")
        log = full_cluster.on(node, "cat", str(run.root / "logs" / f"prepare-{run.job_id('prepare')}.log"))
        assert f"nemo-adapt: error: {node} does not see the run's folder" in log
    finally:
        for node in full_cluster.nodes:
            full_cluster.on(node, "umount", str(place))


def test_error_names_the_setting_that_slurm_rejects(full_cluster, world):
    run = Launched(full_cluster, world, "refused")
    cases = {
        "site.partition=nope": "the partition does not exist here: site.partition",
        "launch.nodes=8 train.micro_batch=2": "no such nodes here: more nodes, GPUs, cores or memory",
        "launch.nodes=8 train.micro_batch=2 site.nodes=3": "launch.nodes=8, but the site has 3 nodes of 1",
        "site.constraint=nope": "no node has these features: site.constraint",
        "site.sbatch=[--nope]": "an option that sbatch does not know here: site.sbatch",
        "site.memory=9999G": "no such nodes here",
    }
    for words, says in cases.items():
        code, said = run.command("launch", "site=site.yaml", *BRIEF, "run.name=refused", *words.split())
        lines = [line for line in said.splitlines() if line.startswith("nemo-adapt: error:")]
        assert code == 2 and len(lines) == 1 and says in lines[0], said
        assert "Traceback" not in said
    assert not run.root.exists()
    assert not full_cluster.call("squeue", "-h")


def test_training_waits_for_drained_nodes(full_cluster, world):
    full_cluster.call("scontrol", "update", "nodename=n3", "state=drain", "reason=test")
    try:
        run = Launched(full_cluster, world, "waits")
        layout = ("parallel.tp=1", "parallel.sequence=false", "train.micro_batch=1", "train.global_batch=9")
        run.launch(*BRIEF, "launch.nodes=3", *layout)
        run.command("cancel", str(run.root))
    finally:
        full_cluster.call("scontrol", "update", "nodename=n3", "state=resume")


def test_missing_container_image_is_reported(full_cluster, world):
    run = Launched(full_cluster, world, "image")
    code, said = run.command(
        "launch", "site=site.yaml", *BRIEF, "run.name=image", "site.container.image=/absent/nemo.sqsh"
    )
    assert code == 0, said
    run.wait_for_state("prepare", "FAILED")
    assert "site.container: /absent/nemo.sqsh is missing on n" in run.status()["jobs"][0]["reason"]
