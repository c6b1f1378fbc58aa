"""What a training needs besides the model: data-parallel wrapper, optimizer, learning-rate schedule."""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer, get_standard_config_overrides
from megatron.core.optimizer.optimizer_config import ParamKey, ParamPredicate
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from nemo_adapt.config import PhaseConfig, TrainConfig, megatron_settings
from nemo_adapt.config.phases import NEW_ROWS, SCHEDULE_NAMES, Trained, decay_steps, lr_factors, trained, warmup_steps
from nemo_adapt.train import adam
from nemo_adapt.train.frozen import chosen, freeze
from nemo_adapt.train.names import named_parameters
from nemo_adapt.train.new_rows import NewRows, RowRange, attach, detach

NOT_DECAYED = "is_not_decayed"
"""Attribute of a parameter that ``train.no_weight_decay`` names."""
NORMS = ("q_layernorm.weight", "k_layernorm.weight")
"""Ends of names of norms that may have a row of weights for each head, which Megatron would take for matrices."""
LR_FACTOR = "lr_factor"
"""Attribute of a parameter: its factor of the phase's learning rate."""


class NormNotFinite(ArithmeticError):
    """The gradient norm is not finite."""


@dataclass
class Trainer:
    """The parts of a running training on this rank."""

    chunks: list[Any]
    """The bare model: this rank's GPTModels, several if pipeline stages are interleaved."""
    wrapped: list[Any]
    """Megatron's data-parallel wrappers around them."""
    optimizer: Any
    scheduler: Any
    """Megatron's ``OptimizerParamScheduler``, counted in steps of the phase."""
    new_rows: list[NewRows]
    """This rank's new rows in a phase of ``new_rows``, else empty."""

    def update(self) -> float:
        """Step the optimizer and the schedule; return the global gradient norm before clipping.

        If it is not finite, the weights stay unchanged and NaN is returned. Weights that other data-parallel ranks have
        updated may arrive only during the next forward pass: call ``gather`` before reading weights.
        """
        self.scheduler.step(1)
        try:
            _, grad_norm, _ = self.optimizer.step()
        except NormNotFinite:
            return math.nan
        for rows in self.new_rows:
            rows.copy_back()
        return float(grad_norm or 0.0)

    def gather(self) -> None:
        """Wait for the weights that other data-parallel ranks have updated. A collective."""
        for wrapped in self.wrapped:
            if wrapped.use_forward_hook:
                wrapped.start_param_sync(force_sync=True)

    def release(self) -> None:
        """Free gradient buffers and optimizer state, even if this trainer is still referenced; the bare model stays."""
        config = self.chunks[0].config
        config.finalize_model_grads_func = config.grad_scale_func = config.no_sync_func = None
        for chunk, wrapped in zip(self.chunks, self.wrapped, strict=True):
            wrapped.grad_accs.clear()  # breaks a reference cycle of their hooks and the wrapper
            if wrapped.use_forward_hook:
                wrapped.disable_forward_pre_hook(param_sync=False)
            detach(chunk, self.new_rows)
        self.wrapped = self.new_rows = []
        self.optimizer = self.scheduler = None
        gc.collect()


def build_trainer(chunks: list[Any], train: TrainConfig, phase: PhaseConfig, new: RowRange) -> Trainer:
    """Freeze what ``phase`` does not train, wrap ``chunks`` for data parallelism, and create a fresh Adam and schedule.

    ``new``: the new rows of the whole tables. Master weights are fp32 copies of the model's.
    """
    from megatron.core.transformer.module import Float16Module

    config, what = chunks[0].config, trained(phase)
    new_rows = []
    for chunk in chunks:
        freeze(chunk, what)
        _mark_not_decayed(chunk, train.no_weight_decay)
        _mark_lr_factors(chunk, phase)
        new_rows += attach(chunk, new) if NEW_ROWS in what.kinds else []
    overlaps = _overlaps(what)
    ddp_config = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=overlaps,
        overlap_param_gather=overlaps and train.distributed_optimizer,
        use_distributed_optimizer=train.distributed_optimizer,
    )
    wrapped = []
    for number, chunk in enumerate(chunks):
        inner = Float16Module(config, chunk) if train.precision == "bf16" else chunk
        wrapped.append(DistributedDataParallel(config, ddp_config, inner, disable_bucketing=number > 0))
    optimizer = get_megatron_optimizer(
        _optimizer_config(train, phase), wrapped, _overrides(train, phase), use_gloo_process_groups=False
    )
    optimizer.get_grad_norm = partial(_checked_norm, optimizer.get_grad_norm)  # called within its step, before updating
    adam.fill_moments(optimizer)
    for rows in new_rows:
        rows.receive_gradients()
    config.finalize_model_grads_func = finalize_model_grads
    config.grad_scale_func = optimizer.scale_loss
    no_sync = [each.no_sync for each in wrapped]
    config.no_sync_func = no_sync if len(wrapped) > 1 else no_sync[0]
    return Trainer(chunks, wrapped, optimizer, _schedule(optimizer, train, phase), new_rows)


