"""What a training needs besides the model: data-parallel wrapper, optimizer, learning-rate schedule."""

from dataclasses import dataclass
from typing import Any

from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from nemo_adapt import devices
from nemo_adapt.config import PhaseConfig, TrainConfig


@dataclass
class Trainer:
    """The parts of a running training on this rank."""

    model: Any
    """Megatron's data-parallel wrapper around the model."""
    optimizer: Any
    scheduler: OptimizerParamScheduler

    @property
    def bare_model(self) -> Any:
        """The GPTModel inside the wrappers."""
        inner = self.model.module
        return getattr(inner, "module", inner)


def build_trainer(model: Any, train: TrainConfig) -> Trainer:
    """Wrap ``model`` for data parallelism and give it Adam with fp32 master weights and a schedule."""
    from megatron.core.transformer.module import Float16Module

    config = model.config
    inner = Float16Module(config, model) if train.precision == "bf16" else model
    ddp_config = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=False,
        use_distributed_optimizer=train.distributed_optimizer,
    )
    wrapped = DistributedDataParallel(config, ddp_config, inner)
    phase = train.phases[0]
    optimizer = get_megatron_optimizer(_optimizer_config(train, phase), [wrapped])
    devices.fill_optimizer_state(optimizer)
    config.finalize_model_grads_func = finalize_model_grads
    config.grad_scale_func = optimizer.scale_loss
    config.no_sync_func = wrapped.no_sync
    return Trainer(wrapped, optimizer, _schedule(optimizer, train, phase))


def _optimizer_config(train: TrainConfig, phase: PhaseConfig) -> OptimizerConfig:
    return OptimizerConfig(
        optimizer="adam",
        lr=phase.lr,
        min_lr=phase.lr * train.min_lr_share,
        weight_decay=train.weight_decay,
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
        start_wd=train.weight_decay,
        end_wd=train.weight_decay,
        wd_incr_steps=phase.steps,
        wd_incr_style="constant",
    )
