"""Number of rows of the tables, padded and not."""

from pathlib import Path

from nemo_adapt.families.family import Shape
from nemo_adapt.token_map import FILE_NAME, TokenMap

LOGITS_AT_ONCE = {False: 2**20, True: 32 * 2**20}
"""Whether on a GPU -> bytes of fp32 logits that the loss processes at a time. On a CPU they fit a core's cache; on a
GPU they keep it busy and, with the bf16 logits they come from, stay in the 50 MB L2 cache (H100's data sheet) between
passes."""


def target_rows(shape: Shape, token_map: TokenMap) -> int:
    """Return the rows of the adapted model's tables, without our padding.

    With new tokens this is the extended tokenizer's size: rows that the base model had beyond its own tokenizer are
    reused or trimmed. Without new tokens the tables do not change.
    """
    return token_map.target_vocab if token_map.tokens else shape.vocab


def rows_with(shape: Shape, tokenizer: Path) -> int:
    """Return ``target_rows`` for the tokenizer in a folder; without a token map (not made by us), the base's rows."""
    return target_rows(shape, TokenMap.load(tokenizer)) if (tokenizer / FILE_NAME).is_file() else shape.vocab


def padded_rows(rows: int, multiple: int, tp: int) -> int:
    """Return the rows of the padded tables: ``rows`` rounded up to a multiple of ``multiple * tp``."""
    unit = multiple * tp
    return -(-rows // unit) * unit
