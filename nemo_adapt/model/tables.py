"""The parameters of a GPTModel that are shards of its tables."""

from dataclasses import dataclass
from typing import Any

import torch

from nemo_adapt.families.family import EMBEDDING, INPUT, OUTPUT, OUTPUT_BIAS, OUTPUT_LAYER


@dataclass(frozen=True)
class TableShard:
    """This rank's shard of a table or of an output bias."""

    key: str
    """Its key in the checkpoint."""
    shard: torch.nn.Parameter
    table: str
    """The table whose strategy makes its rows: ``input`` or ``output``."""


def tables_of(model: Any) -> list[TableShard]:
    """Return this rank's shards; the last stage of a tied model has a copy of the first's table."""
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
