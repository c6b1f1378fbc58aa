"""One cluster of three nodes and one small world for all tests, which wait for what they expect, with a limit."""

import tempfile
from pathlib import Path

import pytest
from cluster import Cluster, missing
from helpers.worlds import SHORT, small_world
from launched import Launched


@pytest.fixture(scope="session")
def cluster():
    """A real Slurm. Without one these tests prove nothing: they fail."""
    why = missing()
    if why:
        pytest.fail(f"no Slurm here: {why}")
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, Cluster(Path(folder), nodes=3) as started:
        yield started


@pytest.fixture
def whole(cluster):
    """The cluster with all its nodes up."""
    yield cluster
    for node in cluster.nodes:
        cluster.boot(node)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with ``runs/smallworld`` in it, and a site of nodes that have one rank each."""
    place = small_world(tmp_path_factory.mktemp("world"))
    (place / "site.yaml").write_text("ranks_per_node: 1\ncpus_per_rank: 1\ntime: '30'\ncpu: {time: '30'}\n")
    return place


@pytest.fixture(scope="session")
def prepared(cluster, world):
    """A run in which all is made that comes before training."""
    run = Launched(cluster, world, "prepared")
    for stage in ("tokenizer", "data", "convert"):
        run.here(stage, *SHORT)
    return run


@pytest.fixture(scope="session")
def long(cluster, world, prepared):
    """Words of a training that takes this machine a minute, whatever it is: more than two time limits leave it; what an
    unbroken one ended with."""
    pace = prepared.copy("pace")
    pace.here("train", *SHORT, "train.phases=[{steps: 40, lr: 1e-3}]", "train.log_every=1")
    seconds = pace.metrics()[-1]["seconds"] - pace.metrics()[9]["seconds"]
    steps = max(60, int(60 / (seconds / 30)))
    words = [*SHORT, f"train.phases=[{{steps: {steps}, lr: 1e-3}}]", "train.log_every=1", "train.attempts=0"]
    words += [f"train.save_every={max(5, steps // 10)}"]
    unbroken = prepared.copy("unbroken")
    unbroken.here("train", *words)
    return words, unbroken
