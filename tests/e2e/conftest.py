"""One small world for the end-to-end tests, and the words that make the road short."""

import pytest
from helpers.command import nemo_adapt

from nemo_adapt.smallworld.make import make


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with ``runs/smallworld`` in it: little text and a tiny untrained English model."""
    place = tmp_path_factory.mktemp("world")
    make(place / "runs" / "smallworld", documents=1500, vocab=400, hidden=192, layers=2)
    return place


SHORT = [
    "recipe=demo",
    "model.path=runs/smallworld/base",
    "tokenizer.new_tokens=100",
    "train.seq_length=64",
    "train.global_batch=8",
    "train.micro_batch=8",
    "train.log_every=2",
    "evaluate.max_bytes=2000",
    "evaluate.context=512",
    "export.shard_mib=1",
]


@pytest.fixture(scope="session")
def short():
    """Words of a run that takes seconds: ``nemo-adapt run`` with ``[*short, "run.name=..."]``."""
    return SHORT


@pytest.fixture(scope="session")
def prepared(world, short):
    """The name of a run in which all is made that comes before training, stage by stage."""
    for stage in ("tokenizer", "data", "convert"):
        answer = nemo_adapt(stage, *short, "run.name=prepared", cwd=world)
        assert answer.code == 0 and "done in" in answer.out, answer.err
    return "prepared"
