"""Megatron-Bridge loads a Hugging Face folder: run by benchmarks/bridge.py in Bridge's own virtual environment.

    python megatron_bridge.py MODEL OUT TP [measure]

Writes OUT/rank_N.safetensors with each rank's tensors, or, with ``measure``, prints seconds and peak MiB of loading.
Bridge imports Transformer Engine; mock modules replace it during the import and are removed before models are built.
"""

import importlib.machinery
import json
import os
import resource
import sys
import time
import types
from pathlib import Path

import torch
import torch.distributed as dist

NAMES = (
    "transformer_engine",
    "transformer_engine.pytorch",
    "transformer_engine.common",
    "transformer_engine.pytorch.fp8",
)


class Kind(type):
    """Metaclass of classes with every attribute."""

    def __getattr__(cls, name: str) -> "Kind":
        if name.startswith("__"):
            raise AttributeError(name)
        return Kind(name, (), {})


class Anything(types.ModuleType):
    """A module with every attribute."""

    def __getattr__(self, name: str) -> Kind:
        if name.startswith("__"):
            raise AttributeError(name)
        return Kind(name, (), {})


def bridge() -> object:
    """Import and return ``megatron.bridge`` without Transformer Engine."""
    # Imported before the mocks exist: these modules must not find Transformer Engine.
    import megatron.core.extensions.transformer_engine
    import megatron.core.models.gpt.gpt_layer_specs
    import megatron.core.optimizer

    for name in NAMES:
        sys.modules[name] = Anything(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name].__path__ = []  # type: ignore[attr-defined]
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, sys.modules[name])
    import megatron.bridge

    for name in NAMES:
        del sys.modules[name]
    return megatron.bridge


def on_cpu() -> None:
    """Replace the torch.cuda functions that Megatron and Bridge call, and work around a bug of gloo's scatter."""
    cpu = torch.device("cpu")
    torch.cuda.current_device = lambda: cpu  # type: ignore[assignment]
    torch.cuda.set_device = lambda device: None
    torch.cuda.get_rng_state = lambda *a, **k: torch.get_rng_state()
    torch.cuda.set_rng_state = lambda state, *a, **k: torch.set_rng_state(state)
    torch.cuda.manual_seed = torch.manual_seed  # type: ignore[assignment]
    torch.cuda.synchronize = torch.cuda.empty_cache = lambda *a, **k: None
    torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign]
    scatter = dist.scatter

    def scatter_contiguous(tensor: torch.Tensor, scatter_list: object = None, *a: object, **k: object) -> object:
        chunks = [chunk.contiguous() for chunk in scatter_list] if scatter_list else scatter_list  # type: ignore[attr-defined]
        return scatter(tensor, chunks, *a, **k)  # gloo sends non-contiguous tensors wrongly

    dist.scatter = scatter_contiguous  # type: ignore[assignment]


def plain(provider: object) -> None:
    """Make a provider build megatron-core's own layers on the CPU, without fused kernels."""
    from megatron.bridge.models.gpt_provider import local_layer_spec

    provider.transformer_layer_spec = local_layer_spec  # type: ignore[attr-defined]
    provider.transformer_impl = "local"  # type: ignore[attr-defined]
    provider.use_cpu_initialization = True  # type: ignore[attr-defined]
    for name in ("apply_rope_fusion", "bias_activation_fusion", "bias_dropout_fusion", "masked_softmax_fusion",
                 "gradient_accumulation_fusion", "cross_entropy_loss_fusion", "persist_layer_norm"):  # fmt: skip
        setattr(provider, name, False)


def run(rank: int, model: str, out: str, tp: int, measure: bool) -> None:
    on_cpu()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(tp)}
    dist.init_process_group("gloo", init_method=f"file://{out}/meeting", rank=rank, world_size=tp)
    package = bridge()
    began = time.perf_counter()
    made = package.AutoBridge.from_hf_pretrained(model, torch_dtype=torch.bfloat16 if measure else torch.float32)  # type: ignore[attr-defined]
    provider = made.to_megatron_provider(load_weights=True)
    provider.tensor_model_parallel_size = tp
    plain(provider)
    provider.finalize()
    (loaded,) = provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=True)
    seconds = time.perf_counter() - began
    if measure:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(json.dumps({"seconds": round(seconds, 2), "peak_mib": peak}))
        return
    from safetensors.torch import save_file

    bare = getattr(loaded, "module", loaded)
    tensors = {name: value.detach().contiguous().clone() for name, value in bare.named_parameters()}
    save_file(tensors, Path(out) / f"rank_{rank}.safetensors")
    dist.barrier()


if __name__ == "__main__":
    folder, place, ranks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    arguments = (folder, place, ranks, "measure" in sys.argv)
    if ranks == 1:
        run(0, *arguments)
    else:
        torch.multiprocessing.spawn(run, arguments, nprocs=ranks)
