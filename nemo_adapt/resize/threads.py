"""Work on blocks of rows on a CPU: threads that take whole blocks, where torch would split each operation.

Operations on a block last a fraction of a millisecond. Torch lets its threads wait for each other after every one,
which on cores that have other work to do takes a hundred times as long as the work itself.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch's operations of the caller use no further threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def share_out(work: Callable[[list[int]], None], items: list[int], device: torch.device) -> None:
    """Call ``work`` with parts of ``items``: one for each thread that torch would use; on a GPU with all of them."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1 or len(items) <= 1:
        work(items)
        return

    def alone(part: list[int]) -> None:
        torch.set_num_threads(1)  # of this thread
        work(part)

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(alone, (items[number::threads] for number in range(threads))))
    finally:
        torch.set_num_threads(threads)
