"""Convert tiktoken rank files (a ``base64 rank`` per line) to byte-level BPE.

tiktoken merges the adjacent parts whose joined bytes have the lowest rank. The merge of a token is therefore the pair
that is left last when the token's own bytes are encoded, with the token's rank as priority. (The parts may have higher
ranks than the token: some of Llama-3's do.) A token whose bytes do not reduce to two parts has no merge; it is only
matched as a whole word, which is looked up first.
"""

import base64
import binascii
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer import regexes
from nemo_adapt.hf_tokenizer.byte_level import BYTE_OF
from nemo_adapt.hf_tokenizer.sentencepiece_proto import added_token, prepend_bos

LINE = re.compile(rb"[A-Za-z0-9+/]+=* [0-9]+")
CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}


@dataclass(frozen=True)
class RankKind:
    """What a rank file lacks: the regex that splits text into words, and the special tokens after the ranks."""

    split: str
    specials: tuple[str, ...]
    bos: str
    eos: str


def _reserved(numbers: range) -> tuple[str, ...]:
    return tuple(f"<|reserved_special_token_{i}|>" for i in numbers)


LLAMA3 = RankKind(
    regexes.LLAMA3,
    (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        *_reserved(range(4)),
        "<|start_header_id|>",
        "<|end_header_id|>",
        *_reserved(range(4, 5)),
        "<|eot_id|>",
        *_reserved(range(5, 251)),
    ),
    "<|begin_of_text|>",
    "<|end_of_text|>",
)
"""Llama-3 (github.com/meta-llama/llama3, llama/tokenizer.py)."""
KINDS = {128_000: LLAMA3}
"""Number of ranks -> the known tokenizer with so many."""


def is_ranks(path: Path) -> bool:
    """Return whether a file's first line looks like one of tiktoken ranks."""
    with path.open("rb") as stream:
        return LINE.fullmatch(stream.readline(1000).rstrip(b"\r\n")) is not None


def read_ranks(path: Path) -> tuple[dict[bytes, int], RankKind]:
    """Return bytes -> rank, and the kind of tokenizer; ``UserError`` for a damaged file or an unknown kind."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            if LINE.fullmatch(line) is None:
                raise ValueError
            encoded, rank = line.split()
            ranks[base64.b64decode(encoded, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise UserError(f"{path} is damaged: line {number} is not 'base64 rank'; download it again") from None
        if len(ranks) != number or int(rank) != number - 1:
            raise UserError(f"{path} is damaged: line {number} should have rank {number - 1}; download it again")
    kind = KINDS.get(len(ranks))
    if kind is None:
        known = ", ".join(f"{size:,}" for size in KINDS)
        raise UserError(
            f"{path} has {len(ranks):,} tiktoken ranks, but only {known} (Llama-3) are supported: it is truncated, "
            "or its model needs a tokenizer.json instead"
        )
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise UserError(f"{path} is damaged: it lacks single bytes; download it again")
    return ranks, kind


def ranks_json(
    ranks: Mapping[bytes, int], kind: RankKind, names: Mapping[int, str], add_bos: bool = True
) -> dict[str, Any]:
    """Return the ``tokenizer.json`` that encodes as tiktoken does.

    ``names``: id -> special token, where it differs from the kind's.
    """
    vocab = {spelling(token): rank for token, rank in ranks.items()}
    specials = {len(ranks) + i: token for i, token in enumerate(kind.specials)}
    specials |= {i: name for i, name in names.items() if i >= len(ranks)}
    bos = next(i for i, name in specials.items() if name == kind.bos)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": kind.split}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(i, specials[i], special=True) for i in sorted(specials)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": prepend_bos(kind.bos, bos) if add_bos else byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": [[spelling(part) for part in pair] for pair in rank_merges(ranks)],
        },
    }


def spelling(token: bytes) -> str:
    """Return bytes in the byte-level alphabet."""
    return "".join(CHARACTER_OF[byte] for byte in token)


def rank_merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the merge that produces each token, in the order of ranks, for tokens that a merge can produce."""
    found = (last_pair(token, ranks) for token in sorted(ranks, key=lambda token: ranks[token]) if len(token) > 1)
    return [pair for pair in found if pair is not None]


def last_pair(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the two parts that a token's encoding merges last, or ``None`` if it stops at more than two."""
    parts = [token[i : i + 1] for i in range(len(token))]
    none = len(ranks)
    while len(parts) > 2:
        best, at = min((ranks.get(a + b, none), i) for i, (a, b) in enumerate(itertools.pairwise(parts)))
        if best == none:
            return None
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]
