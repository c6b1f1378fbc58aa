"""The pieces of a token weighted by their length: the output layer's best in arXiv 2608.03494."""

import itertools

import numpy as np
import numpy.typing as npt

from nemo_adapt.resize.combine import Row, from_pieces, pieces
from nemo_adapt.resize.plan import Materials, RowPlan, strategy
from nemo_adapt.tokens.token_map import NewToken


@strategy("subword_weighted", needs=("piece_bytes",))
def subword_weighted(materials: Materials) -> RowPlan:
    """Weight pieces in proportion to their lengths in characters; a space is a character.

    A piece that is only some bytes of a character counts as that share of it. Pieces without text (an unknown-token
    piece) count 0; if all are such, they count equally.
    """
    sizes = materials.auxiliary["piece_bytes"]["bytes"]

    def row(token: NewToken) -> Row:
        return pieces(token, piece_characters(token, sizes))

    return RowPlan(from_pieces(materials.token_map, row))


def piece_characters(token: NewToken, sizes: npt.NDArray[np.int32]) -> list[float]:
    """Return the length in characters of each piece of ``token``; ``sizes`` are the bytes of each base id.

    If the pieces' bytes are not those of ``token.text`` (a token of partial characters), lengths are in bytes.
    """
    lengths = [int(sizes[piece]) for piece in token.source_ids]
    characters = [character.encode() for character in token.text]
    if sum(map(len, characters)) != sum(lengths):
        return [float(length) for length in lengths]
    shares = [1.0 / len(character) for character in characters for _ in character]
    ends = list(itertools.accumulate(lengths))
    return [sum(shares[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
