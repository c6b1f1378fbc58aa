"""The store where ranks meet."""

import subprocess
import sys

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.machine import ranks
from nemo_adapt.run import store_broadcast

MANY = """
import os, resource
from datetime import timedelta
from torch.distributed import TCPStore
from nemo_adapt.machine import rendezvous

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (24, most))
held = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as the first rank of others would
os.environ |= {"RANK": "1", "WORLD_SIZE": "40", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(held.port)}
rendezvous.store()
few = timedelta(seconds=20)
others = [TCPStore("127.0.0.1", held.port, wait_for_workers=False, timeout=few) for _ in range(40)]
others[-1].set("key", "value")
print(rendezvous.store() is rendezvous.store(), held.get("key").decode())
"""


def test_a_rank_can_have_more_connections_than_its_shell_has_open_files():
    """Slurm gives ranks the limits of the shell that submitted the job, often 1,024."""
    answer = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=300)
    assert answer.stdout == "True value\n", answer.stderr


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ({}, "MASTER_ADDR is not set: 2 ranks meet"),
        ({"MASTER_ADDR": "n1"}, "MASTER_PORT is not set: 2 ranks meet"),
        ({"MASTER_ADDR": "n1", "MASTER_PORT": "abc"}, "MASTER_PORT=abc is not a port: 2 ranks meet"),
        ({"MASTER_ADDR": "n1", "MASTER_PORT": "65536"}, "MASTER_PORT=65536 is not a port: 2 ranks meet"),
    ],
)
def test_ranks_that_are_not_told_where_to_meet_get_one_line(monkeypatch, place, says):
    """``srun -n2 nemo-adapt ...`` within salloc. Before anything is read."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    for name, value in {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", **place}.items():
        monkeypatch.setenv(name, value)
    ranks.adopt_slurm()
    read = []
    with pytest.raises(UserError) as error:
        store_broadcast.first_rank_alone(lambda: read.append(1))
    assert str(error.value).startswith(f"{says} on the first one's host") and not read
