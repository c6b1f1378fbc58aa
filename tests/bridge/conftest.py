"""A run that is made for Bridge and trained here, and Bridge in its own virtual environment."""

import os
import subprocess
from pathlib import Path

import pytest
from helpers.command import nemo_adapt

from nemo_adapt.smallworld.make import make

PEER = Path(__file__).parent / "peer.py"
RUN = [
    "recipe=demo", "run.name=r", "model.path=runs/smallworld/base", "tokenizer.new_tokens=101", "train.seq_length=64",
    "train.global_batch=8", "train.micro_batch=4", "train.log_every=1", "train.phases=[{steps: 4, lr: 1e-3}]",
    "train.warmup_share=0.5", "parallel.tp=1", "parallel.sequence=false", "export.shard_mib=1",
    # Bridge's clipping and distributed optimizer know tensors on a GPU alone, its asynchronous saving needs one.
    "train.clip_grad=0", "train.distributed_optimizer=false", "train.async_save=false",
]  # fmt: skip
"""A vocabulary of 501 rows: it does not divide by 2."""


@pytest.fixture(scope="session")
def bridge():
    """``bridge("export", ...)`` has Bridge do something, at most five minutes long."""
    python = os.environ.get("NEMO_ADAPT_BRIDGE") or pytest.fail("run them by make test-bridge")

    def do(*words: object) -> None:
        done = subprocess.run([python, PEER, *map(str, words)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    return do


def ours(place: Path, *words: str) -> str:
    """A command of ours that has to work."""
    answer = nemo_adapt(*words, cwd=place)
    assert answer.code == 0, answer.out + answer.err
    return answer.out


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with the run ``runs/r``: its recipe for Bridge, and our own training and export of it."""
    place = tmp_path_factory.mktemp("bridge")
    make(place / "runs" / "smallworld", documents=1500, vocab=400, hidden=192, layers=2)
    for command in ("nemo-recipe", "train", "export"):
        ours(place, command, *RUN)
    return place


@pytest.fixture(scope="session")
def trained_by_bridge(place, bridge):
    """Bridge's training by our recipe: the file of its losses. Its checkpoints are in runs/r/nemo/checkpoints."""
    bridge("pretrain", place / "runs/r/nemo/recipe.py", place / "losses.json")
    return place / "losses.json"
