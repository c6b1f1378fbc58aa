"""A training that Slurm stops, loses and requeues ends with the weights of an uninterrupted one."""

import signal

import psutil
from helpers.worlds import SHORT
from launched import Launched


def test_training_resumes_after_time_limits(full_cluster, prepared, long_training):
    """The time limit is reached at least twice: the job saves, requeues itself, and resumes."""
    words, unbroken = long_training
    run = prepared.copy("limits")
    run.launch(*words, "site.time='1'", "site.signal_seconds=30")
    run.wait_until(lambda: int(run.job_field("train", "Restarts") or 0) >= 2, "two time limits were met")
    shown = run.status_text()
    assert "started 3 times" in shown and "stuck or stopped" not in shown
    full_cluster.call("scontrol", "update", f"JobId={run.job_id('train')}", "TimeLimit=30", check=False)
    run.wait_for_state("export", "COMPLETED")  # it waited during all requeues
    run.command("cancel", str(run.root))
    assert run.log("train").count("is queued again and goes on from its last checkpoint") >= 2
    run.assert_ends_like(unbroken)


def test_a_preparation_is_queued_again_at_its_time_limit(full_cluster, world):
    """The training waits for it."""
    run = Launched(full_cluster, world, "late")
    run.launch(*SHORT, "train.phases=[{steps: 20, lr: 1e-3}]")
    run.wait_until(lambda: "[tokenizer]" in run.log("prepare"), "it runs")
    full_cluster.call("scancel", "--signal=USR1", "--batch", run.job_id("prepare"))
    run.wait_until(lambda: int(run.job_field("prepare", "Restarts") or 0) == 1, "it was queued again")
    run.wait_for_state("prepare", "COMPLETED")
    assert "is queued again and goes on with what is left to do" in run.log("prepare")
    run.wait_until(lambda: run.job_field("train", "JobState") == "RUNNING", "the training runs")
    run.command("cancel", str(run.root))


def test_signal_while_srun_starts_the_ranks_is_not_lost(full_cluster, prepared, long_training):
    """The job's shell keeps it until all ranks run, which then save and stop."""
    words, _ = long_training
    run = prepared.copy("starting")
    run.launch(*words, "train.save_every=10000")
    run.wait_until(
        lambda: len(list(run.root.glob(f"launch/seen/{run.job_id('train')}.0/n*"))) == 2, "the nodes are checked"
    )
    full_cluster.call("scancel", "--signal=USR1", "--batch", run.job_id("train"))
    run.wait_until(lambda: int(run.job_field("train", "Restarts")) == 1, "it was queued again")
    run.wait_until(lambda: "training goes on from iter_" in run.log("train"), "it goes on")
    run.command("cancel", str(run.root))


def test_training_resumes_after_power_failures_of_nodes(full_cluster, prepared, long_training):
    """First of the second node, then of the first; a spare node is left, as the job needs two of three."""
    words, unbroken = long_training
    run = prepared.copy("power")
    run.launch(*words)
    for is_first in (False, True):
        known = set(run.checkpoints())
        run.wait_for_state("train", "RUNNING")
        run.wait_until(lambda: set(run.checkpoints()) - known, "it has saved")  # noqa: B023
        restarts = int(run.job_field("train", "Restarts"))
        hosts = full_cluster.call("scontrol", "show", "hostnames", run.job_field("train", "NodeList")).split()
        lost = hosts[0] if is_first else hosts[1]
        assert (run.job_field("train", "BatchHost") == lost) == is_first
        full_cluster.lose_power(lost)
        run.wait_until(lambda: int(run.job_field("train", "Restarts")) > restarts, "the job was queued again")  # noqa: B023
        run.wait_for_state("train", "RUNNING")
        assert (
            lost not in full_cluster.call("scontrol", "show", "hostnames", run.job_field("train", "NodeList")).split()
        )
        full_cluster.boot(lost)
    run.wait_for_state("train", "COMPLETED")
    run.command("cancel", str(run.root))
    assert run.log("train").count("training goes on from iter_") == 2
    run.assert_ends_like(unbroken)


