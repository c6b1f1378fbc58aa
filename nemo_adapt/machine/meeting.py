"""Where the ranks of a launcher meet: torch's store, held by the first rank's process, or by torchrun's."""

import functools
import resource
from datetime import timedelta
from typing import Any

TIMEOUT = timedelta(hours=12)
"""How long a rank waits for another, which may be tokenizing a corpus."""

MOST_FILES = 1 << 16
"""Open files for any number of ranks; some programs become slow if the limit is a billion, as it is in containers."""


@functools.cache
def store() -> Any:
    """Return the store at MASTER_ADDR and MASTER_PORT. It returns on the first rank once all ranks are there.

    There is one for all purposes: its holder has an open connection to each rank.
    """
    from torch.distributed.rendezvous import rendezvous

    allow_connections()
    found, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    return found


def allow_connections() -> None:
    """Raise this process's limit of open files, up to ``MOST_FILES``, as far as it may. A shell's is often 1,024, which
    Slurm passes on to the ranks; a thousand ranks are as many connections."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
