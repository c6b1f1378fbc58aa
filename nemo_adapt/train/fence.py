"""Who may write a training's folder: the start of it that came last, and not after several that came to nothing.

After a node fails, Slurm can start a job again while a rank of the lost one still writes to the shared folder. Each
start therefore puts a token of its own into the folder; whoever finds another's there has been replaced.
"""

import json
import os
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from nemo_adapt.artifact import write_json
from nemo_adapt.errors import UserError
from nemo_adapt.starts import is_earlier, this_start
from nemo_adapt.train.places import OWNER, STARTS
from nemo_adapt.train.together import first_rank_does

READS, PAUSE = 5, 2.0
"""How often the owner is asked for, and the seconds between, before a training ends because nobody answers."""


@dataclass(frozen=True)
class Fence:
    """One start's claim on a folder."""

    folder: Path
    token: str

    @classmethod
    def put(cls, folder: Path) -> "Fence":
        """Claim ``folder`` for this start. A collective: all ranks have the same token.

        ``UserError`` where a later start of the same Slurm job has claimed it: this one was slow, and is given up.
        """
        token = first_rank_does(_claim, folder)
        return cls(folder, token)

    def check(self) -> None:
        """``UserError`` if a later start has claimed the folder. Asked of the first rank alone, before it writes."""
        owner = _owner(self.folder)
        if owner["token"] != self.token:
            raise _replaced(self.folder, owner)


def _claim(folder: Path) -> str:
    owner, now = _owner(folder), this_start()
    if is_earlier(now, than=owner):
        raise _replaced(folder, owner)
    token = secrets.token_hex(4)
    who = {"host": platform.node(), "pid": os.getpid(), **now}
    write_json(folder / OWNER, {"token": token, "ranks": dist.get_world_size(), **who})
    return token


def _owner(folder: Path) -> dict[str, Any]:
    for again in reversed(range(READS)):
        try:
            return dict(json.loads((folder / OWNER).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            break
        except OSError:  # a file system of other machines that is away for a moment
            if not again:
                raise
            time.sleep(PAUSE)
    return {"token": None, "host": "nobody", "pid": 0}  # not there yet, or deleted under us


def _replaced(folder: Path, owner: Mapping[str, Any]) -> UserError:
    return UserError(
        f"{folder} is now written by another start of this run (process {owner['pid']} on {owner['host']}): this one "
        "ends here, and saves nothing more"
    )


def count_start(folder: Path, done: int, most: int, missing: str, advice: str) -> None:
    """Note a start that has ``done`` behind it, ``step`` in the file; ``UserError`` when ``most`` starts before it (0:
    any number) got no further: what is ``missing``, and what may help.

    For the first rank alone.
    """
    path = folder / STARTS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        before = {"step": -1, "starts": 0}
    starts = before["starts"] if before["step"] == done else 0
    if most and starts >= most:
        raise UserError(
            f"{folder}: {starts} starts in a row ended without {missing}: mend what stops them (the log says it), or "
            f"{advice}; then delete {path}"
        )
    write_json(path, {"step": done, "starts": starts + 1})
