"""What ranks do in tests of their pool."""

import torch.distributed as dist


def wait_for_one_that_fails(rank: int) -> None:
    """The others wait for what never comes."""
    if rank == 1:
        raise ValueError("it has failed")
    dist.barrier()


def say(rank: int, word: str) -> str:
    """The word, of this rank."""
    return f"{word} {rank}"
