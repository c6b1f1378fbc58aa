"""Fill a Megatron model from a converted checkpoint, its tables resized on the way (for ``resize`` and ``train``)."""

from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing, parallel_state
from scipy.sparse import csr_matrix

from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, OUTPUT_LAYER
from nemo_adapt.resize.engine import resize_shard
from nemo_adapt.resize.plan import INPUT, OUTPUT, RowPlan
from nemo_adapt.resize.supplies import Supplies
from nemo_adapt.resize.table import ShardedTable
from nemo_adapt.token_map import TokenMap

TABLES = (EMBEDDING, OUTPUT_LAYER)


def load_resized(model: Any, checkpoint: Path, token_map: TokenMap, config: ResizeConfig, supplies: Supplies) -> None:
    """Load ``checkpoint`` into ``model``, whose tables already have the target's padded size.

    Kept rows are copied bit by bit, new rows made by the configured strategies, padded rows set to zero. Tied tables
    use the input's strategy. Raises ``UserError`` when the token map was made for another vocabulary.
    """
    opened = Checkpoint(checkpoint)
    load_all_but_tables(model, checkpoint)
    group = parallel_state.get_tensor_model_parallel_group()
    for key, weight, table in _tables(model):
        plan, kept = _plan(config, table, token_map, opened.sizes[key][0], checkpoint, supplies)
        source = _source_shard(opened, key, weight, group)
        rows = weight.shape[0]
        start = parallel_state.get_tensor_model_parallel_rank() * rows
        with torch.no_grad():
            weight.copy_(resize_shard(source, plan, kept, start, start + rows, config.seed))


def load_all_but_tables(model: Any, checkpoint: Path) -> None:
    """Load every tensor but the tables; each must be there."""
    state = model.sharded_state_dict()
    wanted = {
        name: tensor
        for name, tensor in state.items()
        if not name.endswith("_extra_state") and getattr(tensor, "key", name) not in TABLES
    }
    loaded = dist_checkpointing.load(wanted, str(checkpoint))
    answer = model.load_state_dict(loaded, strict=False)
    absent = [name for name in answer.missing_keys if name not in TABLES and not name.endswith("_extra_state")]
    if absent or answer.unexpected_keys:
        raise ValueError(f"{checkpoint}: not loaded {absent}, unexpected {answer.unexpected_keys}")


def _tables(model: Any) -> list[tuple[str, torch.nn.Parameter, str]]:
    """This rank's tables: checkpoint key, parameter, and which one; a tied last stage holds a copy of the first."""
    found = []
    if model.pre_process:
        found.append((EMBEDDING, model.embedding.word_embeddings.weight, INPUT))
    if model.post_process and not (model.share_embeddings_and_output_weights and model.pre_process):
        tied = model.share_embeddings_and_output_weights
        key, table = (EMBEDDING, INPUT) if tied else (OUTPUT_LAYER, OUTPUT)
        found.append((key, model.output_layer.weight, table))
    return found


def _plan(
    config: ResizeConfig, table: str, token_map: TokenMap, source_rows: int, checkpoint: Path, supplies: Supplies
) -> tuple[RowPlan, int]:
    """The plan for the new rows, and how many source rows are kept."""
    if not token_map.tokens:
        return RowPlan(csr_matrix((0, source_rows), dtype="float32")), source_rows
    if token_map.source_vocab > source_rows:
        raise UserError(
            f"the tokenizer has {token_map.source_vocab} base tokens, but the model in {checkpoint} only "
            f"{source_rows} rows: tokenizer.base and model.path do not belong together"
        )
    return supplies.plan(config, table, token_map), token_map.source_vocab


def _source_shard(opened: Checkpoint, key: str, weight: torch.Tensor, group: Any) -> ShardedTable:
    """This TP rank's even share of the checkpoint's table, in the model's dtype and on its device."""
    total, size, rank = opened.sizes[key][0], group.size(), group.rank()
    bounds = tuple(total * part // size for part in range(size + 1))
    rows = opened.rows(key, bounds[rank], bounds[rank + 1]).to(device=weight.device, dtype=weight.dtype)
    return ShardedTable(rows, bounds, group if size > 1 else None)
