"""The index of a dataset is Megatron's, and is written a piece at a time."""

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as some
from megatron.core.datasets.indexed_dataset import _IndexWriter

from nemo_adapt.data.store import write_index

COUNTS = some.integers(0, 2**31 - 1)  # of tokens: the offsets of a few documents exceed 32 bits


@given(some.lists(some.lists(COUNTS, max_size=5), min_size=1, max_size=5), some.sampled_from([np.uint16, np.int32]))
def test_the_index_of_many_pieces_is_that_of_megatron_s_writer(tmp_path_factory, pieces, dtype):
    folder = tmp_path_factory.mktemp("index")
    write_index(folder / "ours.idx", lambda: [np.array(piece, np.int32) for piece in pieces], dtype)
    tokens = [count for piece in pieces for count in piece]
    with _IndexWriter(str(folder / "theirs.idx"), dtype) as writer:
        writer.write(tokens, None, list(range(len(tokens) + 1)))
    assert (folder / "ours.idx").read_bytes() == (folder / "theirs.idx").read_bytes()


def test_the_index_takes_the_memory_of_a_piece(tmp_path):
    pieces, documents = 40, 100_000
    tracemalloc.start()
    write_index(tmp_path / "a.idx", lambda: (np.full(documents, 7, np.int32) for _ in range(pieces)), np.int32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (tmp_path / "a.idx").stat().st_size / 4
