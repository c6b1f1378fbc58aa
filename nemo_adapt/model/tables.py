"""Which parameters of a GPTModel are shards of its tables."""

from dataclasses import dataclass
from typing import Any

import torch

from nemo_adapt.families.family import EMBEDDING, INPUT, OUTPUT, OUTPUT_BIAS, OUTPUT_LAYER


@dataclass(frozen=True)
class TableShard:
    """A table, or an output bias, of which this rank holds a shard."""

    key: str
    """Its key in the checkpoint."""
    shard: torch.nn.Parameter
    table: str
    """Whose strategy makes its rows: ``input`` or ``output``."""


def tables_of(model: Any) -> list[TableShard]:
    """What this rank holds; a tied last stage holds a copy of the first's table."""
    found = []
    if model.pre_process:
        found.append(TableShard(EMBEDDING, model.embedding.word_embeddings.weight, INPUT))
    if not model.post_process:
        return found
    layer, tied = model.output_layer, model.share_embeddings_and_output_weights
    if not (tied and model.pre_process):
        found.append(TableShard(*((EMBEDDING, layer.weight, INPUT) if tied else (OUTPUT_LAYER, layer.weight, OUTPUT))))
    if getattr(layer, "bias", None) is not None:
        found.append(TableShard(OUTPUT_BIAS, layer.bias, INPUT if tied else OUTPUT))
    return found
