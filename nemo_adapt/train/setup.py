"""What a training needs besides the model: data-parallel wrapper, optimizer, learning-rate schedule."""

import gc
from dataclasses import dataclass
from typing import Any

from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from nemo_adapt import devices
from nemo_adapt.config import PhaseConfig, TrainConfig
from nemo_adapt.phases import NEW_ROWS
from nemo_adapt.train.frozen import freeze, without_kept_rows


@dataclass
class Trainer:
    """The parts of a running training on this rank."""

    model: Any
    """Megatron's data-parallel wrapper around the model."""
    optimizer: Any
    scheduler: Any
    """Megatron's ``OptimizerParamScheduler``, counted in steps of the phase."""

    @property
    def bare_model(self) -> Any:
        """The GPTModel inside the wrappers."""
        inner = self.model.module
        return getattr(inner, "module", inner)

    def release(self) -> None:
        """Let go of gradient buffers and optimizer state, whoever still holds this trainer; the bare model stays."""
        config = self.model.config
        config.finalize_model_grads_func = config.grad_scale_func = config.no_sync_func = None
        self.model.grad_accs.clear()  # their hooks and the wrapper hold each other
        self.model = self.optimizer = self.scheduler = None
        gc.collect()


def build_trainer(model: Any, train: TrainConfig, phase: PhaseConfig, kept: int) -> Trainer:
    """Freeze what ``phase`` does not train; wrap ``model`` for data parallelism; a fresh Adam and schedule.

    ``kept`` is the number of table rows that were the base model's. Master weights are fp32, made from the model's.
    """
    from megatron.core.transformer.module import Float16Module

    config = model.config
    freeze(model, phase.train)
    inner = Float16Module(config, model) if train.precision == "bf16" else model
    ddp_config = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=False,
        use_distributed_optimizer=train.distributed_optimizer,
    )
    wrapped = DistributedDataParallel(config, ddp_config, inner)
    optimizer = get_megatron_optimizer(_optimizer_config(train, phase), [wrapped])
    devices.fill_optimizer_state(optimizer)
    config.finalize_model_grads_func = finalize_model_grads
    if phase.train == NEW_ROWS:
        config.finalize_model_grads_func = without_kept_rows(finalize_model_grads, model, kept)
    config.grad_scale_func = optimizer.scale_loss
    config.no_sync_func = wrapped.no_sync
    return Trainer(wrapped, optimizer, _schedule(optimizer, train, phase))


def _weight_decay(train: TrainConfig, phase: PhaseConfig) -> float:
    """None where only new rows are trained: Adam would decay the kept rows of the same tables with them."""
    return 0.0 if phase.train == NEW_ROWS else train.weight_decay


def _optimizer_config(train: TrainConfig, phase: PhaseConfig) -> OptimizerConfig:
    return OptimizerConfig(
        optimizer="adam",
        lr=phase.lr,
        min_lr=phase.lr * train.min_lr_share,
        weight_decay=_weight_decay(train, phase),
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        clip_grad=train.clip_grad,
        bf16=train.precision == "bf16",
        use_distributed_optimizer=train.distributed_optimizer,
    )


def _schedule(optimizer: Any, train: TrainConfig, phase: PhaseConfig) -> OptimizerParamScheduler:
    """Megatron's schedule, counted in steps: linear warm-up, then decay to ``min_lr_share`` at the last step."""
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=phase.lr,
        min_lr=phase.lr * train.min_lr_share,
        lr_warmup_steps=min(phase.steps - 1, round(train.warmup_share * phase.steps)),
        lr_decay_steps=phase.steps,
        lr_decay_style=train.schedule,
        start_wd=_weight_decay(train, phase),
        end_wd=_weight_decay(train, phase),
        wd_incr_steps=phase.steps,
        wd_incr_style="constant",
    )
