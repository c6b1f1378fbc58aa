"""Ownership of a training's folder: only the latest start may write.

After a node failure, Slurm can requeue a job while a rank of the lost start still writes to the shared folder. Each
start therefore writes a token of its own into the folder; a process that finds another token has been replaced.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from nemo_adapt.collectives import first_rank_does
from nemo_adapt.errors import UserError, one_line
from nemo_adapt.files import write_json
from nemo_adapt.machine.starts import is_earlier, this_start
from nemo_adapt.training_files import FAILURE, OWNER

READS, PAUSE = 5, 2.0
"""Attempts to read the owner file before an I/O error ends the training, and the seconds between two of them."""


@dataclass(frozen=True)
class Fence:
    """One start's claim on a folder."""

    folder: Path
    token: str

    @classmethod
    def claim(cls, folder: Path) -> "Fence":
        """Claim ``folder`` for this start. A collective: all ranks get the same token.

        ``UserError`` if a later start of the same Slurm job has already claimed it, so that this one is obsolete.
        """
        token = first_rank_does(_claim, folder)
        return cls(folder, token)

    def check(self) -> None:
        """Raise ``UserError`` if another start has claimed the folder. For the first rank only, before it writes."""
        owner = _owner(self.folder)
        if owner["token"] != self.token:
            raise _replaced(self.folder, owner)

    def record_failure(self, error: Exception) -> None:
        """Note in the folder why this start ends, for ``status``. For the first rank only; another start's note stays,
        and a folder that cannot be written to matters less than the error."""
        why = str(error) if isinstance(error, UserError) else one_line(error)
        with contextlib.suppress(OSError):  # of reading or writing: it would hide the error
            owner = _owner(self.folder)
            if owner["token"] == self.token:
                write_json(self.folder / OWNER, {**owner, FAILURE: why})


def _claim(folder: Path) -> str:
    owner, now = _owner(folder), this_start()
    if is_earlier(now, than=owner):
        raise _replaced(folder, owner)
    token = secrets.token_hex(4)
    write_json(folder / OWNER, {"token": token, "ranks": dist.get_world_size(), **now})
    return token


def _owner(folder: Path) -> dict[str, Any]:
    for again in reversed(range(READS)):
        try:
            return dict(json.loads((folder / OWNER).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            break
        except OSError:  # a network file system that is briefly unavailable
            if not again:
                raise
            time.sleep(PAUSE)
    return {"token": None, "host": "nobody", "pid": 0}  # not written yet, or deleted meanwhile


def _replaced(folder: Path, owner: Mapping[str, Any]) -> UserError:
    return UserError(
        f"{folder} is now written by another start of this run (process {owner['pid']} on {owner['host']}): this one "
        "ends here, and saves nothing more"
    )