def _overlaps(what: Trained) -> bool:
    """Whether gradient reduction overlaps the backward pass, and weight gathering the forward pass.

    Not for new rows, whose gradients bypass the hooks that start the reduction, and not for a single rank, where it
    would only split the buffer.
    """
    ranks = parallel_state.get_data_parallel_world_size(with_context_parallel=True)
    return ranks > 1 and NEW_ROWS not in what.kinds


def _checked_norm(norm: Callable[[], float]) -> float:
    found = norm()
    if not math.isfinite(found):
        raise NormNotFinite(found)
    return found


def _optimizer_config(train: TrainConfig, phase: PhaseConfig) -> OptimizerConfig:
    return OptimizerConfig(**megatron_settings.optimizer(train, phase))


def _mark_not_decayed(chunk: Any, patterns: Sequence[str]) -> None:
    """Mark norms and the parameters that ``patterns`` name; separate new rows, attached later, get their table's marks.

    Megatron itself would match names as they are on this stage, with its wrappers' prefixes. The last stage's copy of a
    tied table has another name there: it would be decayed, and the table not.
    """
    for name, parameter in named_parameters(chunk):
        is_named = any(fnmatchcase(name, pattern) for pattern in patterns)
        setattr(parameter, NOT_DECAYED, is_named or name.endswith(NORMS))


def _mark_lr_factors(chunk: Any, phase: PhaseConfig) -> None:
    """Give each parameter its factor of the learning rate, which separate new rows get from their table."""
    for parameter in chunk.parameters():
        setattr(parameter, LR_FACTOR, 1.0)
    for what, factor in lr_factors(phase):
        for parameter in chosen(chunk, what):
            setattr(parameter, LR_FACTOR, factor)


def _overrides(train: TrainConfig, phase: PhaseConfig) -> dict[ParamKey, Any]:
    """Return Megatron's rule (no weight decay for vectors) and the exceptions of the configuration."""
    config = _optimizer_config(train, phase)
    overrides: dict[ParamKey, Any] = get_standard_config_overrides(config)
    overrides[ParamKey(attr=NOT_DECAYED)] = {"wd_mult": 0.0}
    for factor in set(phase.lr_factors.values()) - {1.0}:
        key = ParamKey(predicate=ParamPredicate(f"{LR_FACTOR}={factor}", partial(_has_factor, factor)))
        # Megatron's schedule reads the rates, and loading a checkpoint tells groups apart by the factor.
        rates = {"max_lr": config.lr * factor, "min_lr": config.min_lr * factor}
        overrides[key] = {"lr_mult": factor, **rates}
    return overrides


def _has_factor(factor: float, parameter: torch.nn.Parameter) -> bool:
    return bool(getattr(parameter, LR_FACTOR) == factor)


def _schedule(optimizer: Any, train: TrainConfig, phase: PhaseConfig) -> OptimizerParamScheduler:
    """Return Megatron's schedule, counted in steps: linear warm-up, then decay to ``min_lr_share`` at the last step.

    A single step, which is the first and the last, is at the peak.
    """
    style = "constant" if phase.steps == 1 else SCHEDULE_NAMES.get(train.schedule, train.schedule)
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=phase.lr,
        min_lr=phase.lr * train.min_lr_share,
        lr_warmup_steps=warmup_steps(phase, train),
        lr_decay_steps=phase.steps,
        lr_decay_style=style,
        wsd_decay_steps=decay_steps(phase, train),
        lr_wsd_decay_style="linear",
        start_wd=train.weight_decay,
        end_wd=train.weight_decay,
        wd_incr_steps=phase.steps,
        wd_incr_style="constant",
    )
