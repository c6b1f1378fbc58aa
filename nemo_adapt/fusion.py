"""Element-wise functions as single GPU kernels, which read and write each tensor once: made by ``torch.compile``."""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch

from nemo_adapt import devices, ranks
from nemo_adapt.progress import say

DISABLED = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
"""torch's own variables that turn its compiler off."""


@functools.cache
def compiles() -> bool:
    """Return whether ``torch.compile`` makes kernels for this rank's device, found out by compiling a small function.

    It needs a GPU, Triton, and a C compiler with Python's headers, which nodes of a cluster may lack. Without them the
    same results take more passes over memory.
    """
    if not devices.on_gpu() or any(os.environ.get(name) == "1" for name in DISABLED):
        return False
    try:
        return bool(compiled(_double)(torch.ones(2, device=devices.best_device())).sum() == 4)
    except Exception as error:  # of torch's compiler, of Triton, of the C compiler
        if ranks.is_first():
            why = str(error).strip().partition("\n")[0]
            say(f"torch.compile does not work here, so steps take longer (a C compiler may be missing): {why}")
        return False


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function``, which must be defined at the top of a module, compiled as one graph at its first call."""
    return torch.compile(function, fullgraph=True)


def _double(numbers: torch.Tensor) -> torch.Tensor:
    return numbers * 2
