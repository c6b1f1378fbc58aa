"""SentencePiece's Unigram: pieces with log probabilities, and the best path through a sentence."""

from typing import Any

from nemo_adapt.hf_tokenizer.sentencepiece_proto import BYTE, NORMAL, UNKNOWN

UNKNOWN_PENALTY = 10.0
"""A character that no piece holds scores this much below the worst piece (sentencepiece, ``kUnkPenalty``)."""
NEVER = -1e4
"""Score of what stands for no text by its own spelling: control, unknown, unused and byte pieces.

sentencepiece leaves them out of its lattice. The fast library looks every entry of the vocabulary up in the text, and
their own score of 0 would let them win over all ordinary pieces.
"""


def unigram_model(proto: Any) -> dict[str, Any]:
    """The ``model`` of a ``tokenizer.json`` for a SentencePiece Unigram model."""
    return {
        "type": "Unigram",
        "unk_id": next(i for i, piece in enumerate(proto.pieces) if piece.type == UNKNOWN),
        "vocab": [[piece.piece, piece.score if piece.type == NORMAL else NEVER] for piece in proto.pieces],
        "byte_fallback": any(piece.type == BYTE for piece in proto.pieces),
    }
