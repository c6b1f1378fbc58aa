"""What megatron-core needs to run on a CPU, where it assumes CUDA:

- ``torch.cuda.current_device`` and related functions, which its constructors call to get a device;
- tensors that six of its modules create with ``device="cuda"``;
- the random-number tracker, which stores CUDA generator states: on a CPU it uses the default generator;
- the type strings ``torch.cuda.FloatTensor`` that its optimizers and gradient clipping compare with.

``devices.limit_imports`` does the rest, before megatron-core is imported.
"""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import Any

import torch

MODULES_THAT_NAME_CUDA = (
    "megatron.core.distributed.param_and_grad_buffer",
    "megatron.core.optimizer.clip_grads",
    "megatron.core.optimizer.optimizer",
    "megatron.core.pipeline_parallel.schedules",
    "megatron.core.transformer.utils",
    "megatron.core.utils",
)


class _TorchWithoutCuda:
    """Replaces ``torch`` in the modules that write ``device="cuda"``: creates those tensors on the CPU."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(torch, name)
        if name not in ("tensor", "zeros", "ones"):
            return value

        def make(*args: Any, **kwargs: Any) -> torch.Tensor:
            if kwargs.get("device") == "cuda":
                kwargs["device"] = "cpu"
            return value(*args, **kwargs)

        return make


def replace_cuda_functions() -> None:
    """Replace the functions of torch with which Megatron queries the current device and creates tensors on it."""
    cpu = torch.device("cpu")
    answers = {
        "current_device": lambda: cpu,
        "current_stream": lambda device=None: None,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "manual_seed": lambda seed: torch.default_generator.manual_seed(seed),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]
    for module in MODULES_THAT_NAME_CUDA:
        vars(importlib.import_module(module))["torch"] = _TorchWithoutCuda()


def use_cpu_generator(megatron_random: Any) -> None:
    """Make Megatron's tracker of random states save and restore those of the CPU."""
    megatron_random._get_cuda_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    megatron_random._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)


@contextlib.contextmanager
def _types_named_cuda() -> Iterator[None]:
    """Context: ``tensor.type()`` names a CPU tensor's type as if it were on a GPU."""
    plain = torch.Tensor.type

    def named(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        answer = plain(self, *args, **kwargs)
        return answer.replace("torch.", "torch.cuda.", 1) if isinstance(answer, str) else answer

    torch.Tensor.type = named  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.Tensor.type = plain  # type: ignore[method-assign]


def accept_cpu_types() -> None:
    """Let the functions of Megatron that compare type strings take CPU tensors for those of a GPU."""
    from megatron.core.optimizer import clip_grads, optimizer
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    def wrap(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def outer(*args: Any, **kwargs: Any) -> Any:
            with _types_named_cuda():
                return inner(*args, **kwargs)

        setattr(owner, name, outer)

    wrap(clip_grads, "clip_grad_by_total_norm_fp32")
    optimizer.clip_grad_by_total_norm_fp32 = clip_grads.clip_grad_by_total_norm_fp32
    wrap(DistributedOptimizer, "__init__")
    wrap(optimizer.Float16OptimizerWithFloat16Params, "__init__")
