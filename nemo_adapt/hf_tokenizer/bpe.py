"""Convert a SentencePiece BPE model, which stores scores of pieces, to a list of merges."""

from collections.abc import Sequence
from typing import Any

from nemo_adapt.hf_tokenizer.sentencepiece_proto import BYTE, NORMAL, sentencepiece_specials


def bpe_model(proto: Any) -> dict[str, Any]:
    """Return the ``model`` object of a ``tokenizer.json`` for a SentencePiece BPE model."""
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
    """Return every split of a piece into two known pieces as a merge, best score first.

    SentencePiece merges the adjacent pair whose *joined* piece scores best, whatever the two parts are, and the
    leftmost one on a tie. Among pieces of equal score (Llama's runs of spaces) the longer one comes first here, so that
    the merge list also grows a run from the left.
    """
    known = set(pieces)
    order = sorted(range(len(pieces)), key=lambda i: (-scores[i], -len(pieces[i])))
    return [list(pair) for i in order for pair in splits(pieces[i], known)]


def splits(piece: str, known: set[str]) -> list[tuple[str, str]]:
    """Return the ways to split ``piece`` into two known pieces, longest left part first."""
    cuts = range(len(piece) - 1, 0, -1)
    return [(piece[:cut], piece[cut:]) for cut in cuts if piece[:cut] in known and piece[cut:] in known]
