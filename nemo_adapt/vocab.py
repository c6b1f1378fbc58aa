"""Sizes of the tables: how many rows they have, padded and not."""

from pathlib import Path

from nemo_adapt.families.family import Shape
from nemo_adapt.token_map import FILE_NAME, TokenMap

LOGITS_AT_ONCE = {False: 2**20, True: 32 * 2**20}
"""Bytes of logits in fp32 on which the loss works at a time: what a core's cache holds; on a GPU, enough to keep it
busy, and few enough to stay, with the bf16 logits they come from, in a second-level cache of 50 MB (H100's data
sheet) from one pass to the next."""


def target_rows(shape: Shape, token_map: TokenMap) -> int:
    """Rows of the adapted model's tables, no padding of ours.

    With new tokens it is the extended tokenizer's size: rows that the base model had beyond its own tokenizer are
    reused or trimmed. Without, the tables stay as they are.
    """
    return token_map.target_vocab if token_map.tokens else shape.vocab


def rows_with(shape: Shape, tokenizer: Path) -> int:
    """The same for the tokenizer in a folder, which has no token map where it is not one of ours: then all rows."""
    return target_rows(shape, TokenMap.load(tokenizer)) if (tokenizer / FILE_NAME).is_file() else shape.vocab


def padded_rows(rows: int, multiple: int, tp: int) -> int:
    """Rows of the padded tables: ``rows`` rounded up to a multiple of ``multiple * tp``."""
    unit = multiple * tp
    return -(-rows // unit) * unit
