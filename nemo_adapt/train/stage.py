"""The ``train`` stage: resize in memory or resume, then phase by phase, step by step to the end of the budget."""

import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices, documents, hf_tokenizer
from nemo_adapt.artifact import Inputs, write_json
from nemo_adapt.checkpoint.reader import complete
from nemo_adapt.checks import check_batch
from nemo_adapt.choice import with_choice
from nemo_adapt.config import Config, TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.model.build import start_parallel
from nemo_adapt.phases import NEW_ROWS, phases, total
from nemo_adapt.progress import say
from nemo_adapt.resize.adapted import adapted_shape, build_adapted, load_adapted
from nemo_adapt.resize.supplies import auxiliary_of
from nemo_adapt.token_map import TokenMap
from nemo_adapt.train import checkpoints, loop
from nemo_adapt.train.batches import BatchLayout, training_set
from nemo_adapt.train.metrics import Metrics

REPLAY = "data.replay"


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Train into ``out``: ``checkpoints/iter_*``, ``metrics.jsonl``, ``tensorboard/``, ``summary.json``.

    Runs on every rank. Goes on from the newest complete checkpoint in ``out`` if there is one. Inputs: the base model
    folder, its converted checkpoint, the tokenizer, and the data sets.
    """
    config = with_choice(config, inputs)
    train, plan = config.train, phases(config)
    steps = total(plan)
    layout = start_layout(config)
    kept = kept_rows(inputs["tokenizer"][0], [phase.train for phase in plan])
    model, progress, saved = _start(config, inputs, out)
    data = training_data(config, inputs, layout, train, steps, out / "cache")
    first = dist.get_rank() == 0
    restore = partial(checkpoints.load_optimizer, saved) if saved else None
    with Metrics(out, progress, steps, train.log_every, quiet=not first) as metrics:
        for made in loop.run(model, plan, train, kept, data, progress["step"], restore):
            result = made.result
            if not math.isfinite(result.nats):
                raise UserError(f"train: the loss of step {made.step} is {result.nats}; lower the learning rate")
            progress["phase"] = made.phase
            metrics.step(result.nats, result.tokens, result.bytes, made.lr, result.grad_norm)
            if made.ends_phase or made.step % train.save_every == 0:
                checkpoints.save(out / "checkpoints", made.trainer, progress, train.keep)
    if first:
        rows = {"input": config.resize.input, "output": config.resize.output}
        facts = {"tokens_per_second": progress["tokens"] / progress["seconds"], "resize": rows}
        facts["phases"] = [asdict(phase) for phase in plan]
        write_json(out / "summary.json", {"steps": steps, **progress, **facts})


def start_layout(config: Config) -> BatchLayout:
    """Start Megatron's groups on this rank; how the batch is shared over them."""
    train = config.train
    dp_size = start_parallel(config.parallel, train.seed)
    check_batch(train, dp_size)  # under a launcher it follows from the number of ranks
    return BatchLayout(train.global_batch, train.micro_batch, dp_size, parallel_state.get_data_parallel_rank())


def kept_rows(tokenizer: Path, trained: list[str]) -> int:
    """How many table rows were the base's; ``UserError`` when only new rows are to be trained and there are none."""
    token_map = TokenMap.load(tokenizer)
    if NEW_ROWS in trained and not token_map.tokens:
        raise UserError("train.phases: nothing to train in a phase of new_rows, the tokenizer has no new tokens")
    return token_map.source_vocab


def training_data(
    config: Config, inputs: Inputs, layout: BatchLayout, train: TrainConfig, steps: int, cache: Path
) -> loop.Data:
    """The blend of target and replay text for ``steps`` steps, in the order of ``train.seed``."""
    tokenizer = hf_tokenizer.load(inputs["tokenizer"][0])
    share = config.data.replay_share if REPLAY in inputs else 0.0
    mix = [(inputs["data.target"][0], 1.0 - share)]
    if share:
        mix.append((inputs[REPLAY][0], share))
    samples = training_set(mix, steps * train.global_batch, train, documents.vocabulary_size(tokenizer), cache)
    token_bytes = torch.from_numpy(documents.training_bytes(tokenizer)).to(devices.best_device())
    return loop.Data(samples, layout, token_bytes)


def _start(config: Config, inputs: Inputs, out: Path) -> tuple[Any, dict[str, Any], Path | None]:
    """The model, new or as the last checkpoint left it, how far it has come, and that checkpoint."""
    model_folder, tokenizer = inputs["model"][0], inputs["tokenizer"][0]
    saved = complete(out / "checkpoints")
    if saved:
        model = build_adapted(config, adapted_shape(model_folder, TokenMap.load(tokenizer)))
        progress = checkpoints.load_model(saved[-1], model)
        if dist.get_rank() == 0:
            say(f"training goes on from {saved[-1].name}")
        return model, progress, saved[-1]
    model, _ = load_adapted(config, model_folder, inputs["checkpoint"][0], tokenizer, auxiliary_of(inputs))
    return model, {"step": 0, "phase": 1, "tokens": 0, "bytes": 0, "seconds": 0.0}, None
