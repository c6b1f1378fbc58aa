"""The device file: the only one that calls torch.cuda or names a backend; with ``patches``, all that patches Megatron.

On a GPU machine Megatron runs as it was written. On a CPU, ``prepare_megatron`` closes the few seams where
megatron-core assumes CUDA:

- ``torch.cuda.current_device`` and friends, which its constructors ask for a device;
- tensors that six of its modules create with ``device="cuda"``;
- the random-number tracker, which keeps CUDA generator states: on a CPU the default generator stands for it;
- the type strings ``torch.cuda.FloatTensor`` that its optimizers and gradient clipping compare with;
- the Adam of Transformer Engine or apex, which it takes wherever that can be imported, and torch's compiler, which its
  imports ask for (``limit_imports``).

On both, ``patches`` replaces what megatron-core does wrong or in vain.
"""

import atexit
import contextlib
import functools
import importlib
import importlib.util
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from nemo_adapt import engine_import, gpus, patches

TIMEOUT = timedelta(hours=12)
"""How long a rank waits for another: one may be tokenizing a corpus."""

_MODULES_THAT_NAME_CUDA = (
    "megatron.core.distributed.param_and_grad_buffer",
    "megatron.core.optimizer.clip_grads",
    "megatron.core.optimizer.optimizer",
    "megatron.core.pipeline_parallel.schedules",
    "megatron.core.transformer.utils",
    "megatron.core.utils",
)


def on_gpu() -> bool:
    """True when this machine has a CUDA device."""
    return torch.cuda.is_available()


def gpu_count() -> int:
    """GPUs that this process sees."""
    return torch.cuda.device_count() if on_gpu() else 0


def best_device() -> torch.device:
    """The device that this process computes on."""
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu() else torch.device("cpu")


def has_transformer_engine() -> bool:
    """True when Transformer Engine can be used; its layers then replace ours."""
    return on_gpu() and engine_import.engine_loads()


def has_apex() -> bool:
    """True when NVIDIA's apex is installed with its kernels; a package of that name alone may be another."""
    return importlib.util.find_spec("amp_C") is not None and importlib.util.find_spec("apex") is not None


def limit_imports() -> None:
    """Without a GPU, Transformer Engine and apex count as not installed; with one, so does a Transformer Engine that
    cannot be imported. Call before megatron-core is imported.

    It takes their Adam and their clipping wherever they can be imported, as on a node to log in to. Nor is anything
    compiled there: to mark its functions alone imports torch's compiler, which is slow.
    """
    if on_gpu():
        has_transformer_engine()  # one that cannot be imported counts as not installed from here on
        return
    for name in ("transformer_engine", "apex", "amp_C", "fused_weight_gradient_mlp_cuda"):
        sys.modules[name] = None  # type: ignore[assignment]  # Python's way to say that it is not there
    torch.compile = _uncompiled  # type: ignore[assignment]
    # A torch that was built for GPUs warns that there is none, when it is asked whether extensions can be compiled.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _uncompiled(function: Any = None, **options: Any) -> Any:
    """``torch.compile`` that compiles nothing; without a function, a decorator of one."""
    return function or _uncompiled


def facts() -> dict[str, Any]:
    """What torch says of this machine: ``gpus`` (name, memory in MiB), ``versions`` of what it was built with, the
    ``backends`` of process groups, and the one that is used."""
    on, backends = on_gpu(), {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available()}
    properties = [torch.cuda.get_device_properties(number) for number in range(gpu_count())]
    versions = {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if on and backends["nccl"] else None,
    }
    return {
        "gpus": [{"name": each.name, "memory_mib": each.total_memory >> 20} for each in properties],
        "versions": versions,
        "backends": [name for name, is_there in backends.items() if is_there],
        "backend": "nccl" if on else "gloo",
    }


def synchronize() -> None:
    """Wait for the device, so that a clock read next tells the truth."""
    if on_gpu():
        torch.cuda.synchronize()


def peak_memory_mib() -> int | None:
    """Most memory of this process's GPU that was in use so far, MiB; ``None`` without one."""
    return torch.cuda.max_memory_allocated() >> 20 if on_gpu() else None


