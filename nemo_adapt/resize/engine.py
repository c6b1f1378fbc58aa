"""Apply a row plan to a sharded table. The result does not depend on how the tables are cut.

Each rank makes the rows of its own target range: kept rows are copied, new rows are summed in float32 in the plan's
order and rounded once, padded rows are zero. Ranks exchange only rows that are named, in bounded portions.
"""

import numpy as np
import torch

from nemo_adapt.resize.plan import RowPlan
from nemo_adapt.resize.table import ShardedTable


def resize_shard(source: ShardedTable, plan: RowPlan, kept: int, start: int, stop: int, seed: int) -> torch.Tensor:
    """Rows ``start`` to ``stop`` of the target table: [stop - start, hidden], dtype and device of the source.

    Target rows below ``kept`` are source rows; the plan's rows follow; rows after them are padding and zero.
    A collective over the source table's group.
    """
    target = source.rows.new_zeros((stop - start, source.rows.shape[1]))
    _copy_kept(source, target, start, min(stop, kept))
    first = max(start, kept) - kept
    last = min(stop - kept, plan.new_rows)
    _make_new(source, plan, target, kept - start, first, max(first, last), seed, kept)
    return target


def _copy_kept(source: ShardedTable, target: torch.Tensor, start: int, stop: int) -> None:
    step = source.chunk()
    for begin in range(start, start + source.most(max(0, stop - start)), step):
        wanted = np.arange(begin, max(begin, min(begin + step, stop)), dtype=np.int64)
        rows = source.fetch(wanted)
        if len(wanted):
            target[begin - start : begin - start + len(wanted)] = rows


def _make_new(
    source: ShardedTable, plan: RowPlan, target: torch.Tensor, shift: int, first: int, last: int, seed: int, kept: int
) -> None:
    """Make rows ``first`` to ``last`` of the plan at ``target[shift + row]``."""
    mean = std = None
    if plan.noise and plan.noise.kind not in ("unit", "diagonal"):
        raise NotImplementedError(plan.noise.kind)
    if plan.mean_share or plan.noise:
        mean, std = (value.float() for value in source.mean_and_std(kept))
    portions = _portions(plan, first, last, source.chunk())
    for portion in range(source.most(len(portions))):
        begin, end = portions[portion] if portion < len(portions) else (last, last)
        part = plan.combination[begin:end]
        wanted, places = np.unique(part.indices, return_inverse=True)
        rows = source.fetch(wanted.astype(np.int64)).float()
        made = rows.new_zeros((end - begin, target.shape[1]))
        if mean is not None:
            made += plan.mean_share * mean
        _add_products(made, rows, part.indptr, places, part.data)
        if plan.noise and std is not None:
            spread = std if plan.noise.kind == "diagonal" else 1.0
            drawn = gaussian(seed, range(kept + begin, kept + end), target.shape[1]).to(made.device)
            made += plan.noise.scale * spread * drawn
        target[shift + begin : shift + end] = made.to(target.dtype)


def gaussian(seed: int, ids: range, columns: int) -> torch.Tensor:
    """Standard normal numbers [len(ids), columns], float32; a row depends only on ``seed`` and its token id."""
    rows = [np.random.Generator(np.random.Philox(key=[seed, token])).standard_normal(columns) for token in ids]
    return torch.from_numpy(np.array(rows, dtype=np.float32).reshape(len(ids), columns))


def _add_products(
    made: torch.Tensor, rows: torch.Tensor, ends: np.ndarray, places: np.ndarray, weights: np.ndarray
) -> None:
    """``made[i] += sum of weights * rows`` with the terms of each row added one by one, in the plan's order."""
    lengths = np.diff(ends)
    for term in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > term)
        entries = ends[longer] + term
        index = torch.from_numpy(longer).to(made.device)
        factors = torch.from_numpy(weights[entries].astype(np.float32)).to(made.device)
        made[index] += factors[:, None] * rows[torch.from_numpy(places[entries]).to(made.device)]


def _portions(plan: RowPlan, first: int, last: int, most_rows: int) -> list[tuple[int, int]]:
    """Cut the plan's rows ``first`` to ``last`` so that no portion names or makes more than ``most_rows`` rows."""
    ends = plan.combination.indptr
    portions = []
    while first < last:
        by_terms = int(np.searchsorted(ends, ends[first] + most_rows, side="right")) - 1
        end = max(first + 1, min(last, by_terms, first + most_rows))
        portions.append((first, end))
        first = end
    return portions
