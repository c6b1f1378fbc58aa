"""The compiled table gives the counts of plain Python."""

import random
from collections import Counter

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemo_adapt.machine.compiled import mix64
from nemo_adapt.tokenizer.count_pieces import PieceCounts, added_pattern
from nemo_adapt.tokenizer.counts import Counts, Pieces
from nemo_adapt.tokenizer.scan import END, odd_bytes
from nemo_adapt.tokenizer.tally import ONCE, STRETCH

ADDED = ["<s>", "  ", "a]", "xy", " bb"]
LETTERS = st.sampled_from("abxy<s>]éğक்“→語😀") | st.sampled_from([" ", " ", "  "])
ODD = [9, 10, 11, 12, 13, 28, 29, 30, 31, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200C), 0x2028, 0x2029, 0x202F, 0x205F]
SPACES = st.sampled_from([chr(code) for code in [*ODD, 0x3000, 0x2581, 0xFFFF, 0]])
DOCUMENTS = st.lists(st.lists(LETTERS | LETTERS | LETTERS | SPACES, max_size=12).map("".join), max_size=12)


def taken(documents, added=ADDED):
    """Reference: first and later pieces, counted one document at a time in Python."""
    pieces, split = PieceCounts(), added_pattern(added).split
    for document in documents:
        for line in filter(None, split(document.strip())):
            pieces.take(line)
    return pieces.first, pieces.later


def in_table(counts, pieces=None):
    """The content of a table, in the form of ``taken``."""
    pieces = counts.pieces() if pieces is None else pieces
    found = Counter(), Counter()
    for piece, count, later in zip(counts.texts(pieces), pieces.counts.tolist(), pieces.later.tolist(), strict=True):
        found[later][piece] += count
    return found


def counted(documents, added=ADDED):
    counts, pieces = Counts(), PieceCounts()
    block = b"".join(document.encode() + bytes([END]) for document in documents)
    for document in counts.count(block, odd_bytes(added)):
        for line in filter(None, added_pattern(added).split(document.decode().strip())):
            pieces.take(line)
    counts.add(pieces.first, False)
    counts.add(pieces.later, True)
    return counts


@settings(max_examples=400)
@given(documents=DOCUMENTS)
@example(documents=["a bb c", "<s>a", "b a]b", "xxy"])
def test_counts_of_blocks_equal_counts_of_documents(documents):
    assert in_table(counted(documents)) == taken(documents)


@settings(max_examples=100)
@given(documents=DOCUMENTS)
@example(documents=["ab cd"])
def test_space_that_is_an_added_token_separates_pieces(documents):
    assert in_table(counted(documents, [*ADDED, " "])) == taken(documents, [*ADDED, " "])


@settings(max_examples=50)
@given(some=DOCUMENTS, others=DOCUMENTS)
def test_tables_are_merged(some, others):
    counts, other = counted(some), counted(others)
    counts.merge(other.pieces(), other.text[: other.length].tobytes())
    assert in_table(counts) == taken([*some, *others])
    assert counts.total() == sum(sum(part.values()) for part in taken([*some, *others]))


def test_documents_of_only_spaces_do_not_overflow_the_buffer_of_pieces():
    spaces = b" " * 100_000 + b"\xff"
    counts = Counts()
    assert counts.count(spaces * 3, odd_bytes()) == [spaces[:-1]] * 3 and counts.size == 0


def test_repeats_in_a_stretch_weigh_their_square_root():
    draw = random.Random(1)
    words = [f"w{number}" for number in range(3000)]
    documents = [
        " ".join(draw.choices(words[: draw.choice([5, 100, 3000])], k=draw.randint(1, 40))) for _ in range(2000)
    ]
    block = "".join(f"{document}\x00" for document in documents).encode().replace(b"\0", bytes([END]))
    assert len(block) > 10 * STRETCH
    windows = [[Counter(), Counter()] for _ in range(len(block) // STRETCH + 1)]
    at = 0
    for document in documents:
        for number, word in enumerate(document.split()):
            windows[at // STRETCH][number > 0][word] += 1
            at += len(word) + 1
    counts = Counts()
    assert counts.count(block, odd_bytes()) == []
    pieces = counts.pieces()
    for text, later, count, weight in zip(
        counts.texts(pieces), pieces.later.tolist(), pieces.counts.tolist(), pieces.weights.tolist(), strict=True
    ):
        stands = [window[later][text] for window in windows]
        assert count == sum(stands) and weight == sum(round(ONCE * often**0.5) for often in stands)
    counts.prune(len(pieces) // 2)
    assert counts.size and counts.pieces().weights.min() > ONCE


def test_only_documents_with_odd_bytes_are_returned_uncounted():
    assert Counts().count(b"a b\xff\xff c\xff\xc4\x9f d\xff", odd_bytes()) == [b" c"]


def test_table_grows_and_keeps_the_most_frequent():
    words = {f"w{i}": 1 + i % 1000 for i in range(200_000)}
    counts = Counts()
    counts.add(words, True)
    counts.add(words, True)
    assert counts.size == 200_000 and in_table(counts)[1] == Counter({word: 2 * count for word, count in words.items()})
    kept = counts.most_frequent(300)
    assert len(kept) == 300 and set(kept.counts.tolist()) == {2000, 1998}
    assert in_table(counts, Pieces(kept.rows[:5]))[1].total() == 10_000
    most = in_table(counts, counts.most_frequent(400))
    counts.prune(200_000)
    assert counts.size == 200_000
    counts.prune(800)
    assert counts.size == 400 and in_table(counts) == most
    counts.add(words, True)
    counts.prune(400)  # in the memory of the first pruning
    assert counts.size == 200 and set(in_table(counts)[1].values()) == {3000}
    counts.add(words, True)
    counts.prune(190_000)  # that memory is too small for this
    assert counts.size == 95_000


def test_of_pieces_that_are_all_as_rare_half_are_kept():
    """Without spaces nearly every piece is a line that occurs once."""
    words = {f"w{i}": 1 for i in range(1500)}
    often = {f"w{i}": 1 for i in range(7)}
    counts = Counts()
    counts.add(words, False)
    counts.add(often, False)
    counts.prune(1500)
    assert counts.size == 1500
    most = in_table(counts, counts.most_frequent(500))
    counts.prune(1000)
    assert counts.size == 500 and in_table(counts) == most and often.keys() <= most[0].keys()
    backwards = Counts()
    backwards.add(dict(reversed((words | dict.fromkeys(often, 2)).items())), False)
    backwards.prune(1000)
    assert in_table(backwards) == most


def test_mixed_bits_are_those_of_splitmix64():
    """The first output for seed 0 of the reference implementation (splitmix64.c, Vigna 2015)."""
    assert int(mix64(np.uint64(0x9E3779B97F4A7C15))) == 0xE220A8397B1DCDAF
