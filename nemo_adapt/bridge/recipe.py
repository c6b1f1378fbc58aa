"""A run's training as a recipe of Megatron-Bridge: its ``ConfigContainer``, as YAML and as Python.

Both are written from the same nested settings, in which ``_target_`` names a class and the other keys are its
arguments, as in Bridge's YAML (megatron/bridge/training/config.py, 0.3.1).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.bridge.provider import precision, provider
from nemo_adapt.config import Config, PhaseConfig, TrainConfig, megatron_settings
from nemo_adapt.config.layout import stage_layers
from nemo_adapt.config.megatron_settings import Settings
from nemo_adapt.config.phases import ALL, SCHEDULE_NAMES, decay_steps, warmup_steps
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Family, Shape
from nemo_adapt.machine.cuda_environment import DETERMINISTIC, ENGINE
from nemo_adapt.model.build import DTYPES, stages
from nemo_adapt.tokens.vocab import padded_rows

CONFIG = "megatron.bridge.training.config"
TORCH = "torch"
"""Names with this prefix are written in full in the Python file, not imported from their module."""
NOT_IN_BRIDGE = (
    *("z_loss", "no_weight_decay", "reset_positions", "reset_attention"),
    *("save_minutes", "keep_every", "keep_best", "score_every", "trace"),
)
"""Keys of ``train`` that are refused unless they are off. docs/nemo.md lists those that are left out."""
HEAD = '''"""{title}: the training of a run of nemo_adapt as a recipe of Megatron-Bridge 0.3.

    torchrun --nproc-per-node={ranks} {file}
"""

'''
MAIN = """

if __name__ == "__main__":
{environment}    from megatron.bridge.training.gpt_step import forward_step
    from megatron.bridge.training.pretrain import pretrain

    pretrain(recipe(), forward_step)
"""


@dataclass(frozen=True)
class RecipePaths:
    """Absolute paths of what the recipe reads and writes."""

    start: Path
    """The resized model as Bridge's checkpoint."""
    tokenizer: Path
    data: list[tuple[Path, float]]
    """Prefixes of Megatron's datasets, each with its share of the tokens."""
    out: Path
    """Gets Bridge's checkpoints, its data cache and its logs."""


def only_phase(plan: list[PhaseConfig], train: TrainConfig) -> PhaseConfig:
    """Return a training's only phase if Bridge can run it; ``UserError`` for anything that Bridge does not support."""
    if len(plan) != 1 or plan[0].train != ALL:
        what = ", ".join(phase.train for phase in plan)
        raise UserError(
            f"nemo-recipe: Megatron-Bridge trains everything in one phase, this run has {what}: train the other phases "
            "here, and go on from model.checkpoint with the last"
        )
    for key in NOT_IN_BRIDGE:
        if value := getattr(train, key):
            raise UserError(f"nemo-recipe: train.{key}={value} has no equivalent in Megatron-Bridge: leave it out")
    if plan[0].lr_factors:
        raise UserError(f"nemo-recipe: lr_factors={plan[0].lr_factors} has no equivalent in Megatron-Bridge")
    return plan[0]


def container(config: Config, family: Family, shape: Shape, phase: PhaseConfig, paths: RecipePaths) -> Settings:
    """Return the ``ConfigContainer`` for training ``phase`` with a model of ``shape`` (extended vocabulary)."""
    train = config.train
    return {
        "_target_": f"{CONFIG}.ConfigContainer",
        "model": _model(config, family, shape),
        "train": {
            "_target_": f"{CONFIG}.TrainingConfig",
            "train_iters": phase.steps,
            "global_batch_size": train.global_batch,
            "micro_batch_size": train.micro_batch,
            "eval_iters": 0,
            "exit_signal_handler": True,
        },
        "optimizer": {"_target_": f"{CONFIG}.OptimizerConfig", **megatron_settings.optimizer(train, phase)},
        "scheduler": schedule(phase, train),
        "ddp": {
            "_target_": f"{CONFIG}.DistributedDataParallelConfig",
            "grad_reduce_in_fp32": True,
            "use_distributed_optimizer": train.distributed_optimizer,
        },
        "dataset": _dataset(train, paths),
        "tokenizer": {
            "_target_": "megatron.bridge.training.tokenizers.config.TokenizerConfig",
            "tokenizer_type": "HuggingFaceTokenizer",
            "tokenizer_model": str(paths.tokenizer),
        },
        "checkpoint": _checkpoint(train, paths),
        "logger": _logger(train, config.run.name, paths),
        "rng": {"_target_": f"{CONFIG}.RNGConfig", "seed": train.seed},
    }


def schedule(phase: PhaseConfig, train: TrainConfig) -> Settings:
    """Return the learning rates of ``train/setup.py``, the same at every step if there is a warm-up.

    Our schedule advances before a step of the optimizer, Bridge's after it. So with W steps of warm-up and D of decay,
    Bridge gets W - 1 and D - 1, and begins at the rate of our first step, 1/W of the peak.
    """
    warmup = warmup_steps(phase, train)
    earlier = 1 if warmup else 0
    decay = phase.steps - earlier
    wsd = {"lr_wsd_decay_iters": decay_steps(phase, train), "lr_wsd_decay_style": "linear"}
    return {
        "_target_": f"{CONFIG}.SchedulerConfig",
        "lr_decay_style": SCHEDULE_NAMES.get(train.schedule, train.schedule),
        "lr_decay_iters": max(1, decay),
        "lr_warmup_iters": warmup - earlier,
        "lr_warmup_init": phase.lr / warmup if warmup > 1 else 0.0,
        **(wsd if train.schedule == "wsd" else {}),
        "start_weight_decay": train.weight_decay,
        "end_weight_decay": train.weight_decay,
        "weight_decay_incr_style": "constant",
    }


