"""Element-wise functions as single GPU kernels, which read and write each tensor once: made by ``torch.compile``."""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch

from nemo_adapt import devices
from nemo_adapt.console.progress import say
from nemo_adapt.machine import ranks

OPTIONS: dict[str, Any] = {"deterministic": True}
"""Of torch's compiler: a sum's order of additions does not depend on timings, so that a resumed training has the same
bits."""
DISABLED = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
"""torch's own variables that turn its compiler off."""


@functools.cache
def compiles() -> bool:
    """Return whether ``torch.compile`` makes kernels for this rank's device, found out by compiling a small function.

    It needs a GPU, Triton, and a C compiler with Python's headers, which nodes of a cluster may lack. Without them the
    same functions take more passes over memory.
    """
    if not devices.on_gpu() or any(os.environ.get(name) == "1" for name in DISABLED):
        return False
    try:
        return bool(compiled(_double)(torch.ones(2, device=devices.best_device())).sum() == 4)
    except Exception as error:  # of torch's compiler, of Triton, of the C compiler
        if ranks.is_first():
            why = str(error).strip().partition("\n")[0]
            say(f"torch.compile does not work here, so steps take longer: {why}")
        return False


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function``, which must be defined at the top of a module; its first call compiles it.

    Each of our functions is one graph, but that is not demanded: after many different shapes torch's compiler gives up,
    and calls the function as it is.
    """
    return torch.compile(function, options=OPTIONS)


def _double(numbers: torch.Tensor) -> torch.Tensor:
    return numbers * 2