def test_start_that_slurm_lost_stops_writing_when_replaced(full_cluster, prepared, long_training):
    """Ranks of a node whose slurmd died keep training; once a new start owns the folder, they exit."""
    words, _ = long_training
    run = prepared.copy("zombie")
    run.launch(*words, "site.ranks_per_node=2", "train.phases=[{steps: 100000, lr: 1e-3}]")
    run.wait_until(lambda: run.step() > 5, "it trains")
    node, owner = run.job_field("train", "BatchHost"), run.owner()
    full_cluster.lose_slurmd(node)
    run.wait_until(lambda: int(run.job_field("train", "Restarts")) == 1, "Slurm has given it up")
    at = run.step()
    run.wait_until(lambda: run.step() > at, "the lost ranks train on")
    assert run.owner() == owner and full_cluster.is_running(node, owner["pid"])
    run.wait_until(lambda: run.owner() != owner, "the new start has the folder")
    assert run.owner()["host"] != owner["host"] and run.owner()["restart"] == owner["restart"] + 1
    run.wait_until(lambda: not full_cluster.is_running(node, owner["pid"]), "the lost ranks have ended")
    at = run.step()
    run.wait_until(lambda: run.step() > at + 2, "the new ones train")
    steps = [record["step"] for record in run.metrics()]
    assert steps == list(range(1, len(steps) + 1)), "each step once"
    assert run.job_field("train", "Restarts") == "1"
    run.command("cancel", str(run.root))


def test_cancelled_training_saves_and_the_next_launch_resumes(full_cluster, prepared, long_training):
    """A cancelled job is not requeued."""
    words, _ = long_training
    run = prepared.copy("cancelled")
    run.launch(*words, "train.save_every=10000")
    run.wait_until(lambda: run.step() > 5, "it trains")
    code, said = run.command("cancel", str(run.root))
    assert code == 0 and "train (" in said and "prepare" not in said, said
    for job in ("train", "export", "evaluate"):
        run.wait_for_state(job, "CANCELLED")
    assert int(run.job_field("train", "Restarts")) == 0
    assert list((run.root / "train/checkpoints").glob("iter_*/files.json")), "it was given the time to save"
    assert run.status()["jobs"][1]["state"] == "cancelled"
    assert "nothing to cancel" in run.command("cancel", str(run.root))[1]
    run.launch(*words, "train.save_every=10000")
    run.wait_until(lambda: "training goes on from iter_" in run.log("train"), "it goes on")
    run.command("cancel", str(run.root))


def test_preempted_training_saves_and_resumes(full_cluster, prepared, long_training):
    """A job of higher priority takes the nodes: the training saves within the grace time, and waits in the queue."""
    words, _ = long_training
    run = prepared.copy("preempted")
    run.launch(*words)
    run.wait_until(lambda: run.step() > 5, "it trains")
    urgent = ("--partition=urgent", "--nodes=3", "--exclusive", "--time=5", "--output=/dev/null")
    number = full_cluster.call("sbatch", "--parsable", *urgent, "--wrap", "sleep 5").strip()
    run.wait_until(lambda: int(run.job_field("train", "Restarts")) == 1, "it was queued again")
    run.wait_until(lambda: "training goes on from iter_" in run.log("train"), "it goes on")
    assert full_cluster.call("squeue", "-h", "-j", number, "-t", "all", "-o", "%T").strip() == "COMPLETED"
    run.command("cancel", str(run.root))


def test_training_goes_on_after_a_rank_was_killed(full_cluster, prepared, long_training):
    """By an error of its GPU, or for want of memory; srun then ends the other one. The next start is soon."""
    words, unbroken = long_training
    run = prepared.copy("killed")
    run.launch(*words)
    run.wait_until(run.checkpoints, "it has saved")
    running = [each for each in psutil.process_iter(["name", "cmdline"]) if each.info["name"].startswith("python")]
    ranks = [each for each in running if each.info["cmdline"][-3:] == ["job", str(run.root), "train"]]
    ranks[-1].send_signal(signal.SIGABRT)
    run.wait_until(lambda: int(run.job_field("train", "Restarts")) == 1, "it was queued again")
    run.wait_for_state("train", "COMPLETED")
    run.command("cancel", str(run.root))
    assert "the ranks were killed (code 134) after iter_" in run.log("train")
    run.assert_ends_like(unbroken)
