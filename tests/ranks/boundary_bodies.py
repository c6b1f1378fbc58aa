"""Code of the ranks in tests of document boundaries: logits of samples and of their documents alone."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from helpers.folders import Folders
from ranks.model_bodies import forward, load

from nemo_adapt.config import Config
from nemo_adapt.train.batches import Boundaries


@dataclass
class Found:
    """Logits [batch, seq, padded vocab], ``None`` before the last pipeline stage."""

    packed: torch.Tensor | None
    alone: torch.Tensor | None


def packed_and_alone(rank: int, config: Config, folders: Folders, ids: torch.Tensor, end: int) -> Found:
    """Compute logits of ``ids`` [batch, seq] with the boundaries of ``config``, and of each document by itself.

    The documents of all samples must end at the same positions.
    """
    model = load(config, folders).eval()
    batch = Boundaries.of(config.train, end).batch(ids, ids)
    packed = forward(model, ids, batch.positions, batch.documents)
    places = [0, *(1 + (ids[0] == end).nonzero()[:, 0]).tolist()]
    parts = [forward(model, ids[:, begin:stop].contiguous()) for begin, stop in pairwise(places)]
    return Found(packed, None if packed is None else torch.cat([part for part in parts if part is not None], dim=1))


def packed_one_by_one(rank: int, config: Config, folders: Folders, ids: torch.Tensor, end: int) -> Found:
    """Compute logits of samples whose documents end at different positions: in one batch, and each sample by itself."""
    model = load(config, folders).eval()
    boundaries = Boundaries.of(config.train, end)
    batch = boundaries.batch(ids, ids)
    packed = forward(model, ids, batch.positions, batch.documents)
    parts = []
    for row in ids:
        one = boundaries.batch(row[None], row[None])
        parts.append(forward(model, row[None], one.positions, one.documents))
    return Found(packed, None if packed is None else torch.cat([part for part in parts if part is not None]))