def _model(config: Config, family: Family, shape: Shape) -> Settings:
    """Return the provider for the run's layout; only TP adds padded rows, as they take part in Bridge's softmax."""
    parallel, train, dtype = config.parallel, config.train, DTYPES[config.train.precision]
    is_unequal = len(set(stage_layers(shape.layers, parallel))) > 1
    return {
        **provider(family, shape, dtype),
        **precision(dtype),
        "vocab_size": padded_rows(shape.vocab, 1, parallel.tp),
        "should_pad_vocab": False,
        "seq_length": train.seq_length,
        # Bridge keeps what interleaved stages need as long as ``ConfigContainer.comm_overlap`` is not set.
        **megatron_settings.ranks(parallel),
        **megatron_settings.recomputation(train),
        # Bridge refuses its fused loss beside it.
        **({"deterministic_mode": True, "cross_entropy_loss_fusion": False} if train.deterministic else {}),
        **({"pipeline_model_parallel_layout": stages(shape, parallel)} if is_unequal else {}),
    }


def _dataset(train: TrainConfig, paths: RecipePaths) -> Settings:
    """Return the settings of the same blend in the same order."""
    prefixes, shares = [str(prefix) for prefix, _ in paths.data], [share for _, share in paths.data]
    return {
        "_target_": f"{CONFIG}.GPTDatasetConfig",
        "seq_length": train.seq_length,
        "random_seed": train.seed,
        "blend_per_split": [[prefixes, shares], None, None],
        "path_to_cache": str(paths.out / "cache"),
        "reset_position_ids": False,
        "reset_attention_mask": False,
        "eod_mask_loss": train.mask_document_ends,
        "dataloader_type": "single",
        "num_workers": 2,
    }


def _checkpoint(train: TrainConfig, paths: RecipePaths) -> Settings:
    """Return what the training starts from, and which checkpoints it writes and resumes from."""
    return {
        "_target_": f"{CONFIG}.CheckpointConfig",
        "pretrained_checkpoint": str(paths.start),
        "load": str(paths.out / "checkpoints"),
        "save": str(paths.out / "checkpoints"),
        "save_interval": train.save_every,
        "most_recent_k": train.keep,
        "async_save": train.async_save,
        "ckpt_format": "torch_dist",
        "dist_ckpt_optim_fully_reshardable": True,
    }


def _logger(train: TrainConfig, name: str, paths: RecipePaths) -> Settings:
    """Return where the metrics of the run called ``name`` go."""
    return {
        "_target_": f"{CONFIG}.LoggerConfig",
        "log_interval": train.log_every,
        "tensorboard_dir": str(paths.out / "tensorboard"),
        **({"wandb_project": train.wandb, "wandb_exp_name": name} if train.wandb else {}),
    }


def python(settings: Settings, title: str, file: str, ranks: int) -> str:
    """Return the settings as a Python file with a function ``recipe``."""
    found: dict[str, set[str]] = defaultdict(set)
    for target in _targets(settings):
        module, _, name = target.rpartition(".")
        found[module].add(name)
    torch = ["import torch\n"] if any(module.startswith(TORCH) for module in found) else []
    imports = [
        f"from {module} import {', '.join(sorted(names))}"
        for module, names in sorted(found.items())
        if not module.startswith(TORCH)
    ]
    body = f"def recipe() -> {_short(settings)}:\n    return {_expression(settings, 4)}\n"
    return (
        HEAD.format(title=title, ranks=ranks, file=file)
        + "\n".join([*torch, *imports])
        + "\n\n\n"
        + body
        + MAIN.format(environment=_environment(settings))
    )


def _environment(settings: Settings) -> str:
    """Return the lines that set the variables which kernels whose results do not depend on timing need, if wanted."""
    if not settings["model"].get("deterministic_mode"):
        return ""
    kept = [f'    os.environ.setdefault("{name}", "{value}")\n' for name, value in DETERMINISTIC.items()]
    return "".join(["    import os\n\n", *kept, f'    os.environ["{ENGINE}"] = "0"\n\n'])


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "_target_" in value:
            yield value["_target_"]
        for each in value.values():
            yield from _targets(each)


def _short(value: Settings) -> str:
    """Return an object's name in the Python file."""
    target = str(value["_target_"])
    return target if target.startswith(TORCH) else target.rpartition(".")[2]


def _expression(value: Any, indent: int) -> str:
    """Return a value as Python source; ``indent``: columns before the line in which it begins."""
    if not isinstance(value, dict):
        return repr(value)
    if value.get("_call_") is False:
        return _short(value)
    pad = " " * (indent + 4)
    lines = [f"{pad}{key}={_expression(each, indent + 4)},\n" for key, each in value.items() if key != "_target_"]
    return f"{_short(value)}(\n{''.join(lines)}{' ' * indent})"
