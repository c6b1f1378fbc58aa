"""Sizes of the tables: how many rows they have, padded and not."""

from nemo_adapt.families.family import Shape
from nemo_adapt.token_map import TokenMap


def target_rows(shape: Shape, token_map: TokenMap) -> int:
    """Rows of the adapted model's tables, no padding of ours.

    With new tokens it is the extended tokenizer's size: rows that the base model had beyond its own tokenizer are
    reused or trimmed. Without, the tables stay as they are.
    """
    return token_map.target_vocab if token_map.tokens else shape.vocab


def padded_rows(rows: int, multiple: int, tp: int) -> int:
    """Rows of the padded tables: ``rows`` rounded up to a multiple of ``multiple * tp``."""
    unit = multiple * tp
    return -(-rows // unit) * unit
