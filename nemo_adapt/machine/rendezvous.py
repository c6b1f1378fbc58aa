"""Where the ranks of a launcher meet: torch's store, held by the first rank's process, or by torchrun's."""

import functools
import os
import resource
from datetime import timedelta
from typing import Any

from nemo_adapt.errors import UserError

TIMEOUT = timedelta(hours=12)
"""How long a rank waits for another in a process group, or for a folder that the first rank has finished."""

MOST_PORT = (1 << 16) - 1
MOST_FILES = 1 << 16
"""Open files for any number of ranks; some programs become slow if the limit is a billion, as it is in containers."""


@functools.cache
def store() -> Any:
    """Return the store at MASTER_ADDR and MASTER_PORT. It returns on the first rank once all ranks are there.

    There is one for all purposes: its holder has an open connection to each rank. ``UserError`` where the variables do
    not name a place.
    """
    check_place()
    from torch.distributed.rendezvous import rendezvous

    allow_connections()
    found, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    return found


def check_place() -> None:
    """Raise ``UserError`` unless MASTER_ADDR and MASTER_PORT name the place where ranks meet. Slurm sets neither."""
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    wrong = "MASTER_ADDR is not set" if not host else "MASTER_PORT is not set" if not port else ""
    if not wrong and not (port.isascii() and port.isdigit() and 0 < int(port) <= MOST_PORT):
        wrong = f"MASTER_PORT={port} is not a port"
    if wrong:
        raise UserError(
            f"{wrong}: {os.environ.get('WORLD_SIZE')} ranks meet on the first one's host, at a port that is free "
            "there; set both as slurm/run.sbatch does, or start one process without srun"
        )


def allow_connections() -> None:
    """Raise this process's limit of open files, up to ``MOST_FILES``, as far as it may. A shell's is often 1,024, which
    Slurm passes on to the ranks; a thousand ranks are as many connections."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
