"""Apply a row plan to a source table, sharded or on disk. The result does not depend on how the tables are sharded.

Kept rows are copied, new rows are summed in float32 in the plan's order and rounded once, padded rows are zero. The
work on new rows is divided among all ranks, whichever shard a row belongs to. Only source rows that the plan uses are
exchanged, in portions of bounded size.
"""

from dataclasses import replace

import numpy as np
import torch

from nemo_adapt.errors import UserError
from nemo_adapt.partition import rows_in
from nemo_adapt.resize import statistics
from nemo_adapt.resize.finite import check_finite
from nemo_adapt.resize.noise import Spread
from nemo_adapt.resize.plan import NOISE_KINDS, RowPlan
from nemo_adapt.resize.portions import Portion, cut
from nemo_adapt.resize.sums import Terms
from nemo_adapt.resize.table import BLOCK_BYTES, Indices, Source, no_wait
from nemo_adapt.resize.threads import run_in_threads


class Resize:
    """A source table, a plan, and the statistics that the plan needs; ``fill`` makes any range of the target table.

    Target rows below ``kept`` are the source's rows; the plan's rows follow; rows after them are padding and zero.
    Source rows from ``kept`` on (a base model's own padding) are ignored. Construction is a collective over the
    source's ranks, like ``fill``. Raises ``UserError`` for NaN or infinity in the source, and for a plan that does not
    fit it; ``where`` names the table in messages.
    """

    def __init__(self, source: Source, plan: RowPlan, kept: int, seed: int, where: str = "the source table") -> None:
        check_plan(plan, min(kept, source.total), where)
        check_finite(source, kept, where)
        self.source, self.plan, self.kept, self.seed = source, plan, kept, seed
        moments = statistics.Moments(source, kept)
        self.shares = torch.from_numpy(np.broadcast_to(plan.mean_share, plan.new_rows).astype(np.float32))
        self.mean = moments.mean.float() if self.shares.any() else None
        self.spread = Spread(plan.noise, moments) if plan.noise else None
        self.norm = None if plan.norm_of is None else statistics.weighted_norm(source, kept, plan.norm_of)

    def fill(self, out: torch.Tensor, start: int) -> None:
        """Set ``out`` (dtype and device of the source) to the target rows from ``start`` on.

        The ranges of the ranks must be consecutive, as the shards of a table are.
        """
        end = self.kept + self.plan.new_rows
        wait_for_copy = self.source.copy(min(start, self.kept), out[: max(0, self.kept - start)])
        first, last = (min(max(row, self.kept), end) for row in (start, start + len(out)))
        self._make(out[max(0, first - start) : max(0, last - start)], first - self.kept, last - self.kept)
        out[max(0, end - start) :].zero_()
        wait_for_copy()

    def _make(self, out: torch.Tensor, first: int, last: int) -> None:
        """Set ``out`` to rows ``first`` to ``last`` of the plan.

        The ranks make portions of the rows that all of them want, one portion each per turn, and then redistribute
        them.
        """
        source, bounds = self.source, self.source.bounds_of(first, last)
        portions = cut(self.plan.combination, bounds[0], bounds[-1], source.max_rows)
        wait = no_wait
        for at in range(0, len(portions), source.ranks):
            turn = portions[at : at + source.ranks]
            end = turn[-1].last
            turn += [Portion(end, end, [])] * (source.ranks - len(turn))
            mine = turn[source.rank]
            if first <= mine.first and mine.last <= last:
                made = out[mine.first - first : mine.last - first]
            else:
                made = out.new_empty((mine.last - mine.first, out.shape[1]))
            self._make_portion(made, turn)
            wait()  # of the previous turn, which overlapped with this work
            wait = source.redistribute(made, [*(portion.first for portion in turn), end], out, bounds)
        wait()

    def _make_portion(self, out: torch.Tensor, turn: list[Portion]) -> None:
        """Make this rank's portion of a turn."""
        plan, mine = self.plan.combination, turn[self.source.rank]
        rows, one = np.arange(mine.first, mine.last), torch.empty((1, out.shape[1]), device=out.device)
        for number in range(max(len(portion.parts) for portion in turn)):
            ranges = [portion.part(number) for portion in turn]
            held = self.source.gather([plan.indices[begin:end].astype(np.int64) for begin, end in ranges])
            if number >= len(mine.parts):
                continue  # only other ranks have more parts, of long rows
            begin, end = ranges[self.source.rank]
            terms = Terms(*held, plan.data[begin:end])
            if len(mine.parts) == 1:
                self._make_complete(out, rows, plan.indptr[mine.first : mine.last + 1].astype(np.int64) - begin, terms)
                continue
            made = self._start(rows, one) if number == 0 else one
            terms.add_to(made, np.array([0, end - begin]))
        if len(mine.parts) > 1:
            self._finish(one, rows)
            out.copy_(one)

    def _make_complete(self, out: torch.Tensor, rows: Indices, ends: Indices, terms: Terms) -> None:
        """Make rows whose terms are all at hand, block by block."""
        step = rows_in(BLOCK_BYTES, 4 * out.shape[1])

        def work(blocks: list[int]) -> None:
            buffer = torch.empty((step, out.shape[1]), device=out.device)  # reused for all blocks: no new memory
            for at in blocks:
                made = self._start(rows[at : at + step], buffer)
                terms.add_to(made, ends[at : at + step + 1])
                self._finish(made, rows[at : at + step])
                out[at : at + step] = made

        run_in_threads(work, list(range(0, len(rows), step)), out.device)

    def _start(self, rows: Indices, buffer: torch.Tensor) -> torch.Tensor:
        """Return the initial values of the plan's ``rows``, in ``buffer``: their share of the mean."""
        made = buffer[: len(rows)]
        if self.mean is None:
            return made.zero_()
        return torch.mul(self.shares[torch.from_numpy(rows)].to(made.device)[:, None], self.mean, out=made)

    def _finish(self, made: torch.Tensor, rows: Indices) -> None:
        """Add noise to the plan's ``rows`` and scale them to the norm, if the plan has these."""
        if self.spread:
            made += self.spread.rows(self.seed, (self.kept + rows).tolist(), made)
        if self.norm is not None:
            own = statistics.norms(made)
            factors = torch.where(own > 0, self.norm / own, 0.0)
            made.copy_(made.double() * factors[:, None])


