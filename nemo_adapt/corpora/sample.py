"""A random sample of the documents of a text, drawn on all cores in one pass.

Light imports only: the processes that draw start with this module.
"""

import hashlib
import heapq
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_adapt.console.progress import Bar, OnProgress, say
from nemo_adapt.corpora import text
from nemo_adapt.corpora.lines import Part
from nemo_adapt.machine.workers import cores, share, shared_counters

ALONE_BYTES = 32 << 20
"""Text up to this size is read by this process alone: starting others takes longer."""
CANDIDATE = np.dtype([("hash", "u8"), ("part", "i8"), ("number", "i8"), ("at", "i8"), ("bytes", "i8")])
"""A document that may be in the sample: the keyed hash of its text; its place in reading order (that of its part, its
number there); where it begins in the spool of its process, and its size."""


class Drawn(NamedTuple):
    """What one process has drawn from its parts."""

    spool: Path
    """File with the texts of its candidates, and of documents that were candidates for a while."""
    candidates: NDArray[Any]
    """[``CANDIDATE``]: the documents with the smallest hashes, at most as many as the sample has."""
    documents: dict[int, int]
    """Documents of each part."""


def drawn(title: str, files: list[Path], field: str, count: int, seed: int, out: Path) -> list[Path]:
    """Return ``files`` if ``count`` is 0, else one, ``out``, with ``count`` documents drawn by ``sample``."""
    if not count:
        return files
    there = sample(title, files, field, count, seed, out)
    say(f"{title}: learning from {min(there, count):,} of {there:,} documents")
    return [out]


def sample(title: str, files: list[Path], field: str, count: int, seed: int, out: Path, processes: int = 0) -> int:
    """Write ``count`` documents, sampled with ``seed``, to ``out`` (a ``.jsonl.zst``); return how many there are.

    The documents with the smallest keyed hashes of their text are taken, in reading order, so the choice depends on the
    documents alone: not on the names, the number or the order of the files. Copies of a document are taken together,
    but for those that exceed ``count``. Each of ``processes`` (0: one per core, or only this one for small text) spools
    its candidates to disk, and holds five numbers for each. ``UserError`` for text that cannot be read.
    """
    size = text.total_bytes(files)
    processes = processes or (1 if size <= ALONE_BYTES else cores())
    parts = text.parts(files, processes)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder, Bar(f"{title}: sampling", size / 1e6, "MB") as bar:
        given = (parts, _places(files, parts), field, count, str(seed).encode(), Path(folder))
        used = min(processes, len(parts))
        found = share(len(parts), used, bar, partial(draw_parts, *given), _draw_share, *given)
        documents = {number: amount for each in found for number, amount in each.documents.items()}
        text.check_found(parts, documents)
        _write(found, field, count, out)
    return sum(documents.values())


def draw_parts(
    parts: list[Part],
    places: list[int],
    field: str,
    count: int,
    key: bytes,
    folder: Path,
    numbers: Iterable[int],
    on_progress: OnProgress,
) -> Drawn:
    """Draw from the parts ``numbers`` in this process; ``on_progress`` gets MB of input as they are read.

    ``places``: of each part in reading order.
    """
    heap: list[tuple[int, int, int, int, int]] = []  # (-hash, -place of the part, -number there, at, bytes)
    documents, end, spool = {}, 0, folder / str(os.getpid())
    with spool.open("wb") as stream:
        for part in numbers:
            documents[part] = 0
            for document in text.part_documents(parts[part], field, lambda amount: on_progress(amount / 1e6)):
                documents[part] += 1
                raw = document.encode()
                order = -int.from_bytes(hashlib.blake2b(raw, digest_size=8, key=key).digest(), "big")
                entry = (order, -places[part], -documents[part], end, len(raw))
                if len(heap) < count:
                    heapq.heappush(heap, entry)
                elif entry > heap[0]:
                    heapq.heapreplace(heap, entry)
                else:
                    continue
                end += stream.write(raw)
    candidates = np.array([(-order, -place, -number, *spooled) for order, place, number, *spooled in heap], CANDIDATE)
    return Drawn(spool, candidates, documents)


def _draw_share(parts: list[Part], places: list[int], field: str, count: int, key: bytes, folder: Path) -> Drawn:
    """Draw in a worker process, which takes the numbers of parts from the shared counter."""
    shared = shared_counters()
    return draw_parts(parts, places, field, count, key, folder, shared.take(len(parts)), shared.advance)


def _places(files: list[Path], parts: list[Part]) -> list[int]:
    """Return the place of each part when the files are read one after the other."""
    file = {path: number for number, path in enumerate(files)}
    order = sorted(range(len(parts)), key=lambda number: (file[parts[number].path], parts[number].index))
    place = {number: at for at, number in enumerate(order)}
    return [place[number] for number in range(len(parts))]


def _write(found: list[Drawn], field: str, count: int, out: Path) -> None:
    """Write the ``count`` candidates with the smallest hashes to ``out``, in reading order."""
    import zstandard

    every = np.concatenate([each.candidates for each in found])
    process = np.repeat(np.arange(len(found)), [len(each.candidates) for each in found])
    chosen = np.lexsort((every["number"], every["part"], every["hash"]))[:count]
    chosen = chosen[np.lexsort((every["number"][chosen], every["part"][chosen]))]
    with zstandard.open(out, "wb") as stream:
        for document in _spooled([each.spool for each in found], process[chosen], every[chosen]):
            record = {field.split("/")[0]: document.decode()}
            stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def _spooled(spools: list[Path], process: NDArray[np.int64], chosen: NDArray[Any]) -> Iterator[bytes]:
    """Yield the texts of the ``chosen`` candidates, each from the spool of the ``process`` that has drawn it."""
    streams = [path.open("rb") for path in spools]
    try:
        for stream, at, size in zip(process.tolist(), chosen["at"].tolist(), chosen["bytes"].tolist(), strict=True):
            streams[stream].seek(at)
            yield streams[stream].read(size)
    finally:
        for opened in streams:
            opened.close()
