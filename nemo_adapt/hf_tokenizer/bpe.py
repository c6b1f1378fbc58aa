"""SentencePiece's BPE as a list of merges."""

from collections.abc import Sequence
from typing import Any

from nemo_adapt.hf_tokenizer.sentencepiece_proto import BYTE, NORMAL, sentencepiece_specials


def bpe_model(proto: Any) -> dict[str, Any]:
    """The ``model`` of a ``tokenizer.json`` for a SentencePiece BPE."""
    normal = [piece for piece in proto.pieces if piece.type == NORMAL]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": sentencepiece_specials(proto).get("unk_token"),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": any(piece.type == BYTE for piece in proto.pieces),
        "vocab": {piece.piece: i for i, piece in enumerate(proto.pieces)},
        "merges": merges([piece.piece for piece in normal], [piece.score for piece in normal]),
    }


def merges(pieces: Sequence[str], scores: Sequence[float]) -> list[list[str]]:
    """All splits of pieces into two others, best score first: SentencePiece's rule as a list of merges.

    SentencePiece joins the adjacent pair whose *joined* piece scores best, whatever the two parts are, the leftmost
    where scores are equal. With equal scores (Llama's runs of spaces) the longer piece goes first here, which makes the
    merge list grow a run from the left as well.
    """
    known = set(pieces)
    order = sorted(range(len(pieces)), key=lambda i: (-scores[i], -len(pieces[i])))
    return [list(pair) for i in order for pair in splits(pieces[i], known)]


def splits(piece: str, known: set[str]) -> list[tuple[str, str]]:
    """The ways to write ``piece`` as two known ones, the longest left part first."""
    cuts = range(len(piece) - 1, 0, -1)
    return [(piece[:cut], piece[cut:]) for cut in cuts if piece[:cut] in known and piece[cut:] in known]
