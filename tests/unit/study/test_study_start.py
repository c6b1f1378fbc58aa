"""Where the runs of a study come from: threads that fit the machine, and a process group of one without a port."""

import os
import subprocess
import sys

import pytest

from nemo_adapt.study import start


@pytest.mark.parametrize(("cores", "ranks", "threads"), [(8, 1, "8"), (8, 3, "2"), (2, 4, "1")])
def test_ranks_share_the_cores(monkeypatch, cores, ranks, threads):
    monkeypatch.setattr(start, "cores", lambda: cores)
    monkeypatch.setattr(os, "environ", {})
    start.context(ranks)
    assert os.environ["OMP_NUM_THREADS"] == threads
    os.environ["OMP_NUM_THREADS"] = "5"
    start.context(ranks)
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_a_rank_by_itself_needs_no_port():
    text = """
import torch, torch.distributed as dist
from nemo_adapt import devices
devices.start_ranks()
total = torch.ones(2, device=devices.best_device())
dist.all_reduce(total)
assert dist.get_world_size() == 1 and total.tolist() == [1, 1]
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
    done = subprocess.run(
        [sys.executable, "-c", text], env={**environment, **start.ALONE}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
