"""Convert a SentencePiece Unigram model: pieces with log probabilities, of which a segmentation maximizes the sum."""

import itertools
import re
from typing import Any

from nemo_adapt.hf_tokenizer.sentencepiece_proto import BYTE, NORMAL, UNKNOWN

UNKNOWN_PENALTY = 10.0
"""A character that is in no piece scores this much below the worst piece (sentencepiece, ``kUnkPenalty``)."""
NEVER = -1e4
"""Score of pieces that must not match text by their spelling: control, unknown, unused and byte pieces.

sentencepiece leaves them out of its lattice. The fast library looks up every vocabulary entry in the text, and their
own score of 0 would beat all ordinary pieces. User-defined pieces get it too: they are matched before, as added tokens.
"""


def unigram_model(proto: Any) -> dict[str, Any]:
    """Return the ``model`` object of a ``tokenizer.json`` for a SentencePiece Unigram model."""
    return {
        "type": "Unigram",
        "unk_id": next(i for i, piece in enumerate(proto.pieces) if piece.type == UNKNOWN),
        "vocab": [[piece.piece, piece.score if piece.type == NORMAL else NEVER] for piece in proto.pieces],
        "byte_fallback": any(piece.type == BYTE for piece in proto.pieces),
    }


def with_special_split(content: dict[str, Any]) -> dict[str, Any]:
    """Return the ``tokenizer.json`` of a Unigram model, changed where text that spells a special token would become it.

    Without its added tokens the library still looks up every vocabulary entry in the text. A special token's own score
    loses against the pieces of its characters only if it is lower than theirs, and if all of them have pieces: an
    unknown character scores less than ``NEVER``. Otherwise text is split after the first character of every special
    token, which changes no other text. ``content`` itself if nothing is to change.
    """
    scores = dict(content["model"]["vocab"])
    specials = [token["content"] for token in content["added_tokens"] if token["special"]]
    names = sorted(name for name in specials if len(name) > 1 and name in scores)
    if all(all(c in scores for c in name) and scores[name] < sum(map(scores.__getitem__, name)) for name in names):
        return content
    ends = {first: [re.escape(name[1:]) for name in some] for first, some in itertools.groupby(names, lambda n: n[0])}
    regex = "|".join(f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in ends.items())
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "MergedWithPrevious", "invert": False}
    before = content["pre_tokenizer"] or {"type": "Sequence", "pretokenizers": []}
    parts = before["pretokenizers"] if before["type"] == "Sequence" else [before]
    if split in parts:  # saved from here before
        return content
    return {**content, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*parts, split]}}
