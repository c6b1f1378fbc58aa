"""The training loop: resize in memory or resume, then step by step to the end of the budget."""

import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices, documents, hf_tokenizer
from nemo_adapt.artifact import Inputs, write_json
from nemo_adapt.checkpoint.reader import complete
from nemo_adapt.checks import check_batch
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.model.build import start_parallel
from nemo_adapt.progress import say
from nemo_adapt.resize.adapted import adapted_shape, build_adapted, load_adapted
from nemo_adapt.resize.supplies import auxiliary_of
from nemo_adapt.token_map import TokenMap
from nemo_adapt.train import checkpoints
from nemo_adapt.train.batches import BatchLayout, batches, training_set
from nemo_adapt.train.metrics import Metrics
from nemo_adapt.train.setup import Trainer, build_trainer
from nemo_adapt.train.step import train_step

REPLAY = "data.replay"


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Train into ``out``: ``checkpoints/iter_*``, ``metrics.jsonl``, ``tensorboard/``, ``summary.json``.

    Runs on every rank. Goes on from the newest complete checkpoint in ``out`` if there is one. Inputs: the base model
    folder, its converted checkpoint, the tokenizer, and the data sets.
    """
    train = config.train
    dp_size = start_parallel(config.parallel, train.seed)
    check_batch(train, dp_size)  # under a launcher it follows from the number of ranks
    layout = BatchLayout(train.global_batch, train.micro_batch, dp_size, parallel_state.get_data_parallel_rank())
    trainer, progress = _start(config, inputs, out)
    steps = train.phases[0].steps
    first = dist.get_rank() == 0
    tokenizer = hf_tokenizer.load(inputs["tokenizer"][0])
    vocab = documents.vocabulary_size(tokenizer)
    dataset = training_set(_mix(config, inputs), steps * train.global_batch, train, vocab, out / "cache")
    device = devices.best_device()
    token_bytes = torch.from_numpy(documents.training_bytes(tokenizer)).to(device)
    with Metrics(out, progress, steps, train.log_every, quiet=not first) as metrics:
        while progress["step"] < steps:
            step = progress["step"]
            stream = batches(dataset, layout, step, device)
            result = train_step(trainer, stream, layout, train.seq_length, token_bytes)
            if not math.isfinite(result.nats):
                raise UserError(f"train: the loss of step {step + 1} is {result.nats}; lower the learning rate")
            lr = trainer.optimizer.param_groups[0]["lr"]
            metrics.step(result.nats, result.tokens, result.bytes, lr, result.grad_norm)
            if progress["step"] % train.save_every == 0 or progress["step"] == steps:
                checkpoints.save(out / "checkpoints", trainer, progress, train.keep)
    if first:
        rate = progress["tokens"] / progress["seconds"]
        write_json(out / "summary.json", {"steps": steps, **progress, "tokens_per_second": rate})


def _start(config: Config, inputs: Inputs, out: Path) -> tuple[Trainer, dict[str, Any]]:
    """The trainer, new or as the last checkpoint left it, and how far it has come."""
    model_folder, tokenizer = inputs["model"][0], inputs["tokenizer"][0]
    saved = complete(out / "checkpoints")
    if saved:
        shape = adapted_shape(model_folder, TokenMap.load(tokenizer))
        trainer = build_trainer(build_adapted(config, shape), config.train)
        progress = checkpoints.load(saved[-1], trainer)
        if dist.get_rank() == 0:
            say(f"training goes on from {saved[-1].name}")
        return trainer, progress
    model, _ = load_adapted(config, model_folder, inputs["checkpoint"][0], tokenizer, auxiliary_of(inputs))
    return build_trainer(model, config.train), {"step": 0, "tokens": 0, "bytes": 0, "seconds": 0.0}


def _mix(config: Config, inputs: Inputs) -> list[tuple[Path, float]]:
    """The data sets with their shares of the training tokens."""
    share = config.data.replay_share if REPLAY in inputs else 0.0
    mix = [(inputs["data.target"][0], 1.0 - share)]
    return [*mix, (inputs[REPLAY][0], share)] if share else mix
