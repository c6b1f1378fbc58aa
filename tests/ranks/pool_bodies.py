"""Code of the ranks in tests of their pool."""

import torch.distributed as dist


def wait_for_one_that_fails(rank: int) -> None:
    """Raise on rank 1; the others wait in vain at a barrier."""
    if rank == 1:
        raise ValueError("it has failed")
    dist.barrier()


def say(rank: int, word: str) -> str:
    """Return the word with this rank's number."""
    return f"{word} {rank}"
