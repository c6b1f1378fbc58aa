"""What Megatron-Bridge does with our files and we with its: run by the tests in Bridge's own virtual environment.

    python peer.py export CHECKPOINT MODEL OUT [TP]     Bridge's export of a checkpoint to Hugging Face
    python peer.py save MODEL OUT [TP]                  Bridge's checkpoint of a Hugging Face folder
    python peer.py pretrain RECIPE.py LOSSES            Bridge's training, by a recipe that we wrote

On the CPU, with megatron-core's own layers; docs/nemo.md lists what is patched for that.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))
from megatron_bridge import bridge, on_cpu, plain


def start(rank: int, tp: int, meeting: str) -> object:
    """Bridge on this rank."""
    on_cpu()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(tp)}
    dist.init_process_group("gloo", init_method=f"file://{meeting}/meeting", rank=rank, world_size=tp)
    package = bridge()
    from megatron.bridge.models.gpt_provider import GPTModelProvider

    finalize = GPTModelProvider.finalize

    def on_cpu_finalize(self: object) -> None:
        plain(self)
        finalize(self)

    GPTModelProvider.finalize = on_cpu_finalize
    return package


def export(rank: int, tp: int, meeting: str, checkpoint: str, model: str, out: str) -> None:
    package = start(rank, tp, meeting)
    from megatron.core import parallel_state

    parallel_state.initialize_model_parallel(tensor_model_parallel_size=tp)
    made = package.AutoBridge.from_hf_pretrained(model, torch_dtype=torch.float32)
    overrides = {"tensor_model_parallel_size": tp} if tp > 1 else None
    chunks = made.load_megatron_model(checkpoint, mp_overrides=overrides, wrap_with_ddp=False)
    made.save_hf_pretrained(chunks, out, show_progress=False, strict=True)


def save(rank: int, tp: int, meeting: str, model: str, out: str) -> None:
    package = start(rank, tp, meeting)
    made = package.AutoBridge.from_hf_pretrained(model, torch_dtype=torch.float32)
    provider = made.to_megatron_provider(load_weights=True)
    provider.tensor_model_parallel_size = tp
    provider.finalize()
    chunks = provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=True)
    made.save_megatron_model(chunks, out, hf_tokenizer_path=model)


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    ranks = int(words.pop()) if words[-1].isdigit() else 1
    body = {"export": export, "save": save}[kind]
    with TemporaryDirectory() as meeting:
        if ranks == 1:
            body(0, 1, meeting, *words)
        else:
            torch.multiprocessing.spawn(body, (ranks, meeting, *words), nprocs=ranks)
