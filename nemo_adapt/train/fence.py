"""Who may write a training's folder: the start of it that came last, and not after several that came to nothing.

After a node fails, Slurm can start a job again while a rank of the lost one still writes to the shared folder. Each
start therefore puts a token of its own into the folder; whoever finds another's there has been replaced.
"""

import json
import os
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from nemo_adapt.artifact import write_json
from nemo_adapt.errors import UserError
from nemo_adapt.train.places import OWNER, STARTS


@dataclass(frozen=True)
class Fence:
    """One start's claim on a folder."""

    folder: Path
    token: str

    @classmethod
    def put(cls, folder: Path) -> "Fence":
        """Claim ``folder`` for this start. A collective: all ranks have the same token."""
        token = [secrets.token_hex(4)]
        dist.broadcast_object_list(token)
        if dist.get_rank() == 0:
            who = {"host": platform.node(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
            write_json(folder / OWNER, {"token": token[0], "ranks": dist.get_world_size(), **who})
        return cls(folder, token[0])

    def check(self) -> None:
        """``UserError`` if a later start has claimed the folder. Asked of the first rank alone, before it writes."""
        try:
            owner = json.loads((self.folder / OWNER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            owner = {"token": None, "host": "nobody", "pid": 0}  # deleted under us
        if owner["token"] != self.token:
            raise UserError(
                f"{self.folder} is now written by another start of this run (process {owner['pid']} on "
                f"{owner['host']}): this one ends here, and saves nothing more"
            )


def count_start(folder: Path, step: int, most: int) -> None:
    """Note a start from ``step``; ``UserError`` when ``most`` starts before it (0: any number) got no further.

    For the first rank alone.
    """
    path = folder / STARTS
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"step": -1, "starts": 0}
    starts = before["starts"] if before["step"] == step else 0
    if most and starts >= most:
        raise UserError(
            f"{folder}: {starts} starts in a row ended without a checkpoint after step {step}: mend what stops them "
            f"(the log says it), or save more often (train.save_every, train.save_minutes); then delete {path}"
        )
    write_json(path, {"step": step, "starts": starts + 1})
