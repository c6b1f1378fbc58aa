"""What CUDA and torch's allocator are told by the environment. Nothing here imports torch: it comes before that."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nemo_adapt.config import ParallelConfig

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""What torch reads, and what it reads before 2.9."""
DRIVER = Path("/proc/driver/nvidia")
"""There where GPUs are, also in a container without ``nvidia-smi``."""
BLACKWELL = 10
"""The first number of its compute capability."""


def set_up(parallel: ParallelConfig) -> None:
    """Set this rank's variables, before torch is imported."""
    os.environ.update(settings(parallel, os.environ))


def settings(parallel: ParallelConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a rank needs; what ``environment`` says is left as it is.

    GPUs before Blackwell are to begin kernels in the order in which they are asked for where ranks send while layers
    compute (TP, CP), or a product takes the whole GPU and what was to be sent beside it waits for its end
    (Megatron-LM's arguments.py). Memory is given out in segments that grow, so that less of it lies in pieces.
    """
    found = {}
    if not any(name in environment for name in ALLOCATOR):
        found = dict.fromkeys(ALLOCATOR, "expandable_segments:True")
    if parallel.tp * parallel.cp > 1 and QUEUES not in environment and _generation() < BLACKWELL:
        found[QUEUES] = "1"
    return found


def _generation() -> float:
    """The first number of the oldest GPU's compute capability; infinite without GPUs, 0 where it is not said.

    CUDA itself may have read the variables once it was asked.
    """
    program = shutil.which("nvidia-smi")
    if not program:
        return 0.0 if DRIVER.exists() else float("inf")
    words = [program, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        return min(float(line) for line in said.splitlines())
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0.0
