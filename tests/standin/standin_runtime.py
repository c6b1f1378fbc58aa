"""``torch.cuda`` for GPUs simulated in main memory."""

import ctypes
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch

NAME = "stand-in"
MEMORY = 80 << 30
"""Reported bytes of memory, as of an H100."""
MATMUL_RATE = 1e11
"""Reported FLOP/s of matrix products; measuring them would take minutes."""


def install(library: ctypes.CDLL, count: int) -> None:
    """Replace functions of ``torch.cuda``, which would find no GPU, by ones that report ``count`` GPUs."""
    library.standin_live.restype = library.standin_peak.restype = ctypes.c_int64
    facts = SimpleNamespace(name=NAME, total_memory=MEMORY, major=9, minor=0, multi_processor_count=1)
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *unused: True,
        "is_current_stream_capturing": lambda: False,
        "_lazy_init": lambda: None,
        "_lazy_call": lambda call, **unused: call(),
        "device_count": lambda: count,
        "current_device": lambda: library.standin_device(),
        "set_device": lambda device: library.standin_use_device(torch.device(device).index or 0),
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: facts,
        "get_device_capability": lambda device=None: (facts.major, facts.minor),
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: library.standin_live(),
        "max_memory_allocated": lambda device=None: library.standin_peak(),
        # Operations are synchronous, so streams and events do nothing.
        "current_stream": lambda device=None: MagicMock(),
        "stream": lambda stream: nullcontext(),
        "Stream": MagicMock,
        "Event": MagicMock,
        "default_generators": [torch.default_generator] * count,
    }
    random = {  # distinct functions, as torch's compiler keeps them in a table
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda new_state, device=None: torch.set_rng_state(new_state),
        "manual_seed": lambda seed: torch.default_generator.manual_seed(seed),
        "manual_seed_all": lambda seed: torch.default_generator.manual_seed(seed),
        "initial_seed": lambda: torch.default_generator.initial_seed(),
    }
    for module, named in ((torch.cuda, answers | random), (torch.cuda.random, random)):
        for name, answer in named.items():
            setattr(module, name, answer)
    torch.cuda.nccl.version = lambda: (0, 0, 0)

    from nemo_adapt import devices

    devices.matmul_rate = lambda dtype: MATMUL_RATE
