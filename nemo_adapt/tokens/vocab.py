"""Number of rows of the tables, padded and not."""

from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Shape
from nemo_adapt.tokens.token_map import FILE_NAME, TokenMap

LOGITS_AT_ONCE = {False: 2**20, True: 32 * 2**20}
"""Whether on a GPU -> bytes of fp32 logits that the loss processes at a time. On a CPU they fit a core's cache; on a
GPU they keep it busy and, with the bf16 logits they come from, stay in the 50 MB L2 cache (H100's data sheet) between
passes."""
PADDED_ROWS = 8192
"""Rows beyond its tokens that a base model may have as padding: the largest usual multiple (128 x 64 ranks)."""
PADDED_SHARE = 0.1
"""The same as a share of its tokens; the larger of the two limits applies."""


def target_rows(shape: Shape, token_map: TokenMap) -> int:
    """Return the rows of the adapted model's tables, without our padding.

    With new tokens this is the extended tokenizer's size: rows that the base model had beyond its own tokenizer are
    reused or trimmed. Without new tokens the tables do not change.
    """
    return token_map.target_vocab if token_map.tokens else shape.vocab


def kept_rows(shape: Shape, tokenizer: Path) -> int:
    """Return how many of the base's rows the adapted model keeps; rows after them are new tokens', or trimmed."""
    token_map = TokenMap.load(tokenizer) if (tokenizer / FILE_NAME).is_file() else None
    return token_map.source_vocab if token_map and token_map.tokens else shape.vocab


def rows_with(shape: Shape, tokenizer: Path) -> int:
    """Return ``target_rows`` for the tokenizer in a folder; without a token map (not made by us), the base's rows."""
    return target_rows(shape, TokenMap.load(tokenizer)) if (tokenizer / FILE_NAME).is_file() else shape.vocab


def padded_rows(rows: int, multiple: int, tp: int) -> int:
    """Return the rows of the padded tables: ``rows`` rounded up to a multiple of ``multiple * tp``."""
    unit = multiple * tp
    return -(-rows // unit) * unit


def check_fit(tokens: int, source_rows: int) -> None:
    """Raise ``UserError`` if a base tokenizer with so many tokens cannot belong to a model with ``source_rows`` rows.

    A model may have more rows than tokens: many are padded. An excess above both 8,192 and a tenth of its tokens is not
    padding: such rows would be real ones, and would be lost.
    """
    spare = source_rows - tokens
    if spare < 0:
        says = f"only {source_rows:,} rows"
    elif spare > max(PADDED_ROWS, PADDED_SHARE * tokens):
        says = f"{source_rows:,} rows, {spare:,} more than tokens, which is too many for padding"
    else:
        return
    raise UserError(
        f"the base tokenizer has {tokens:,} tokens, but the model has {says}: "
        "tokenizer.base and model.path do not belong together"
    )
