"""One small world for the end-to-end tests, and settings for a short run."""

import pytest
from helpers.forks import fork
from helpers.trainings import PATIENCE
from helpers.worlds import SHORT, small_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Return a folder with ``runs/smallworld`` in it."""
    return small_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def short():
    """Return settings of a run that takes seconds: ``nemo-adapt run`` with ``[*short, "run.name=..."]``."""
    return SHORT


@pytest.fixture(scope="session")
def prepared(world, short):
    """Run all stages before training, one by one; return the name of the run."""
    for stage in ("tokenizer", "data", "convert"):
        code, out = fork([stage, *short, "run.name=prepared"], world).end(PATIENCE)
        assert code == 0 and "done in" in out, out
    return "prepared"
