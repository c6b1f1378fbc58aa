"""Processes that work together: started here by torchrun's launcher, or already there (torchrun, Slurm)."""

import json
import os
import sys
import time
from pathlib import Path

from nemo_adapt.errors import UserError

USER_ERROR = 2
"""Exit code for the user's mistakes."""
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

    When one fails, the others are ended. Raises its ``UserError`` here; for anything else, which the rank has printed
    with its traceback, ``SystemExit``.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from nemo_adapt.devices import cores_per_rank

    os.environ.setdefault("OMP_NUM_THREADS", str(cores_per_rank(count)))
    config = LaunchConfig(
        run_id="nemo_adapt",
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
        failure = error.get_first_failure()[1]
        if failure.exitcode == USER_ERROR and failure.message:
            raise UserError(failure.message) from None
        raise SystemExit(1) from None


def report(error: UserError) -> None:
    """In a rank that ``launch`` started: leave the error's line where the launcher finds it."""
    path = Path(os.environ["TORCHELASTIC_ERROR_FILE"])
    path.write_text(json.dumps({"message": str(error), "timestamp": int(time.time())}), encoding="utf-8")


def wait_for_first(folder: Path, fingerprint: str, timeout_seconds: float = 12 * 3600) -> None:
    """Wait until the first rank has finished a stage's folder (seen through the shared file system)."""
    from nemo_adapt.artifact import read_manifest

    until = time.monotonic() + timeout_seconds
    while read_manifest(folder).get("fingerprint") != fingerprint:
        if time.monotonic() > until:
            raise UserError(f"{folder} was not finished by the first rank in {timeout_seconds:.0f} s")
        time.sleep(0.5)
