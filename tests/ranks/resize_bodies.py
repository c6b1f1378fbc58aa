"""Code of the ranks in tests of the resize engine."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from helpers.folders import Folders
from ranks import model_bodies
from scipy.sparse import csr_matrix

from nemo_adapt.config import Config, ResizeConfig
from nemo_adapt.families.family import INPUT, OUTPUT
from nemo_adapt.model.build import start_parallel
from nemo_adapt.resize import strategy_inputs, table
from nemo_adapt.resize.adapted import adapted_shape, build_adapted
from nemo_adapt.resize.engine import Resize
from nemo_adapt.resize.load import load_resized
from nemo_adapt.resize.plan import Materials, RowPlan, strategies
from nemo_adapt.resize.strategy_inputs import StrategyInputs
from nemo_adapt.tokens.token_map import TokenMap

SEED = 7


def resize_alone(source: torch.Tensor, plan: RowPlan, padded: int, kept: int | None = None) -> torch.Tensor:
    """Return the complete resized table, computed in one process; without ``kept`` all rows of the source stay."""
    made = source.new_full((padded, source.shape[1]), torch.nan)
    Resize(table.ShardedTable(source, (0, len(source))), plan, len(source) if kept is None else kept, SEED).fill(
        made, 0
    )
    return made


@dataclass(frozen=True)
class Counting(table.ShardedTable):
    """A table that records in ``asked`` the number of rows that each exchange fetches."""

    asked: Any = None

    def gather(self, wanted: list[np.ndarray]) -> table.Gathered:
        own, fetched, places = super().gather(wanted)
        self.asked.append(len(fetched))
        return own, fetched, places


def resize_sharded(
    rank: int, source: torch.Tensor, plans: list[RowPlan], kept: int, padded: int, exchange: int, shift: int = 0
) -> list[tuple[torch.Tensor, int]]:
    """Return, for each plan, this rank's shard of the resized table and the rows of the largest exchange.

    ``exchange``: limit on its bytes. ``shift`` misplaces the rows on purpose.
    """
    table.EXCHANGE_BYTES = exchange
    size = dist.get_world_size()
    bounds = (0, *(max(1, len(source) * part // size - 3) for part in range(1, size)), len(source))  # uneven on purpose
    rows = source.roll(-shift, 0)[bounds[rank] : bounds[rank + 1]]
    found = []
    for plan in plans:
        shard = Counting(rows, bounds, dist.group.WORLD, [])
        made = source.new_full((padded // size, source.shape[1]), torch.nan)
        Resize(shard, plan, kept, SEED).fill(made, rank * len(made))
        found.append((made, max(shard.asked, default=0)))
    return found


def error_of(rank: int, source: torch.Tensor, plan: RowPlan) -> str:
    """Return the error of a rank for an invalid plan or source, or "nothing"."""
    try:
        resize_sharded(rank, source, [plan], len(source), 64, 1 << 20)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def error_of_ranges(rank: int, source: torch.Tensor, plan: RowPlan, starts: list[int], rows: int) -> str:
    """Return the error of a rank that fills ``rows`` rows from its entry of ``starts`` on, or "nothing"."""
    half = len(source) // 2
    shard = table.ShardedTable(source[rank * half : (rank + 1) * half], (0, half, 2 * half), dist.group.WORLD)
    try:
        Resize(shard, plan, len(source), SEED).fill(source.new_empty(rows, source.shape[1]), starts[rank])
    except ValueError as error:
        return str(error)
    return "nothing"


def save_and_capture(rank: int, config: Config, folders: Folders, out: Path) -> str:
    """Save the resized model; return what was printed meanwhile."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        model_bodies.save(rank, config, folders, out)
    return printed.getvalue()


def tables_by_strategy(
    rank: int, config: Config, folders: Folders, names: list[str], with_bias: bool = False
) -> dict[str, dict[str, torch.Tensor]]:
    """Return, for each strategy, this rank's shards of the tables, and with ``with_bias`` of an added output bias."""
    start_parallel(config.parallel, config.train.seed)
    token_map = TokenMap.load(folders.tokenizer)
    (model,) = build_adapted(config, adapted_shape(folders.model, token_map))
    held = {}
    if model.pre_process:
        held["input"] = model.embedding.word_embeddings.weight
    if model.post_process:
        weight = model.output_layer.weight
        held["output"] = held["input"] if weight is None else weight
        if with_bias:
            held["bias"] = model.output_layer.bias = torch.nn.Parameter(held["output"].new_full(weight.shape[:1], 9.0))
    found = {}
    for name in names:
        config.resize.input = config.resize.output = name
        load_resized([model], folders.checkpoint, token_map, config.resize, StrategyInputs(folders.model))
        found[name] = {table: shard.detach().clone() for table, shard in held.items()}
    return found


def plan_parts(
    rank: int, folders: Folders, token_map: TokenMap, name: str, fresh: Sequence[int] = ()
) -> tuple[list[csr_matrix], list[int]]:
    """Return the combinations of two tables' plans, and the new tokens for which this rank made rows.

    Ranks in ``fresh`` forget the first plan before the second.
    """
    made: list[int] = []
    chosen = strategies.get(name)

    def counted(materials: Materials, wanted: np.ndarray) -> Any:
        for index, row in chosen.make_rows(materials, wanted):
            made.append(int(index))
            yield index, row

    config = ResizeConfig(input=name, output=name)
    with mock.patch.dict(strategies._things, {name: replace(chosen, make_rows=counted)}):
        found = []
        for name_of_table in (INPUT, OUTPUT):
            if rank in fresh:
                strategy_inputs._made.clear()
            inputs = StrategyInputs(folders.model, folders.auxiliary)
            found.append(inputs.plan(config, name_of_table, token_map).combination)
    return found, made
