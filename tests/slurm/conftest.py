"""One cluster of three nodes and one small world for all tests, which wait for what they expect, with a timeout."""

import tempfile
from pathlib import Path

import pytest
from cluster import Cluster, missing
from helpers.worlds import SHORT, small_world
from launched import Launched


@pytest.fixture(scope="session")
def cluster():
    """Start a real Slurm cluster; fail where that is impossible, as the tests would prove nothing."""
    why = missing()
    if why:
        pytest.fail(f"no Slurm here: {why}")
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, Cluster(Path(folder), nodes=3) as started:
        yield started


@pytest.fixture
def full_cluster(cluster):
    """Return the cluster with all nodes up; boot those that the test took down."""
    yield cluster
    for node in cluster.nodes:
        cluster.boot(node)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Return a folder with ``runs/smallworld`` and a site whose nodes have one rank each."""
    place = small_world(tmp_path_factory.mktemp("world"))
    (place / "site.yaml").write_text("ranks_per_node: 1\ncpus_per_rank: 1\ntime: '30'\ncpu: {time: '30'}\n")
    return place


@pytest.fixture(scope="session")
def prepared(cluster, world):
    """Return a run in which all stages before training are finished."""
    run = Launched(cluster, world, "prepared")
    for stage in ("tokenizer", "data", "convert"):
        run.run_stage(stage, *SHORT)
    return run


@pytest.fixture(scope="session")
def long_training(cluster, world, prepared):
    """Return settings of a training that takes a minute on any machine, too long for two time limits of the tests, and
    that training, uninterrupted."""
    pace = prepared.copy("pace")
    pace.run_stage("train", *SHORT, "train.phases=[{steps: 40, lr: 1e-3}]", "train.log_every=1")
    seconds = pace.metrics()[-1]["seconds"] - pace.metrics()[9]["seconds"]
    steps = max(60, int(60 / (seconds / 30)))
    words = [*SHORT, f"train.phases=[{{steps: {steps}, lr: 1e-3}}]", "train.log_every=1", "train.attempts=0"]
    words += [f"train.save_every={max(5, steps // 10)}"]
    unbroken = prepared.copy("unbroken")
    unbroken.run_stage("train", *words)
    return words, unbroken
