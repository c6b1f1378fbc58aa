"""Which GPUs of a machine a rank takes, and which a run of a study."""

import os
import re

from nemo_adapt.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""CUDA's variable: the GPUs that a process sees, by number or by name."""


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
