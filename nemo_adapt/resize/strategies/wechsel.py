"""WECHSEL (Minixhofer, Paischer and Rekabsaz 2022, arXiv 2112.06598): combine rows of base tokens of similar meaning.

Both languages have static word vectors, aligned by a bilingual dictionary; tokens get theirs from character n-grams
(``nemo_adapt.auxiliary.bilingual``). Base rows are kept here; the paper replaces all.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nemo_adapt.resize.combine import Row
from nemo_adapt.resize.plan import Indices, Materials, strategy_by_rows
from nemo_adapt.resize.similarity import cosines, nonzero_rows


@strategy_by_rows("wechsel", needs=("bilingual",))
def wechsel(materials: Materials, wanted: Indices) -> Iterator[tuple[int, Row]]:
    """Weight the ``wechsel_neighbours`` nearest base tokens by the softmax of cosine / ``wechsel_temperature``.

    The paper's settings are 10 and 0.1. A new token without a vector is the mean of its pieces (in the paper, random).
    Among equally near neighbours, those with smaller ids are taken.
    """
    settings = materials.settings
    source, new = (materials.auxiliary["bilingual"][side] for side in ("source", "target"))
    there, asked = nonzero_rows(source), wanted[nonzero_rows(new[wanted])]
    count = min(settings.wechsel_neighbours, len(there))
    if not count:
        return
    for start, block in cosines(new[asked], source[there]):
        for index, similar in zip(asked[start : start + len(block)], block, strict=True):
            near = nearest(similar, count)
            weights = np.exp((similar[near] - similar[near].max()) / settings.wechsel_temperature)
            yield index, (there[near], weights / weights.sum())


SAMPLE = 64
"""One in this many is looked at first: few of all are as near as the ``count``-th nearest of these."""


def nearest(similar: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Return the indices of the ``count`` largest, largest first, ties by smaller index."""
    few = similar[::SAMPLE]
    cut = np.partition(few, len(few) - count)[len(few) - count] if len(few) >= count else -np.inf
    near = np.flatnonzero(similar >= cut)
    return near[np.lexsort((near, -similar[near]))][:count]
