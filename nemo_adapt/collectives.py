"""Over the process group: one rank acts for all, or all ranks combine what each has."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from nemo_adapt import devices
from nemo_adapt.errors import UserError

EXPLAINED = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a file that cannot be written; the command says in one line what to do about them."""


def first_rank_does(action: Callable[..., Any], *arguments: Any) -> Any:
    """Run ``action(*arguments)`` on the first rank while the others wait; return its result on all ranks.

    A ``UserError`` or ``OSError`` there is raised on all ranks, an ``OSError`` as such if it is among ``EXPLAINED``,
    otherwise as a ``UserError``. Without a process group this process is the first rank.
    """
    if not dist.is_initialized():
        return action(*arguments)
    answer: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            answer[0] = action(*arguments)
        except (UserError, OSError) as error:
            is_explained = isinstance(error, OSError) and error.errno in EXPLAINED
            answer[1] = error if is_explained else UserError(str(error))
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def any_rank(*flags: bool) -> list[bool]:
    """Return for each of ``flags`` whether it is true on any rank."""
    asked = torch.tensor(flags, dtype=torch.int32, device=devices.best_device())
    dist.all_reduce(asked, dist.ReduceOp.MAX)
    return [bool(flag) for flag in asked.tolist()]


def limit_waiting(minutes: float) -> None:
    """From now on, fail in a collective, of any process group, whose other ranks are not there within ``minutes`` (0:
    keep ``rendezvous.TIMEOUT``). As in torchtitan, training has a shorter limit than the preparation."""
    for group in dist.distributed_c10d._world.pg_map if minutes else ():
        dist.distributed_c10d._set_pg_timeout(timedelta(minutes=minutes), group)


@contextmanager
def timeout_explained() -> Iterator[None]:
    """Context: raise gloo's error about a rank that is not in time as ``UserError``; NCCL ends the process itself."""
    try:
        yield
    except RuntimeError as error:
        if "Timed out waiting" not in str(error):
            raise
        raise UserError(
            "train: a rank waited for another longer than train.max_wait_minutes: a process hangs, or its node is too "
            "slow. Run the same command to go on from the last checkpoint"
        ) from None


def all_gather(mine: Any) -> list[Any]:
    """Return the ``mine`` of every rank, by rank; without a process group, this process's alone."""
    if not dist.is_initialized():
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found
