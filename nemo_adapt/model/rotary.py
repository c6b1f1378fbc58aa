"""Rotary positions: frequencies as transformers computes them (modeling_rope_utils.py), applied by position ids."""

import math
from collections.abc import Callable
from typing import Any

import torch

from nemo_adapt.families.family import Rotary, Shape


def inverse_frequencies(rotary: Rotary, head_dim: int, device: torch.device) -> torch.Tensor:
    """Return the radians by which each pair of columns turns per position: [columns / 2], float32."""
    columns = int(head_dim * rotary.share)
    exponents = torch.arange(0, columns, 2, dtype=torch.float32, device=device) / columns
    plain = 1.0 / rotary.base**exponents
    if not rotary.scaling:
        return plain
    if "linear" in rotary.scaling:
        return plain / rotary.scaling["linear"]
    if "each" in rotary.scaling:
        return plain / torch.tensor(rotary.scaling["each"], dtype=torch.float32, device=device)
    if "beta_fast" in rotary.scaling:
        return _yarn(plain, rotary.base, columns, **rotary.scaling)
    return _llama3(plain, **rotary.scaling)


def set_rotary(model: Any, shape: Shape) -> None:
    """Make a GPTModel rotate as ``shape`` says, at the position ids that it is called with, [batch or 1, seq].

    As shipped (gpt_model.py) it uses the index in the sample and ignores position ids, and all layers rotate alike. The
    angles are [seq, batch or 1, 1, columns]; where layers differ, [kinds, seq, batch or 1, 1, columns], of which each
    layer's attention gets its own. Under context parallelism position ids are those of this rank's part, so Megatron
    must not split the angles of the whole sequence: its CP group is removed.
    """
    kinds, module = shape.kinds_of_rotary, model.rotary_pos_emb
    frequencies = [inverse_frequencies(rotary, shape.head_dim, module.inv_freq.device) for rotary in kinds]
    module.inv_freq = torch.cat(frequencies)
    called_with: list[torch.Tensor | None] = [None]

    def note(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        called_with[0] = named["position_ids"] if "position_ids" in named else arguments[1]

    def pick(module: Any, arguments: Any, angles: torch.Tensor) -> torch.Tensor | None:
        positions = called_with[0]
        if positions is None:
            return None
        table = angles[:, 0, 0].unflatten(1, (2, len(kinds), -1)).movedim(2, 0).flatten(2)  # [kinds, seq, columns]
        picked = table[:, positions.T].unsqueeze(3)
        return picked if shape.rotaries else picked[0]

    module.cp_group = None
    # Not before: TransformerConfig would ask for Transformer Engine, and Megatron's angles would have another order.
    model.config.rotary_interleaved = kinds[0].interleaved
    model.register_forward_pre_hook(note, with_kwargs=True)
    module.register_forward_hook(pick)
    if shape.rotaries:
        for layer in model.decoder.layers:
            own = shape.rotaries[layer.layer_number - 1]  # counted from 1, over all stages
            layer.self_attention.register_forward_pre_hook(_choose(kinds.index(own) if own else None), with_kwargs=True)


def _choose(kind: int | None) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Return a hook that gives an attention the angles of one kind (``None``: none at all) instead of all."""

    def choose(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        angles = None if kind is None else named["rotary_pos_emb"][kind]
        return arguments, {**named, "rotary_pos_emb": angles}

    return choose


def _llama3(
    plain: torch.Tensor,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: float,
) -> torch.Tensor:
    """Slow long waves by ``factor``, keep short ones, and blend those between (Llama 3.1, arXiv 2407.21783)."""
    turns = original_max_position_embeddings * plain / (2 * math.pi)  # within the original context
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0)
    return plain * kept + plain / factor * (1.0 - kept)


def _yarn(
    plain: torch.Tensor,
    base: float,
    columns: int,
    factor: float,
    beta_fast: float,
    beta_slow: float,
    original_max_position_embeddings: float,
    truncate: float,
) -> torch.Tensor:
    """Keep waves that turn more than ``beta_fast`` times within the original context, slow those that turn less than
    ``beta_slow`` times by ``factor``, and blend those between by their number (YaRN, arXiv 2309.00071, section 3.2).

    ``truncate``: the blend begins and ends at whole numbers.
    """
    context = original_max_position_embeddings / (2 * math.pi)
    first, last = (columns * math.log(context / turns) / (2 * math.log(base)) for turns in (beta_fast, beta_slow))
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, columns - 1)
    span = (last - first) or 0.001
    slowed = ((torch.arange(len(plain), dtype=torch.float32, device=plain.device) - first) / span).clamp(0.0, 1.0)
    return plain * (1.0 - slowed) + plain / factor * slowed
