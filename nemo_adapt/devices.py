"""All code that depends on the device: no other file calls torch.cuda, names a backend or (but ``patches``) patches
Megatron.

On a GPU, megatron-core needs no changes to run. On a CPU, ``run_megatron_on_cpu`` and ``limit_imports`` replace the
few places where it assumes CUDA:

- ``torch.cuda.current_device`` and related functions, which its constructors call to get a device;
- tensors that six of its modules create with ``device="cuda"``;
- the random-number tracker, which stores CUDA generator states: on a CPU it uses the default generator;
- the type strings ``torch.cuda.FloatTensor`` that its optimizers and gradient clipping compare with;
- the Adam of Transformer Engine or apex, which it uses wherever that can be imported, and torch's compiler, which its
  imports load.

``patches`` fixes errors and needless work in megatron-core on both.
"""

import atexit
import contextlib
import functools
import importlib
import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from nemo_adapt.machine import engine_import, gpus, ranks, rendezvous, workers

_MODULES_THAT_NAME_CUDA = (
    "megatron.core.distributed.param_and_grad_buffer",
    "megatron.core.optimizer.clip_grads",
    "megatron.core.optimizer.optimizer",
    "megatron.core.pipeline_parallel.schedules",
    "megatron.core.transformer.utils",
    "megatron.core.utils",
)


def on_gpu() -> bool:
    """Return whether this machine has a CUDA device."""
    return torch.cuda.is_available()


def gpu_count() -> int:
    """Return the number of GPUs that this process sees."""
    return torch.cuda.device_count() if on_gpu() else 0


def gpu_memory() -> list[int]:
    """Return the bytes of memory of each GPU that this process sees."""
    return [int(torch.cuda.get_device_properties(number).total_memory) for number in range(gpu_count())]


def best_device() -> torch.device:
    """Return the device that this process computes on."""
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu() else torch.device("cpu")


def has_transformer_engine() -> bool:
    """Return whether Transformer Engine can be used; its layers then replace ours."""
    return on_gpu() and engine_import.engine_loads()


def has_apex() -> bool:
    """Return whether NVIDIA's apex is installed with its kernels; an unrelated package has the same name."""
    return importlib.util.find_spec("amp_C") is not None and importlib.util.find_spec("apex") is not None


def limit_imports() -> None:
    """Without a GPU, make Transformer Engine and apex count as not installed, and disable ``torch.compile``; with one,
    only a Transformer Engine that cannot be imported counts as not installed. Call before megatron-core is imported.

    Megatron-core uses their Adam and gradient clipping wherever they can be imported, also on a login node. Its
    decorated functions would import torch's compiler, which is slow.
    """
    if on_gpu():
        has_transformer_engine()  # one that cannot be imported counts as not installed from here on
        return
    for name in ("transformer_engine", "apex", "amp_C", "fused_weight_gradient_mlp_cuda"):
        sys.modules[name] = None  # type: ignore[assignment]  # makes its import raise ModuleNotFoundError
    torch.compile = _uncompiled  # type: ignore[assignment]
    # A CUDA build of torch, asked whether it can compile extensions, warns that there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _uncompiled(function: Any = None, **options: Any) -> Any:
    """Stand in for ``torch.compile`` without compiling; without a function, return a decorator."""
    return function or _uncompiled


def facts() -> dict[str, Any]:
    """Return what torch reports about this machine: ``gpus`` (name, memory in MiB), ``versions`` of its libraries, the
    available ``backends`` of process groups, and the ``backend`` that is used."""
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
    """Wait until the device has finished, so that timings are correct."""
    if on_gpu():
        torch.cuda.synchronize()


def peak_memory_mib() -> int | None:
    """Return the peak memory that this process has allocated on its GPU, in MiB; ``None`` without a GPU."""
    return torch.cuda.max_memory_allocated() >> 20 if on_gpu() else None


@functools.cache
def matmul_rate(dtype: torch.dtype) -> float:
    """Measure the speed of this device in large matrix products, in floating-point operations per second."""
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


def use_deterministic_kernels() -> None:
    """Use only kernels of torch whose results do not depend on timing; does nothing without a GPU. An operation that
    has none raises torch's ``RuntimeError``. ``cuda_environment`` must have set its variables."""
    if on_gpu():
        torch.use_deterministic_algorithms(True)
        # Otherwise every new tensor is written once more.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def varying_shapes() -> Iterator[None]:
    """Context: attention does not use cuDNN, which builds a plan for each new shape (up to a second)."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def start_ranks() -> None:
    """Join the process group that the environment describes (RANK, WORLD_SIZE, LOCAL_RANK; with several ranks also
    MASTER_ADDR and MASTER_PORT).

    Raises ``UserError`` where there are GPUs, but not one for each rank.
    """
    if dist.is_initialized():
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # One rank needs no port, which another run may be using.
    store = dist.HashStore() if size == 1 else rendezvous.store()  # type: ignore[attr-defined]
    where = {"store": dist.PrefixStore("group", store), "rank": rank, "world_size": size}  # type: ignore[attr-defined]
    atexit.register(_leave_ranks)
    if on_gpu():
        torch.cuda.set_device(gpus.of_this_rank(gpu_count()))
        try:
            init_process_group(**where, timeout=rendezvous.TIMEOUT)
        except dist.DistBackendError as error:
            gpus.check_distinct(str(error))
            raise
    else:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        init_process_group(**where, timeout=rendezvous.TIMEOUT)
    if ranks.MISTAKE in os.environ:  # started by our launcher: if that is killed, a training saves
        workers.signal_when_starter_ends(signal.SIGTERM)


def init_process_group(**where: Any) -> None:
    """Create the process group of all ranks.

    As in Megatron-LM, an NCCL group is created without a device id: in a group with one, each send waits for the one
    before, but interleaved pipeline stages send concurrently. NCCL then connects at the first message, the all-reduce.
    """
    dist.init_process_group("nccl" if on_gpu() else "gloo", **where)
    if on_gpu():
        dist.all_reduce(torch.zeros(1, device=best_device()))


def _leave_ranks() -> None:
    """Destroy the process groups before Python ends: else gloo's threads sometimes abort the process. For programs that
    do not end as the command does (``ranks.ended_at_once``)."""
    if dist.is_initialized():
        dist.destroy_process_group()


def run_megatron_on_cpu() -> None:
    """Replace the places where megatron-core assumes CUDA; ``patches.prepare_megatron`` calls it without a GPU."""
    import megatron.core.tensor_parallel.random as megatron_random

    _replace_cuda_functions()
    _use_cpu_generator(megatron_random)
    _accept_cpu_types()


def seed_everything(seed: int) -> None:
    """Seed Megatron's random-number trackers; parallel state must be initialized."""
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    torch.manual_seed(seed)
    model_parallel_cuda_manual_seed(seed, force_reset_rng=True)


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


def _replace_cuda_functions() -> None:
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
    for module in _MODULES_THAT_NAME_CUDA:
        vars(importlib.import_module(module))["torch"] = _TorchWithoutCuda()


def _use_cpu_generator(megatron_random: Any) -> None:
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


def _accept_cpu_types() -> None:
    """Wrap the functions of Megatron that compare type strings in ``_types_named_cuda``."""
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
