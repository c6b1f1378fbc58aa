"""Scores for new pieces of a SentencePiece Unigram model.

Such a model segments a text along the path of pieces with the largest sum of scores. A new piece that scores slightly
more than the sum of the base pieces that spell it replaces them wherever they are on the base's best path, and changes
nothing elsewhere. The excess grows with each piece saved, so that among new pieces the path with the fewest tokens
wins.
"""

import math
from collections.abc import Sequence

import numpy as np

from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer.unigram import NEVER, UNKNOWN_PENALTY
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.encode import segment

MARGIN = 0.5
"""Score added for each piece saved. sentencepiece sums float32 scores from the start of a line, and near -10,000 such
numbers are 0.001 apart; the library ``tokenizers`` sums in float64. The difference must be visible in both."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""The fractional parts of its multiples are far apart, and farthest for multiples that are close in the list."""


def new_scores(base: Base, new: Sequence[str]) -> list[float]:
    """Return the score of each new piece (float32 values, as a SentencePiece model stores them).

    Up to half of ``MARGIN`` is specific to the token, so that two segmentations of a word into equally many pieces
    (``ab|c``, ``a|bc``) do not tie: rounding would decide, and differently in the two libraries. A character that is in
    no base piece counts 0: every path must spell it, and small sums stay exact for longer.
    """
    scores = dict(base.content["model"]["vocab"])
    scored = [score for score in scores.values() if score > NEVER]
    if not scored:
        raise UserError(f"{base.path}: no piece of this Unigram tokenizer has a score: its file is damaged")
    unknown = min(scored) - UNKNOWN_PENALTY
    held = set().union(*scores)
    result = []
    for i, pieces in enumerate(segment(base.model, new, False, base.unknown).words()):
        lacking = [piece for piece in pieces if piece not in scores]  # spelled with bytes, or unknown
        spelled = sum(scores.get(piece, 0.0) for piece in pieces) + unknown * sum(piece in held for piece in lacking)
        own = math.modf((i + 1) * GOLDEN)[0] / 2
        result.append(float(np.float32(spelled + MARGIN * (len(pieces) + len(lacking) - 1 + own))))
    return result


def repeats(token: str) -> bool:
    """Return whether a token is one part twice, the second at most one character short: ``...``, ``haha``, ``ere``.

    In five dots, ``..|...`` and ``...|..`` are the same pieces: a tie that no score breaks.
    """
    return len(token) > 1 and any(token[part:] == token[:-part] for part in range(1, (len(token) + 1) // 2 + 1))
