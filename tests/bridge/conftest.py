"""A run prepared for Bridge and trained by us, and Bridge in its own virtual environment."""

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
    # Bridge's clipping, distributed optimizer and asynchronous saving work only on a GPU.
    "train.clip_grad=0", "train.distributed_optimizer=false", "train.async_save=false",
]  # fmt: skip
"""The vocabulary has 501 rows, which is not divisible by 2."""


@pytest.fixture(scope="session")
def bridge():
    """``bridge("export", ...)`` runs a command of ``peer.py`` for at most five minutes."""
    python = os.environ.get("NEMO_ADAPT_BRIDGE") or pytest.fail("run them by make test-bridge")

    def do(*words: object) -> None:
        done = subprocess.run([python, PEER, *map(str, words)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    return do


def ours(place: Path, *words: str) -> str:
    """Run a command of ours, which must succeed; return its stdout."""
    answer = nemo_adapt(*words, cwd=place)
    assert answer.code == 0, answer.out + answer.err
    return answer.out


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Return a folder with the run ``runs/r``: its recipe for Bridge, our training and our export of it."""
    place = tmp_path_factory.mktemp("bridge")
    make(place / "runs" / "smallworld", documents=1500, vocab=400, hidden=192, layers=2)
    for command in ("nemo-recipe", "train", "export"):
        ours(place, command, *RUN)
    return place


@pytest.fixture(scope="session")
def trained_by_bridge(place, bridge):
    """Train with our recipe in Bridge; return the file of losses. The checkpoints are in runs/r/nemo/checkpoints."""
    bridge("pretrain", place / "runs/r/nemo/recipe.py", place / "losses.json")
    return place / "losses.json"
