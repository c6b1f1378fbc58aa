"""Work on blocks of rows on a CPU: threads that take whole blocks, where torch would split each operation.

An operation on a block takes a fraction of a millisecond. Torch synchronizes its threads after every one, which on busy
cores takes a hundred times as long as the work itself.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run the caller's torch operations on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_in_threads(work: Callable[[list[int]], None], items: list[int], device: torch.device) -> None:
    """Call ``work`` with a share of ``items`` in each of torch's number of threads; on a GPU, once with all of them."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1 or len(items) <= 1:
        work(items)
        return

    def alone(part: list[int]) -> None:
        torch.set_num_threads(1)  # set per thread
        work(part)

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(alone, (items[number::threads] for number in range(threads))))
    finally:
        torch.set_num_threads(threads)
