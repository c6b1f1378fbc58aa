"""Bounds of numeric settings, checked before anything starts, without torch."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

from nemo_adapt.errors import UserError

Bounds = tuple[float, float]

POSITIVE: Bounds = (1, math.inf)
NOT_NEGATIVE: Bounds = (0, math.inf)
SHARE: Bounds = (0, 1)
BOUNDS: dict[str, Bounds] = {
    **dict.fromkeys(("parallel.tp", "parallel.pp", "parallel.virtual", "parallel.cp", "parallel.dp"), POSITIVE),
    **dict.fromkeys(("train.seq_length", "train.global_batch", "train.micro_batch"), POSITIVE),
    **dict.fromkeys(("train.save_every", "train.log_every", "train.keep"), POSITIVE),
    **dict.fromkeys(("train.warmup_share", "train.decay_share", "train.min_lr_share"), SHARE),
    **dict.fromkeys(("train.adam_beta1", "train.adam_beta2"), (0, 0.999999)),
    **dict.fromkeys(("tokenizer.guard_share", "data.replay_share", "resize.learned_share"), SHARE),
    **dict.fromkeys(("resize.padded_vocab_multiple", "resize.omp_pieces", "resize.wechsel_neighbours"), POSITIVE),
    **dict.fromkeys(
        ("probe.seeds", "probe.steps", "evaluate.batch", "convert.chunk_mib", "tokenizer.max_words"), POSITIVE
    ),
    **dict.fromkeys(("export.shard_mib", "export.pad_vocab_to"), POSITIVE),
    **dict.fromkeys(("auxiliary.dims", "auxiliary.epochs", "auxiliary.min_count", "auxiliary.buckets"), POSITIVE),
    "train.seed": (0, 2**32 - 1),  # what both torch and NumPy accept
    "resize.wechsel_temperature": (1e-6, math.inf),
    "plan.mfu": SHARE,
    "plan.proposals": POSITIVE,
}
"""Key -> smallest and largest allowed value. All other numbers must be at least 0."""


def check_numbers(config: Any) -> None:
    """Raise ``UserError`` for the first setting in the sections of ``config``, and in sections of these, that is out of
    bounds or not finite."""
    for section in fields(config):
        if is_dataclass(part := getattr(config, section.name)):
            _check_section(section.name, part)


def _check_section(name: str, section: Any) -> None:
    for entry in fields(section):
        key, value = f"{name}.{entry.name}", getattr(section, entry.name)
        if is_dataclass(value):
            _check_section(key, value)
            continue
        named = value if isinstance(value, dict) else {"": value}
        for of, number in named.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check(f"{key}.{of}" if of else key, number, BOUNDS.get(key, NOT_NEGATIVE))


def check_positive(settings: Any, *keys: str) -> None:
    """Raise ``UserError`` for the first of these settings of a command that is below 1."""
    for key in keys:
        _check(key, getattr(settings, key), POSITIVE)


def _check(key: str, value: Any, bounds: Bounds) -> None:
    least, most = bounds
    if not (least <= value <= most and math.isfinite(value)):  # NaN fails every comparison
        wanted = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise UserError(f"{key}={value} must be {wanted}")
