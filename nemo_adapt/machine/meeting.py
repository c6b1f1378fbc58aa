"""Where the ranks of a launcher meet: torch's store, held by the first rank's process, by torchrun's, or in a file."""

import functools
import os
import resource
from datetime import timedelta
from typing import Any

TIMEOUT = timedelta(hours=12)
"""How long a rank waits for another, which may be tokenizing a corpus."""

STORE_FILE = "NEMO_ADAPT_STORE_FILE"
"""Variable of the ranks that we have started on one machine: the store's file, which needs no free port."""

MOST_FILES = 1 << 16
"""Open files for any number of ranks; some programs become slow if the limit is a billion, as it is in containers."""


@functools.cache
def store() -> Any:
    """Return the store at MASTER_ADDR and MASTER_PORT, or in ``STORE_FILE``. It returns on the first rank once all
    ranks are there.

    There is one for all purposes: its holder has an open connection to each rank.
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    allow_connections()
    if file := os.environ.get(STORE_FILE):
        return dist.FileStore(file, int(os.environ["WORLD_SIZE"]))  # type: ignore[attr-defined]
    found, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    return found


def allow_connections() -> None:
    """Raise this process's limit of open files, up to ``MOST_FILES``, as far as it may. A shell's is often 1,024, which
    Slurm passes on to the ranks; a thousand ranks are as many connections."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
