"""Vectors from another model, the donor: its input rows of the tokens that both tokenizers have."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from nemo_adapt import hf_tokenizer
from nemo_adapt.checkpoint import tables
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import INPUT
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap


def vectors(folder: Path, tokenizer: PreTrainedTokenizerFast, token_map: TokenMap) -> npt.NDArray[np.float32]:
    """Return [target vocab, the donor's hidden size], float32: for each id of the extended ``tokenizer`` the row of the
    donor's token of the same bytes, as mergekit's ``tokensurgeon`` has them (arXiv 2506.06607); zero without one.

    Special tokens have none. Raises ``UserError`` for a folder that is no model of a known family, and for one whose
    tokenizer has no new token, or no base token.
    """
    table = tables.of_folder(folder)[INPUT]
    row_of = _rows(documents.token_contents(hf_tokenizer.load(folder))[: table.rows])
    contents = documents.token_contents(tokenizer)[: token_map.target_vocab]
    rows = np.array([row_of.get(content, -1) for content in contents], dtype=np.int64)
    base, new = (int(np.count_nonzero(part >= 0)) for part in np.split(rows, [token_map.source_vocab]))
    say(
        f"donor: {folder} has {new:,} of the {len(token_map.tokens):,} new tokens, and {base:,} of the "
        f"{token_map.source_vocab:,} of the base"
    )
    if not new or not base:
        raise UserError(
            f"auxiliary.vectors: {folder} has none of the {'base' if new else 'new'} tokens: choose a model of both "
            "languages"
        )
    found = np.zeros((token_map.target_vocab, table.hidden), dtype=np.float32)
    for start, block in table.blocks(0, table.rows):
        here = np.flatnonzero((rows >= start) & (rows < start + len(block)))
        found[here] = block.numpy()[rows[here] - start]
    return found


def _rows(contents: list[bytes]) -> dict[bytes, int]:
    """Return the first row of each content but the empty one, which special tokens and unused ids have."""
    found = {content: row for row, content in reversed(list(enumerate(contents)))}
    found.pop(b"", None)
    return found
