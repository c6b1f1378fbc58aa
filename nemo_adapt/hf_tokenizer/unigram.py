"""Convert a SentencePiece Unigram model: pieces with log probabilities, of which a segmentation maximizes the sum."""

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
