"""Fixtures for all tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.rank_pool import RankPool
from hypothesis import settings

from nemo_adapt import devices

settings.register_profile("no bounds of time", deadline=None)
settings.load_profile("no bounds of time")

REPOSITORY = Path(__file__).parent.parent
NEED = {"bridge": "NEMO_ADAPT_BRIDGE", "standin": "NEMO_ADAPT_STANDIN"}
"""Folder of tests -> the variable that ``make test-bridge`` or ``make test-standin`` sets; skipped without it."""
collect_ignore = [folder for folder, variable in NEED.items() if variable not in os.environ]


@pytest.fixture(scope="session")
def ranks() -> Iterator[Callable[[int], RankPool]]:
    """``ranks(2)``: the pool of two ranks, started on first use; skips the test on a machine with too few GPUs."""
    pools: dict[int, RankPool] = {}
    gpus = torch.cuda.device_count() if devices.on_gpu() else None

    def pool(size: int) -> RankPool:
        if gpus is not None and size > gpus:
            pytest.skip(f"needs {size} GPUs, there is {gpus}")
        return pools.setdefault(size, RankPool(size))

    yield pool
    for each in pools.values():
        each.close()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with real text, tokenizers and a small trained model; skips the test if there is none."""
    folder = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
    folder = folder if folder.is_absolute() else REPOSITORY / folder
    if not folder.is_dir():
        pytest.skip("no real data here: set NEMO_ADAPT_DATA")
    return folder
