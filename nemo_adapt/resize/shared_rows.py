"""A plan whose rows are made each for itself: ranks share the work, which may take hours for a large vocabulary."""

import numpy as np
import torch.distributed as dist
from scipy.sparse import vstack

from nemo_adapt.collectives import all_gather
from nemo_adapt.console.progress import Bar
from nemo_adapt.resize.plan import MakeRows, Materials, RowPlan, combine_rows


def plan_on_ranks(name: str, make_rows: MakeRows, materials: Materials) -> RowPlan:
    """Return the plan of the strategy ``name``; call it on all ranks, each of which makes an equal part of the rows.

    A process without others makes all of them, and gets the same bits.
    """
    count = len(materials.token_map.tokens)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    # Every so many, not neighbours: tokens without a vector, which take no time, are the rare ones at the end.
    wanted = [np.arange(first, count, ranks) for first in range(ranks)]
    with Bar(f"rows by {name}", count, "tokens", quiet=rank > 0) as bar:
        part = combine_rows(make_rows, materials, wanted[rank], lambda rows: bar.advance(rows * ranks))
    return RowPlan(vstack(all_gather(part), format="csr")[np.argsort(np.concatenate(wanted))])
