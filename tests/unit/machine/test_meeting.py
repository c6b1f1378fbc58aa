"""The store where ranks meet."""

import subprocess
import sys

MANY = """
import os, resource
from datetime import timedelta
from torch.distributed import TCPStore
from nemo_adapt.machine import meeting

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (24, most))
held = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as the first rank of others would
os.environ |= {"RANK": "1", "WORLD_SIZE": "40", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(held.port)}
meeting.store()
few = timedelta(seconds=20)
others = [TCPStore("127.0.0.1", held.port, wait_for_workers=False, timeout=few) for _ in range(40)]
others[-1].set("key", "value")
print(meeting.store() is meeting.store(), held.get("key").decode())
"""


def test_a_rank_can_have_more_connections_than_its_shell_has_open_files():
    """Slurm gives ranks the limits of the shell that submitted the job, often 1,024."""
    answer = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=300)
    assert answer.stdout == "True value\n", answer.stderr