@functools.cache
def matmul_rate(dtype: torch.dtype) -> float:
    """What this device reaches in large matrix products, in floating-point operations a second."""
    size, times = (8192, 20) if on_gpu() else (1024, 4)
    left, right = (torch.randn(size, size, dtype=dtype, device=best_device()) for _ in range(2))
    best = 0.0
    for _ in range(times):
        synchronize()
        began = time.perf_counter()
        left @ right
        synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


@contextlib.contextmanager
def varying_shapes() -> Iterator[None]:
    """While it lasts, attention leaves cuDNN alone, which makes a plan for each new shape (up to a second)."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def start_ranks() -> None:
    """Join the process group that the environment describes (RANK, WORLD_SIZE, LOCAL_RANK; of several, MASTER_ADDR).

    Raises ``UserError`` where there are GPUs, but not one for each rank.
    """
    if dist.is_initialized():
        return
    meeting: dict[str, Any] = {"timeout": TIMEOUT}
    if os.environ.get("WORLD_SIZE") == "1":  # needs no port, which another one beside it may have
        meeting |= {"store": dist.HashStore(), "rank": 0, "world_size": 1}  # type: ignore[attr-defined]
    if on_gpu():
        torch.cuda.set_device(gpus.of_this_rank(gpu_count()))
        try:
            meet(**meeting)
        except dist.DistBackendError as error:
            gpus.check_distinct(str(error))
            raise
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    meet(**meeting)
    atexit.register(_leave_ranks)


def meet(**meeting: Any) -> None:
    """Make the group of all ranks.

    NCCL's is not told its device, as Megatron-LM does not: in groups that are, each send waits for the one before,
    and interleaved stages send beside each other. So it connects only now, at the first message.
    """
    dist.init_process_group("nccl" if on_gpu() else "gloo", **meeting)
    if on_gpu():
        dist.all_reduce(torch.zeros(1, device=best_device()))


def _leave_ranks() -> None:
    """End the groups before the interpreter ends: now and then gloo's threads abort a process that ends first."""
    if dist.is_initialized():
        dist.destroy_process_group()


@functools.cache
def prepare_megatron() -> None:
    """Make megatron-core run on this machine. Call before building a model; further calls do nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import megatron.core.tensor_parallel.random as megatron_random

        patches.apply(lone_groups_copy=not on_gpu())
    # Megatron logs its fallbacks at every start; what is used is our choice and is recorded elsewhere.
    logging.getLogger("megatron").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="megatron")
    warnings.filterwarnings("ignore", module="torch.distributed.checkpoint")
    if not on_gpu():
        _stand_in_for_cuda()
        _use_cpu_generator(megatron_random)
        _accept_cpu_types()


def seed_everything(seed: int) -> None:
    """Seed Megatron's random-number trackers; parallel state must be initialized."""
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    torch.manual_seed(seed)
    model_parallel_cuda_manual_seed(seed, force_reset_rng=True)


class _TorchWithoutCuda:
    """What the modules that write ``device="cuda"`` see as ``torch``."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(torch, name)
        if name not in ("tensor", "zeros", "ones"):
            return value

        def make(*args: Any, **kwargs: Any) -> torch.Tensor:
            if kwargs.get("device") == "cuda":
                kwargs["device"] = "cpu"
            return value(*args, **kwargs)

        return make


def _stand_in_for_cuda() -> None:
    """Answer Megatron's questions about the current device, and build its tensors, on the CPU."""
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
    for module in _MODULES_THAT_NAME_CUDA:
        vars(importlib.import_module(module))["torch"] = _TorchWithoutCuda()


def _use_cpu_generator(megatron_random: Any) -> None:
    megatron_random._get_cuda_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    megatron_random._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)


@contextlib.contextmanager
def _types_named_cuda() -> Iterator[None]:
    """While it lasts, ``tensor.type()`` names a CPU tensor's type as if it were on a GPU."""
    plain = torch.Tensor.type

    def named(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        answer = plain(self, *args, **kwargs)
        return answer.replace("torch.", "torch.cuda.", 1) if isinstance(answer, str) else answer

    torch.Tensor.type = named  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.Tensor.type = plain  # type: ignore[method-assign]


def _accept_cpu_types() -> None:
    """Wrap the functions that compare type strings."""
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
