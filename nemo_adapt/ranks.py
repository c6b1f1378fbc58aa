"""Processes that work together: started here by torchrun's launcher, or already there (torchrun, Slurm)."""

import os
import sys
from pathlib import Path

from nemo_adapt.errors import UserError

SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def adopt_slurm() -> None:
    """Under ``srun`` with several tasks, name this rank in torchrun's variables (MASTER_ADDR is the job's to set)."""
    if "RANK" not in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        for name, slurm in SLURM.items():
            os.environ[name] = os.environ[slurm]


def already_started() -> bool:
    """True in a process that a launcher started as one of several ranks."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """True in the process that does what is done once: rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def launch(count: int, arguments: list[str]) -> None:
    """Run ``python -m nemo_adapt ARGUMENTS`` on ``count`` ranks of this machine and wait for them.

    A rank that fails has printed why; ``SystemExit`` with its exit code follows, and the others are ended.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from nemo_adapt.devices import cores_per_rank

    os.environ.setdefault("OMP_NUM_THREADS", str(cores_per_rank(count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "nemo_adapt", *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        raise SystemExit(code if 0 < code < 128 else 1) from None


def wait_for_first(folder: Path, fingerprint: str, timeout_seconds: float = 12 * 3600) -> None:
    """Wait until the first rank has finished a stage's folder (seen through the shared file system)."""
    import time

    from nemo_adapt.artifact import read_manifest

    until = time.monotonic() + timeout_seconds
    while read_manifest(folder).get("fingerprint") != fingerprint:
        if time.monotonic() > until:
            raise UserError(f"{folder} was not finished by the first rank in {timeout_seconds:.0f} s")
        time.sleep(0.5)
