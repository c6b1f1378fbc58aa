"""Which GPUs of a machine a rank takes, and which a run of a study; what CUDA is told by the environment; whether
Transformer Engine is of use. Nothing here imports torch."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nemo_adapt import ranks
from nemo_adapt.config import ParallelConfig
from nemo_adapt.errors import UserError
from nemo_adapt.progress import say

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""CUDA's variable: the GPUs that a process sees, by number or by name."""
QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""What torch reads, and what it reads before 2.9."""
DRIVER = Path("/proc/driver/nvidia")
"""There where GPUs are, also in a container without ``nvidia-smi``."""
BLACKWELL = 10
"""The first number of its compute capability."""
ENGINE = "transformer_engine"


def settings(parallel: ParallelConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that a rank sets before torch is imported; what ``environment`` says is left as it is.

    GPUs before Blackwell are to begin kernels in the order in which they are asked for where ranks send while layers
    compute (TP, CP), or a product takes the whole GPU and what was to be sent beside it waits for its end
    (Megatron-LM's arguments.py). Memory is given out in segments that grow, so that less of it lies in pieces.
    """
    found = {}
    if not any(name in environment for name in ALLOCATOR):
        found = dict.fromkeys(ALLOCATOR, "expandable_segments:True")
    if parallel.tp * parallel.cp > 1 and QUEUES not in environment and _generation() < BLACKWELL:
        found[QUEUES] = "1"
    return found


def _generation() -> float:
    """The first number of the oldest GPU's compute capability; infinite without GPUs, 0 where it is not said.

    CUDA itself may have read the variables once it was asked.
    """
    program = shutil.which("nvidia-smi")
    if not program:
        return 0.0 if DRIVER.exists() else float("inf")
    words = [program, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        return min(float(line) for line in said.splitlines())
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0.0


def check_enough(ranks: int, gpus: int) -> None:
    """``UserError`` for more ranks on this machine than it has GPUs; without any, ranks compute on the CPU."""
    if 0 < gpus < ranks:
        raise UserError(
            f"{ranks} ranks on a machine of {gpus} {'GPU' if gpus == 1 else 'GPUs'}, and each takes one: start fewer "
            f"(parallel.tp, pp, cp, dp), take more machines, or set {VISIBLE}= to compute on the CPU"
        )


def of_this_rank(gpus: int) -> int:
    """The number of this rank's among the ``gpus`` that it sees.

    Where Slurm has bound one to each of its tasks, every rank sees its own alone. torchrun says how many ranks see the
    same.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    check_enough(int(os.environ.get("LOCAL_WORLD_SIZE", "0")) or (rank + 1 if gpus > 1 else 1), gpus)
    return rank % gpus


def check_distinct(nccl_error: str) -> None:
    """``UserError`` where NCCL has found that two ranks took one GPU.

    A rank that sees a single GPU cannot tell whether Slurm has bound it to that rank or shows it to all of the node.
    """
    if found := re.search(r"Duplicate GPU detected : (rank \d+ and rank \d+)", nccl_error):  # NCCL's init.cc
        raise UserError(
            f"{found[1]} have taken the same GPU: ask for as many GPUs of a node as tasks (--gpus-per-node), "
            "or bind one to each (--gpus-per-task=1)"
        )


def of_run(slot: int, ranks: int, gpus: int) -> dict[str, str]:
    """The variable for a run of ``ranks`` in a ``slot`` (from 0) of those that run at a time: GPUs of its own, or where
    there are not enough, those that the fewest share. Nothing for a machine without GPUs, or a run that takes all."""
    if ranks >= gpus:
        return {}
    given = os.environ.get(VISIBLE)
    seen = given.split(",") if given else [str(number) for number in range(gpus)]
    return {VISIBLE: ",".join(seen[(slot * ranks + number) % gpus] for number in range(ranks))}


@functools.cache
def engine_loads() -> bool:
    """Whether Transformer Engine is there and can be imported. If it cannot, it counts as not installed from now on:
    Megatron would end at it."""
    if importlib.util.find_spec(ENGINE) is None:
        return False
    try:
        importlib.import_module(f"{ENGINE}.pytorch")
    except Exception as error:  # each library has its own for what it does not find
        for name in [name for name in sys.modules if name.startswith(f"{ENGINE}.")]:
            del sys.modules[name]
        sys.modules[ENGINE] = None  # type: ignore[assignment]
        if ranks.is_first():
            why = str(error).strip().partition("\n")[0]
            say(f"Transformer Engine is installed, but cannot be imported and is not used: {why}")
        return False
    return True
