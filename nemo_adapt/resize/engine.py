"""Apply a row plan to a source table, sharded or on disk. The result does not depend on how the tables are cut.

Each process makes the rows of its own target range: kept rows are copied, new rows are summed in float32 in the plan's
order and rounded once, padded rows are zero. Only rows that are named are exchanged, in bounded portions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from nemo_adapt.errors import UserError
from nemo_adapt.resize import statistics
from nemo_adapt.resize.noise import Spread
from nemo_adapt.resize.plan import NOISE_KINDS, RowPlan
from nemo_adapt.resize.table import BLOCK_BYTES, Numbers, Source, most
from nemo_adapt.resize.threads import share_out

MANY = 1 << 18
"""Terms worked on together where they name few source rows (similarity's plans): 8 MiB of numbers about them."""


class Resize:
    """A source table, a plan, and the statistics that the plan needs; ``fill`` makes any range of the target table.

    Target rows below ``kept`` are the source's rows; the plan's rows follow; rows after them are padding and zero.
    Source rows from ``kept`` on (a base model's own padding) are outside everything. A collective over the source's
    ranks, like ``fill``. ``UserError`` for a NaN or an infinity in the source, and for a plan that does not fit it;
    ``where`` is what messages call the table.
    """

    def __init__(self, source: Source, plan: RowPlan, kept: int, seed: int, where: str = "the source table") -> None:
        check_plan(plan, min(kept, source.total), where)
        statistics.check_finite(source, kept, where)
        self.source, self.plan, self.kept, self.seed = source, plan, kept, seed
        moments = statistics.Moments(source, kept)
        self.shares = torch.from_numpy(np.broadcast_to(plan.mean_share, plan.new_rows).astype(np.float32))
        self.mean = moments.mean.float() if self.shares.any() else None
        self.spread = Spread(plan.noise, moments) if plan.noise else None
        self.norm = None if plan.norm_of is None else statistics.weighted_norm(source, kept, plan.norm_of)

    def fill(self, out: torch.Tensor, start: int) -> None:
        """Set ``out`` (dtype and device of the source) to the target rows from ``start`` on."""
        stop, end = start + len(out), self.kept + self.plan.new_rows
        self.source.copy(min(start, self.kept), out[: max(0, min(stop, self.kept) - start)])
        first, last = min(max(start, self.kept), end), min(max(stop, self.kept), end)
        self._make(out[max(0, first - start) : max(0, last - start)], first - self.kept, last - self.kept)
        out[max(0, end - start) :].zero_()

    def _make(self, out: torch.Tensor, first: int, last: int) -> None:
        """Rows ``first`` to ``last`` of the plan."""
        plan = self.plan.combination
        room = self.source.room
        if len(np.unique(plan.indices[plan.indptr[first] : plan.indptr[last]])) <= room:
            room = max(room, MANY)  # however many terms there are, the rows that they name fit in
        portions = list(_portions(plan.indptr, first, last, room))
        carried = torch.empty((1, out.shape[1]), device=out.device)
        for number in range(most(self.source, len(portions))):
            portion = portions[number] if number < len(portions) else NOTHING
            entries = portion.entries(plan.indptr)
            held, places = self.source.gather(plan.indices[entries].astype(np.int64))
            terms = Terms(held, places, plan.data[entries])
            if portion.whole:
                self._make_whole(out, first, portion, terms)
                continue
            made = self._start(portion.rows, carried) if portion.skipped == 0 else carried
            taken = held.new_empty(made.shape)
            terms.add_to(made, np.zeros(1, dtype=np.int64), portion.lengths, taken, torch.empty_like(made))
            if portion.ends:
                self._finish(made, portion.rows)
                out[portion.rows - first] = made.to(out.dtype)

    def _make_whole(self, out: torch.Tensor, first: int, portion: "Portion", terms: "Terms") -> None:
        """Make the rows of a portion, block by block."""
        begins = np.cumsum(portion.lengths) - portion.lengths
        step = max(1, BLOCK_BYTES * 2 // (4 * out.shape[1]))

        def work(blocks: list[int]) -> None:
            room = torch.empty((2, step, out.shape[1]), device=out.device)
            taken = out.new_empty((step, out.shape[1]))  # what is used again and again takes no new memory
            for at in blocks:
                rows, block = portion.rows[at : at + step], slice(at, at + step)
                made = self._start(rows, room[0])
                terms.add_to(made, begins[block], portion.lengths[block], taken, room[1])
                self._finish(made, rows)
                rounded = taken[: len(rows)].copy_(made)
                out.index_copy_(0, torch.from_numpy(rows - first).to(out.device), rounded)

        share_out(work, list(range(0, len(portion.rows), step)), out.device)

    def _start(self, rows: Numbers, room: torch.Tensor) -> torch.Tensor:
        """What the plan's ``rows`` are before anything is added: their share of the mean."""
        made = room[: len(rows)]
        if self.mean is None:
            return made.zero_()
        return torch.mul(self.shares[torch.from_numpy(rows)].to(made.device)[:, None], self.mean, out=made)

    def _finish(self, made: torch.Tensor, rows: Numbers) -> None:
        """Noise, and the norm."""
        if self.spread:
            made += self.spread.rows(self.seed, (self.kept + rows).tolist(), made)
        if self.norm is not None:
            own = statistics.norms(made)
            factors = torch.where(own > 0, self.norm / own, 0.0)
            made.copy_(made.double() * factors[:, None])


@dataclass(frozen=True)
class Portion:
    """Rows of a plan, longest first, and how many terms of each are worked on, from the term ``skipped`` on."""

    rows: Numbers
    lengths: Numbers
    skipped: int = 0
    ends: bool = True
    """Whether there are no terms after these."""

    @property
    def whole(self) -> bool:
        """Whether these are all terms of the rows."""
        return self.skipped == 0 and self.ends

    def entries(self, ends: Numbers) -> Numbers:
        """Places of the terms in the plan's arrays, row after row."""
        before = np.cumsum(self.lengths) - self.lengths
        return np.repeat(ends[self.rows] + self.skipped - before, self.lengths) + np.arange(self.lengths.sum())


NOTHING = Portion(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def _portions(ends: Numbers, first: int, last: int, room: int) -> Iterator[Portion]:
    """Cut the plan's rows ``first`` to ``last`` so that no portion has more than ``room`` terms.

    Rows are taken longest first, so that a portion is nearly a rectangle; a row that is longer goes through several.
    """
    lengths = np.diff(ends[first : last + 1]).astype(np.int64)
    order = np.argsort(-lengths, kind="stable")
    lengths, rows = lengths[order], first + order
    before = np.concatenate([[0], np.cumsum(lengths)])
    at = 0
    while at < len(rows):
        end = int(np.searchsorted(before, before[at] + room, side="right")) - 1
        if end > at:
            yield Portion(rows[at:end], lengths[at:end])
            at = end
            continue
        for skipped in range(0, int(lengths[at]), room):
            part = min(room, int(lengths[at]) - skipped)
            yield Portion(rows[at : at + 1], np.array([part]), skipped, skipped + part == lengths[at])
        at += 1


@dataclass(frozen=True)
class Terms:
    """Terms of a portion: the source rows that are held, where among them each term's is, and its weight."""

    held: torch.Tensor
    places: Numbers
    weights: np.ndarray

    def add_to(
        self, made: torch.Tensor, begins: Numbers, lengths: Numbers, taken: torch.Tensor, room: torch.Tensor
    ) -> None:
        """``made[i] += weight * row`` for ``lengths[i]`` (falling) terms from ``begins[i]`` on, one by one in order.

        ``taken`` and ``room`` are for source rows and products, each as large as ``made`` at least.
        """
        for term in range(int(lengths.max(initial=0))):
            count = int(np.searchsorted(-lengths, -term, side="left"))
            entries = begins[:count] + term
            index = torch.from_numpy(self.places[entries]).to(made.device)
            products = room[:count].copy_(torch.index_select(self.held, 0, index, out=taken[:count]))
            factors = torch.from_numpy(self.weights[entries].astype(np.float32)).to(made.device)
            # Product and sum are rounded each, on every device: a fused operation is not.
            made[:count] += products.mul_(factors[:, None])


def bias_plan(plan: RowPlan) -> RowPlan:
    """The plan for an output bias beside a table: the same combination, without noise and norm.

    Rows that the plan does not make from source rows or their mean (random ones) get the mean of the biases.
    """
    empty = (np.diff(plan.combination.indptr) == 0) & (np.broadcast_to(plan.mean_share, plan.new_rows) == 0)
    share = np.where(empty, 1.0, plan.mean_share).astype(np.float32)
    return replace(plan, mean_share=share, noise=None, norm_of=None)


def check_plan(plan: RowPlan, source_rows: int, where: str) -> None:
    """``UserError`` unless the plan speaks of ``source_rows`` rows only, in finite numbers."""
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
