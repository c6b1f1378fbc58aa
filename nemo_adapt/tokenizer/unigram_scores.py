"""Scores for new pieces of a SentencePiece Unigram model.

Such a model cuts a text along the path of pieces with the best sum of scores. A new piece that scores like the base
pieces that spell it, and a little more, takes their place wherever the base's best path would have spelled it so, and
changes nothing elsewhere. With more for each piece that it saves, the path of fewest tokens wins among new pieces.
"""

import math
from collections.abc import Sequence

import numpy as np

from nemo_adapt.hf_tokenizer.unigram import NEVER, UNKNOWN_PENALTY
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.encode import segment

MARGIN = 0.5
"""What each saved piece adds. sentencepiece sums float32 scores from the start of a line, and near -10,000 such numbers
are 0.001 apart; the library ``tokenizers`` sums in float64. Both must see the difference."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, less their whole part, lie far from each other; the nearer the two in the list, the farther."""


def new_scores(base: Base, new: Sequence[str]) -> list[float]:
    """The score of each new piece (float32 values, as a SentencePiece model stores them).

    Up to half of ``MARGIN`` goes to a number of the token's own, so that two cuts of a word into equally many pieces
    (``ab|c``, ``a|bc``) do not tie: rounding would decide, and not the same way in both libraries. A character that no
    base piece holds counts 0: every path must spell it, and small sums are exact for longer.
    """
    scores = dict(base.content["model"]["vocab"])
    unknown = min(score for score in scores.values() if score > NEVER) - UNKNOWN_PENALTY
    held = set().union(*scores)
    result = []
    for i, pieces in enumerate(segment(base.model, new, False, base.unknown).words()):
        lacking = [piece for piece in pieces if piece not in scores]  # spelled with bytes, or unknown
        spelled = sum(scores.get(piece, 0.0) for piece in pieces) + unknown * sum(piece in held for piece in lacking)
        own = math.modf((i + 1) * GOLDEN)[0] / 2
        result.append(float(np.float32(spelled + MARGIN * (len(pieces) + len(lacking) - 1 + own))))
    return result


def repeats(token: str) -> bool:
    """Whether a token is made of one part twice, the second at most one character short: ``...``, ``haha``, ``ere``.

    Among five dots ``..|...`` and ``...|..`` are the same pieces: a tie that no score breaks.
    """
    return len(token) > 1 and any(token[part:] == token[:-part] for part in range(1, (len(token) + 1) // 2 + 1))
