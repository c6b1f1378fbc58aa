"""A training that Slurm stops, loses and starts again ends with the weights of one that was left alone."""


def test_time_limits(whole, prepared, long):
    """A time limit that is met at least twice: the job saves, queues itself again, and goes on."""
    words, unbroken = long
    run = prepared.copy("limits")
    run.launch(*words, "site.time='1'", "site.signal_seconds=30")
    run.until(lambda: int(run.fact("train", "Restarts") or 0) >= 2, "two time limits were met")
    shown = run.shown()
    assert "started 3 times" in shown and "stuck or stopped" not in shown
    whole.call("scontrol", "update", f"JobId={run.number('train')}", "TimeLimit=30", check=False)
    run.until_state("export", "COMPLETED")  # waited through all of it
    run.command("cancel", str(run.root))
    assert run.log("train").count("is queued again and goes on from its last checkpoint") >= 2
    run.ends_like(unbroken)


def test_power_is_lost_on_a_node_and_then_on_the_first(whole, prepared, long):
    """There is a spare node each time: two of three are needed."""
    words, unbroken = long
    run = prepared.copy("power")
    run.launch(*words)
    for is_first in (False, True):
        known = set(run.checkpoints())
        run.until_state("train", "RUNNING")
        run.until(lambda: set(run.checkpoints()) - known, "it has saved")  # noqa: B023
        restarts = int(run.fact("train", "Restarts"))
        hosts = whole.call("scontrol", "show", "hostnames", run.fact("train", "NodeList")).split()
        lost = hosts[0] if is_first else hosts[1]
        assert (run.fact("train", "BatchHost") == lost) == is_first
        whole.lose_power(lost)
        run.until(lambda: int(run.fact("train", "Restarts")) > restarts, "the job was queued again")  # noqa: B023
        run.until_state("train", "RUNNING")
        assert lost not in whole.call("scontrol", "show", "hostnames", run.fact("train", "NodeList")).split()
        whole.boot(lost)
    run.until_state("train", "COMPLETED")
    run.command("cancel", str(run.root))
    assert run.log("train").count("training goes on from iter_") == 2
    run.ends_like(unbroken)


def test_a_start_that_slurm_has_lost_lives_on(whole, prepared, long):
    """A node's slurmd dies, its ranks train on; once a new start has the folder, they write no more, and end."""
    words, _ = long
    run = prepared.copy("zombie")
    run.launch(*words, "site.ranks_per_node=2", "train.phases=[{steps: 100000, lr: 1e-3}]")
    run.until(lambda: run.step() > 5, "it trains")
    node, owner = run.fact("train", "BatchHost"), run.owner()
    whole.lose_slurmd(node)
    run.until(lambda: int(run.fact("train", "Restarts")) == 1, "Slurm has given it up")
    at = run.step()
    run.until(lambda: run.step() > at, "the lost ranks train on")
    assert run.owner() == owner and whole.lives(node, owner["pid"])
    run.until(lambda: run.owner() != owner, "the new start has the folder")
    assert run.owner()["host"] != owner["host"] and run.owner()["restart"] == owner["restart"] + 1
    run.until(lambda: not whole.lives(node, owner["pid"]), "the lost ranks have ended")
    at = run.step()
    run.until(lambda: run.step() > at + 2, "the new ones train")
    steps = [record["step"] for record in run.metrics()]
    assert steps == list(range(1, len(steps) + 1)), "each step once"
    assert run.fact("train", "Restarts") == "1"
    run.command("cancel", str(run.root))


def test_cancel(whole, prepared, long):
    """The training saves, nothing is queued again, and a new launch goes on from there."""
    words, _ = long
    run = prepared.copy("cancelled")
    run.launch(*words, "train.save_every=10000")
    run.until(lambda: run.step() > 5, "it trains")
    code, said = run.command("cancel", str(run.root))
    assert code == 0 and "train (" in said and "prepare" not in said, said
    for job in ("train", "export", "evaluate"):
        run.until_state(job, "CANCELLED")
    assert int(run.fact("train", "Restarts")) == 0
    assert list((run.root / "train/checkpoints").glob("iter_*/files.json")), "it was given the time to save"
    assert run.status()["jobs"][1]["state"] == "cancelled"
    assert "nothing to cancel" in run.command("cancel", str(run.root))[1]
    run.launch(*words, "train.save_every=10000")
    run.until(lambda: "training goes on from iter_" in run.log("train"), "it goes on")
    run.command("cancel", str(run.root))


def test_preemption(whole, prepared, long):
    """A job of higher priority takes the nodes: the training saves in its time of grace, waits, and goes on."""
    words, _ = long
    run = prepared.copy("preempted")
    run.launch(*words)
    run.until(lambda: run.step() > 5, "it trains")
    urgent = ("--partition=urgent", "--nodes=3", "--exclusive", "--time=5", "--output=/dev/null")
    number = whole.call("sbatch", "--parsable", *urgent, "--wrap", "sleep 5").strip()
    run.until(lambda: int(run.fact("train", "Restarts")) == 1, "it was queued again")
    run.until(lambda: "training goes on from iter_" in run.log("train"), "it goes on")
    assert whole.call("squeue", "-h", "-j", number, "-t", "all", "-o", "%T").strip() == "COMPLETED"
    run.command("cancel", str(run.root))
