"""Which GPUs of a machine a rank uses, and which a run of a study uses."""

import os
import re
from pathlib import Path

from nemo_adapt.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""CUDA's variable: the GPUs that a process sees, by number or UUID."""
SIGNS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvmap", "/dev/dxg")
"""One of these exists where CUDA has a device: NVIDIA's driver, also in a container; a Jetson's; Windows' in WSL 2."""


def may_exist() -> bool:
    """Return whether this process may see a GPU: without the time that it takes to import torch, which knows."""
    return os.environ.get(VISIBLE) != "" and any(Path(sign).exists() for sign in SIGNS)


def check_enough(ranks: int, gpus: int) -> None:
    """Raise ``UserError`` if this machine has GPUs, but fewer than ranks; without any, ranks compute on the CPU."""
    if 0 < gpus < ranks:
        raise UserError(
            f"{ranks} ranks on a machine of {gpus} {'GPU' if gpus == 1 else 'GPUs'}, and each takes one: start fewer "
            f"(parallel.tp, pp, cp, dp), take more machines, or set {VISIBLE}= to compute on the CPU"
        )


def of_this_rank(gpus: int) -> int:
    """Return the number of this rank's GPU among the ``gpus`` that it sees; ``UserError`` if they are too few.

    Where Slurm binds one GPU to each task, every rank sees only its own. Under torchrun, LOCAL_WORLD_SIZE is the number
    of ranks that see the same GPUs.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    check_enough(int(os.environ.get("LOCAL_WORLD_SIZE", "0")) or (rank + 1 if gpus > 1 else 1), gpus)
    return rank % gpus


def check_distinct(nccl_error: str) -> None:
    """Raise ``UserError`` where NCCL has found that two ranks use the same GPU.

    A rank that sees a single GPU cannot know whether Slurm has bound it to this rank or shows it to the whole node.
    """
    if found := re.search(r"Duplicate GPU detected : (rank \d+ and rank \d+)", nccl_error):  # NCCL's init.cc
        raise UserError(
            f"{found[1]} have taken the same GPU: ask for as many GPUs of a node as tasks (--gpus-per-node), "
            "or bind one to each (--gpus-per-task=1)"
        )


def of_run(slot: int, ranks: int, gpus: int) -> dict[str, str]:
    """Return the variable for a run of ``ranks`` in ``slot`` (from 0) of the concurrent runs: its own GPUs or, where
    there are too few, GPUs shared evenly. Empty for a machine without GPUs, or a run that uses all."""
    if ranks >= gpus:
        return {}
    given = os.environ.get(VISIBLE)
    seen = given.split(",") if given else [str(number) for number in range(gpus)]
    return {VISIBLE: ",".join(seen[(slot * ranks + number) % gpus] for number in range(ranks))}
