"""Load a converted checkpoint into a Megatron model, its tables resized on the way (for ``resize`` and ``train``)."""

import itertools
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import parallel_state
from torch.distributed.checkpoint.api import CheckpointException

from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import ResizeConfig
from nemo_adapt.console.progress import say
from nemo_adapt.families.family import EMBEDDING, INPUT, OUTPUT, OUTPUT_BIAS, OUTPUT_LAYER, TABLES
from nemo_adapt.machine import ranks
from nemo_adapt.model.tables import TableShard, tables_of
from nemo_adapt.model.weights import load_weights, replicas
from nemo_adapt.partition import even_bounds
from nemo_adapt.resize.engine import Resize, bias_plan
from nemo_adapt.resize.noise import noise_seed
from nemo_adapt.resize.planning import plan_of, spare_rows
from nemo_adapt.resize.strategy_inputs import StrategyInputs
from nemo_adapt.resize.table import ShardedTable
from nemo_adapt.tokens.token_map import TokenMap


def load_resized(
    chunks: list[Any], checkpoint: Path, token_map: TokenMap, config: ResizeConfig, strategy_inputs: StrategyInputs
) -> None:
    """Load ``checkpoint`` into this rank's ``chunks`` of a model whose tables already have the target's padded size.

    Kept rows are copied, bit for bit if the checkpoint has the model's dtype, new rows made by the configured
    strategies, padded rows set to zero. Tied tables use the input's strategy; an output bias follows its table's.
    Raises ``UserError`` when the token map was made for another vocabulary and for NaN or infinity in a table, and
    ``Damaged`` when a file of the checkpoint is.
    """
    opened = Checkpoint(checkpoint)
    try:
        load_weights(chunks, checkpoint, left_out=TABLES)
    except (Exception, CheckpointException):  # the second does not derive from Exception
        opened.examine()  # raises a one-line error if a file is damaged
        raise
    said = spare_rows(token_map, opened.shapes[EMBEDDING][0])
    if said and ranks.is_first():
        say(said)
    group = parallel_state.get_tensor_model_parallel_group()
    # On ranks without a table too: they make their part of the rows.
    plans = {
        table: plan_of(config, table, token_map, opened.shapes[key][0], strategy_inputs)
        for key, table in ((EMBEDDING, INPUT), (OUTPUT_LAYER, OUTPUT))
        if key in opened.shapes
    }
    for held in (held for chunk in chunks for held in tables_of(chunk)):
        plan, kept = plans[held.table]
        if held.key == OUTPUT_BIAS:
            plan = bias_plan(plan)
        seed = noise_seed(config.seed, held.table)
        shard = held.shard.detach().view(len(held.shard), -1)
        source = source_shard(opened, held, group)
        Resize(source, plan, kept, seed, f"{checkpoint}: {held.key}").fill(shard, group.rank() * len(shard))


def source_shard(opened: Checkpoint, held: TableShard, group: Any) -> ShardedTable:
    """Return this TP rank's even share of the checkpoint's table, in the model's dtype and on its device.

    A bias is a table of one column. Each rank of a DP group reads some of the rows and broadcasts them to the others.
    """
    total, *columns = opened.shapes[held.key]
    bounds = even_bounds(total, group.size())
    first, stop = bounds[group.rank() : group.rank() + 2]
    rows = held.shard.detach().new_empty((stop - first, *columns))
    readers = replicas()
    opened.examine(held.key)  # on every rank: one that failed alone would leave the others waiting for its broadcast
    for reader, (low, high) in enumerate(itertools.pairwise(even_bounds(stop - first, readers.size()))):
        if reader == readers.rank():
            rows[low:high] = opened.rows(held.key, first + low, first + high)
        dist.broadcast(rows[low:high], group=readers, group_src=reader)
    return ShardedTable(rows.view(len(rows), -1), bounds, group if group.size() > 1 else None)
