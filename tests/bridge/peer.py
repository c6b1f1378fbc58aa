"""Commands of Megatron-Bridge on our files, run by the tests in Bridge's own virtual environment.

    python peer.py export CHECKPOINT MODEL OUT [TP]     export a checkpoint to Hugging Face with Bridge
    python peer.py logits OUT CHECKPOINT ...            compute logits of ids 3, 4, … 18 with the models of checkpoints
    python peer.py pretrain RECIPE.py LOSSES            train in Bridge with a recipe that we wrote

On the CPU, with megatron-core's own layers; docs/nemo.md lists what is patched for that.
"""

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))
from megatron_bridge import bridge, on_cpu, plain


def start(rank: int, tp: int, meeting: str) -> object:
    """Start Bridge on this rank; return its package."""
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
    made = package.AutoBridge.from_hf_pretrained(model, torch_dtype=torch.float32)
    if tp == 1:
        dist.destroy_process_group()  # Bridge makes one of its own
        made.export_ckpt(checkpoint, out, show_progress=False, strict=True)
        return
    from megatron.core import parallel_state

    parallel_state.initialize_model_parallel(tensor_model_parallel_size=tp)
    overrides = {"tensor_model_parallel_size": tp}
    chunks = made.load_megatron_model(checkpoint, mp_overrides=overrides, wrap_with_ddp=False)
    made.save_hf_pretrained(chunks, out, show_progress=False, strict=True)


def logits(rank: int, tp: int, meeting: str, out: str, *checkpoints: str) -> None:
    start(rank, tp, meeting)
    from megatron.bridge.training.model_load_save import load_megatron_model
    from megatron.core import parallel_state

    parallel_state.initialize_model_parallel()
    seed()
    ids, found = torch.arange(3, 19)[None], []
    for checkpoint in checkpoints:
        with CpuForCuda(), torch.no_grad():
            (model,) = load_megatron_model(checkpoint, use_cpu_init=True, skip_temp_dist_context=True)
            found.append(model.eval()(ids, torch.arange(16)[None], None))
    torch.save(found, out)


class CpuForCuda(TorchFunctionMode):
    """Creates tensors requested on "cuda" on the CPU."""

    def __torch_function__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)


def seed() -> None:
    """Set the random states that Megatron otherwise has only on a GPU."""
    from megatron.core.tensor_parallel import random

    random._get_cuda_rng_state = lambda *arguments, **named: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, *arguments, **named: torch.set_rng_state(state)
    random.model_parallel_cuda_manual_seed(1234)


def seeded(initialize: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap Bridge's initialization to work without a GPU."""

    def outer(*arguments: Any, **named: Any) -> Any:
        answer = initialize(*arguments, **named, allow_no_cuda=True)
        seed()
        return answer

    return outer


class NoStream:
    """Stand-in for a CUDA stream: on the CPU everything happens in order."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        """There is nothing to wait for."""


def pretrain(recipe: str, losses: str) -> None:
    on_cpu()
    bridge()
    from megatron.bridge.training import gpt_step, initialize, pretrain, setup
    from megatron.bridge.training.callbacks import CallbackManager

    torch.cuda.Stream, torch.cuda.current_stream = NoStream, NoStream
    torch.cuda.stream = lambda stream: contextlib.nullcontext()
    spec = importlib.util.spec_from_file_location("recipe", recipe)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.recipe()
    written = pretrain.ConfigContainer.from_yaml(str(Path(recipe).with_suffix(".yaml")))
    assert written.to_dict() == config.to_dict()
    plain(config.model)
    config.dist.distributed_backend = "gloo"
    config.dataset.num_workers, config.dataset.pin_memory = 0, False
    setup.initialize_megatron = seeded(setup.initialize_megatron)
    initialize.compile_helpers = lambda: None  # a wheel contains them compiled, and no makefile
    setup.set_jit_fusion_options = lambda *arguments: None
    found, manager = [], CallbackManager()
    manager.register("on_train_step_end", lambda context: found.append(context.loss_dict["lm loss"].item()))
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29533",
    }
    with CpuForCuda():
        pretrain.pretrain(config, gpt_step.forward_step, callbacks=manager)
    Path(losses).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    ranks = int(words.pop()) if words[-1].isdigit() else 1
    if kind == "pretrain":
        pretrain(*words)
        sys.exit()
    body = {"export": export, "logits": logits}[kind]
    with TemporaryDirectory() as meeting:
        if ranks == 1:
            body(0, 1, meeting, *words)
        else:
            torch.multiprocessing.spawn(body, (ranks, meeting, *words), nprocs=ranks)
