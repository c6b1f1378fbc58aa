"""The device file: the only one that says cuda, nccl or gloo, and the only one that patches Megatron.

On a GPU machine Megatron runs as it was written. On a CPU, ``prepare_megatron`` closes the few seams where
megatron-core 0.16 assumes CUDA:

- ``torch.cuda.current_device`` and friends, which its constructors ask for a device;
- tensors that six of its modules create with ``device="cuda"``;
- the random-number tracker, which keeps CUDA generator states: on a CPU the default generator stands for it;
- the type strings ``torch.cuda.FloatTensor`` that its optimizers and gradient clipping compare with.

On both, when neither Transformer Engine nor NVIDIA's apex is there, the distributed optimizer runs over torch's AdamW
and its loading is mended (see ``_mend_distributed_optimizer``).
"""

import contextlib
import functools
import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

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


def best_device() -> torch.device:
    """The device that this process computes on."""
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu() else torch.device("cpu")


def cores_per_rank(ranks: int) -> int:
    """Threads for each of ``ranks`` processes of this machine, so that together they fill it."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, ranks))


def has_transformer_engine() -> bool:
    """True when Transformer Engine can be used; its layers then replace ours."""
    return on_gpu() and importlib.util.find_spec("transformer_engine") is not None


def synchronize() -> None:
    """Wait for the device, so that a clock read next tells the truth."""
    if on_gpu():
        torch.cuda.synchronize()


def start_ranks() -> None:
    """Join the process group described by the environment (RANK, WORLD_SIZE, MASTER_ADDR, LOCAL_RANK)."""
    if dist.is_initialized():
        return
    if on_gpu():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl", timeout=TIMEOUT, device_id=best_device())
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group("gloo", timeout=TIMEOUT)


@functools.cache
def prepare_megatron() -> None:
    """Make megatron-core run on this machine. Call before building a model; further calls do nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import megatron.core.optimizer.distrib_optimizer as distributed_optimizer
        import megatron.core.tensor_parallel.random as megatron_random
    # Megatron logs its fallbacks at every start; what is used is our choice and is recorded elsewhere.
    logging.getLogger("megatron").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="megatron")
    warnings.filterwarnings("ignore", module="torch.distributed.checkpoint")
    if not distributed_optimizer.HAVE_APEX_OR_TE:
        _mend_distributed_optimizer(distributed_optimizer.DistributedOptimizer)
    if not on_gpu():
        _stand_in_for_cuda()
        _use_cpu_generator(megatron_random)
        _accept_cpu_types()


def seed_everything(seed: int) -> None:
    """Seed Megatron's random-number trackers; parallel state must be initialized."""
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    torch.manual_seed(seed)
    model_parallel_cuda_manual_seed(seed, force_reset_rng=True)


def fill_optimizer_state(optimizer: Any) -> None:
    """Create Adam's moments before the first step, as loading a checkpoint needs them.

    With apex or Transformer Engine Megatron does this itself; with torch's AdamW, whose state appears at the first
    step, it has nothing to load into.
    """
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        inner = part.optimizer
        for group in inner.param_groups:
            for parameter in group["params"]:
                if not inner.state[parameter]:
                    inner.state[parameter] = {
                        "step": torch.tensor(0.0),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }


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


def _mend_distributed_optimizer(cls: Any) -> None:
    """Loading a checkpoint over torch's AdamW: its per-parameter ``step`` tensor is no parameter state.

    As shipped (megatron-core 0.16.1, distrib_optimizer.py), ``step`` is treated as a shard of the parameter, and
    after a load all parameters share one ``step`` tensor, so that it counts once per parameter per step. A rank that
    trains nothing (a pipeline stage between the tables while only those are trained) has no ``step`` to save: what it
    says there is not read, the first rank's is.
    """
    get, load, save = cls._get_main_param_and_optimizer_states, cls.load_state_dict, cls.state_dict

    def state_of_some_step(self: Any) -> Any:
        state = self.optimizer.state
        if state:
            return save(self)
        state["nothing"] = {"step": torch.tensor(0.0)}
        try:
            return save(self)
        finally:
            del state["nothing"]

    def get_without_step(self: Any, parameter: Any) -> Any:
        tensors = get(self, parameter)
        tensors.pop("step", None)
        return tensors

    def set_without_step(self: Any, parameter: Any, tensors: Any) -> None:
        group, order = self.model_param_group_index_map[parameter]
        main = self.optimizer.param_groups[group]["params"][order]
        state = self.optimizer.state[main]
        with torch.no_grad():
            main.copy_(tensors["param"])
        for name in ("exp_avg", "exp_avg_sq"):
            state[name].copy_(tensors[name])

    def load_with_own_steps(self: Any, state_dict: Any) -> Any:
        answer = load(self, state_dict)
        for state in self.optimizer.state.values():
            state["step"] = state["step"].clone()
        return answer

    cls._get_main_param_and_optimizer_states = get_without_step
    cls._set_main_param_and_optimizer_states = set_without_step
    cls.load_state_dict = load_with_own_steps
    cls.state_dict = state_of_some_step