def bias_plan(plan: RowPlan) -> RowPlan:
    """Return the plan for an output bias beside a table: the same combination, without noise and norm.

    Rows that use neither source rows nor their mean (random ones) get the mean of the biases.
    """
    empty = (np.diff(plan.combination.indptr) == 0) & (np.broadcast_to(plan.mean_share, plan.new_rows) == 0)
    share = np.where(empty, 1.0, plan.mean_share).astype(np.float32)
    return replace(plan, mean_share=share, noise=None, norm_of=None)


def check_plan(plan: RowPlan, source_rows: int, where: str) -> None:
    """Raise ``UserError`` unless the plan uses only the first ``source_rows`` rows, and finite numbers."""
    names = plan.combination.indices
    outside = np.flatnonzero((names < 0) | (names >= source_rows))
    if len(outside):
        row = int(np.searchsorted(plan.combination.indptr, outside[0], side="right")) - 1
        raise UserError(
            f"{where}: the plan makes new row {row} from source row {names[outside[0]]}, but there are only rows 0 to "
            f"{source_rows - 1} ({len(outside)} such terms): the token map or the strategy belongs to another model"
        )
    weights = (plan.combination.data, np.asarray(plan.mean_share), [plan.noise.scale if plan.noise else 0.0])
    if not all(np.isfinite(numbers).all() for numbers in weights):
        raise UserError(f"{where}: the plan's weights hold NaN or infinity")
    if plan.noise and plan.noise.kind not in NOISE_KINDS:
        raise UserError(f"{where}: the plan's noise {plan.noise.kind!r} is none of {', '.join(NOISE_KINDS)}")
    if plan.norm_of is not None:
        fits = plan.norm_of.shape == (source_rows,) and np.isfinite(plan.norm_of).all()
        if not fits or plan.norm_of.min() < 0 or not plan.norm_of.any():
            raise UserError(f"{where}: the plan's norm weights must be {source_rows} numbers, none below 0, not all 0")
