"""Code of the ranks in tests of plans: measure the memory of the engine's parts and the peak of a step."""

from dataclasses import dataclass
from pathlib import Path

import torch
from helpers.live_bytes import LiveBytes
from megatron.core import parallel_state
from torch.utils.flop_counter import FlopCounterMode

from nemo_adapt import devices
from nemo_adapt.config import Config
from nemo_adapt.config.phases import phases
from nemo_adapt.model.build import build_model, start_parallel
from nemo_adapt.plan.model import Models
from nemo_adapt.tokens.vocab import padded_rows
from nemo_adapt.train import checkpoints
from nemo_adapt.train.batches import Batch, Boundaries
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.new_rows import RowRange
from nemo_adapt.train.setup import Trainer, build_trainer
from nemo_adapt.train.state import saved_state
from nemo_adapt.train.step import train_step


@dataclass
class Measured:
    """Measured bytes of a rank; ``stage`` is its pipeline stage."""

    stage: int
    weights: int
    gradients: int
    optimizer: int
    state: int
    """Weights, gradients and optimizer state together, as live tensors."""
    peak: int
    """Peak of live tensors during a step, beyond ``state``."""
    saving: int
    """The copy of the state that exists while a checkpoint is written."""

    @property
    def total(self) -> int:
        """The peak of live tensors."""
        return self.state + self.peak + self.saving


def measure(rank: int, config: Config, models: Models) -> Measured:
    """Build the model and a trainer of the first phase, make a step on random tokens, and measure its memory."""
    dp = start_parallel(config.parallel, 1)
    with LiveBytes() as live:
        begun = live.reset_peak()
        trainer = new_trainer(config, models)
        state = live.reset_peak()
        step(config, models, trainer, dp)
        peak, before = live.peak, live.reset_peak()
        kept = saved_state(trainer)
        saving = live.now - before
        del kept
        stage = parallel_state.get_pipeline_model_parallel_rank()
        found = Measured(stage, *_parts(trainer), state - begun, peak - state, saving)
        trainer.release()
    return found


def checkpoint_bytes(rank: int, config: Config, models: Models, folder: Path) -> int:
    """Return the bytes of the files of a checkpoint at the first step."""
    start_parallel(config.parallel, 1)
    trainer = new_trainer(config, models)
    saver = checkpoints.Saver(folder / "checkpoints", Fence.claim(folder), keep=1, wait=True)
    saver.save(trainer, {"step": 1})
    saver.finish()
    trainer.release()
    return sum(file.stat().st_size for file in (folder / "checkpoints").rglob("*") if file.is_file())


def matrix_products(rank: int, config: Config, models: Models) -> int:
    """Return the FLOPs of a step's matrix products without attention, as torch's counter sees them."""
    dp = start_parallel(config.parallel, 1)
    trainer = new_trainer(config, models)
    with FlopCounterMode(display=False) as counter:
        step(config, models, trainer, dp)
    trainer.release()
    found = counter.get_flop_counts()["Global"]
    return sum(count for operation, count in found.items() if "attention" not in str(operation))


def new_trainer(config: Config, models: Models) -> Trainer:
    """Build a model with random weights and a trainer of its first phase."""
    shape = models.target
    padded = padded_rows(shape.vocab, config.resize.padded_vocab_multiple, config.parallel.tp)
    chunks = build_model(shape, config.parallel, config.train, shape.vocab, padded)
    for parameter in (each for chunk in chunks for each in chunk.parameters()):
        torch.nn.init.normal_(parameter, std=0.02)
    return build_trainer(chunks, config.train, phases(config)[0], RowRange(models.first_new, shape.vocab))


def step(config: Config, models: Models, trainer: Trainer, dp: int) -> None:
    """Make one step on random tokens."""
    train, vocab = config.train, models.target.vocab
    batches = [_batch(config, vocab) for _ in range(train.global_batch // (train.micro_batch * dp))]
    train_step(trainer, batches, torch.ones(vocab, dtype=torch.int32, device=devices.best_device()))


def _batch(config: Config, vocab: int) -> Batch:
    size = config.train.micro_batch, config.train.seq_length
    tokens, labels = (torch.randint(0, vocab, size, device=devices.best_device()) for _ in range(2))
    return Boundaries.of(config.train, 2).batch(tokens, labels).own_part()


def _parts(trainer: Trainer) -> tuple[int, int, int]:
    """Return the bytes of weights, gradient buffers and optimizer state, found by walking the trainer."""
    weights = {
        each.untyped_storage()._cdata: each.untyped_storage().nbytes()
        for chunk in trainer.chunks
        for each in chunk.parameters()
    }
    buffers = [buffer for wrapped in trainer.wrapped for buffer in wrapped.buffers]
    states: dict[int, int] = {}
    for part in getattr(trainer.optimizer, "chained_optimizers", [trainer.optimizer]):
        for group in part.optimizer.param_groups:
            for parameter in group["params"]:
                held = [parameter, *part.optimizer.state[parameter].values()]
                states |= {
                    each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in held if each.dim()
                }
    gradients = sum(buffer.grad_data.nbytes for buffer in buffers)
    shared = weights.keys() & states.keys()  # fp32 weights are their own masters
    return sum(weights.values()), gradients, sum(size for key, size in states.items() if key not in shared)
