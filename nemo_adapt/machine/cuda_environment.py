"""Environment variables for CUDA and torch's allocator. They must be set before torch is imported: not done here."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nemo_adapt.config import ParallelConfig

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Settings of torch's allocator: the variable, and its name before torch 2.9."""
DRIVER = Path("/proc/driver/nvidia")
"""Exists on machines with NVIDIA GPUs, also in a container without ``nvidia-smi``."""
BLACKWELL = 10
"""Major compute capability of the Blackwell generation."""


DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "^NVLS"}
"""What results that do not depend on timing need of cuBLAS (its manual, "Results Reproducibility") and of NCCL
(Megatron-LM's ``--deterministic-mode``, arguments.py)."""
ENGINE = "NVTE_ALLOW_NONDETERMINISTIC_ALGO"
"""The same for Transformer Engine, which Megatron requires to be 0."""


def set_up(parallel: ParallelConfig, deterministic: bool = False) -> None:
    """Set this rank's variables; call before torch is imported."""
    os.environ.update(settings(parallel, os.environ, deterministic))


def settings(parallel: ParallelConfig, environment: Mapping[str, str], deterministic: bool = False) -> dict[str, str]:
    """Return the variables that a rank needs, without those that ``environment`` sets already.

    ``deterministic``: as in ``TrainConfig``.

    Where ranks communicate while layers compute (TP, CP), GPUs before Blackwell must start kernels in launch order:
    otherwise a matrix product occupies the whole GPU, and the communication that should overlap with it waits until it
    ends (Megatron-LM's arguments.py). The allocator uses expandable segments, which reduces fragmentation.
    """
    found = {}
    if deterministic:
        found = {name: value for name, value in DETERMINISTIC.items() if name not in environment} | {ENGINE: "0"}
    if not any(name in environment for name in ALLOCATOR):
        found |= dict.fromkeys(ALLOCATOR, "expandable_segments:True")
    if parallel.tp * parallel.cp > 1 and QUEUES not in environment and _compute_capability() < BLACKWELL:
        found[QUEUES] = "1"
    return found


def _compute_capability() -> float:
    """Return the oldest GPU's compute capability, such as 9.0; infinity without GPUs, 0 where it is unknown.

    This asks ``nvidia-smi``, because CUDA, once initialized, may have read the variables already.
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
