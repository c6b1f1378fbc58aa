"""Vectors from another model, the donor: its input rows of the tokens that both tokenizers have."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from nemo_adapt import hf_tokenizer
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.partition import blocks
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap

BLOCK_BYTES = 32 << 20
"""Bytes of the donor's rows that are read at once."""


def vectors(folder: Path, tokenizer: PreTrainedTokenizerFast, token_map: TokenMap) -> npt.NDArray[np.float32]:
    """Return [target vocab, the donor's hidden size], float32: for each id of the extended ``tokenizer`` the row of the
    donor's token of the same bytes, as mergekit's ``tokensurgeon`` has them (arXiv 2506.06607); zero without one.

    Special tokens have none. Raises ``UserError`` for a folder that is no model of a known family, and for one whose
    tokenizer has no new token, or no base token.
    """
    family, shape = read_shape(folder)
    weights = HfWeights(folder, family, shape)
    name = next(entry.rows[0].name for entry in family.entries(shape) if entry.key == EMBEDDING)
    if name not in weights.tensors:
        raise UserError(f"auxiliary.vectors: {folder}: tensor {name} is missing")
    stored = weights.tensors[name]
    row_of = _rows(documents.token_contents(hf_tokenizer.load(folder))[: stored.shape[0]])
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
    found = np.zeros((token_map.target_vocab, stored.row_elements), dtype=np.float32)
    for start, stop in blocks(0, stored.shape[0], 4 * stored.row_elements, BLOCK_BYTES):
        here = np.flatnonzero((rows >= start) & (rows < stop))
        found[here] = weights.rows(name, start, stop).float().numpy()[rows[here] - start]
    return found


def _rows(contents: list[bytes]) -> dict[bytes, int]:
    """Return the first row of each content but the empty one, which special tokens and unused ids have."""
    found = {content: row for row, content in reversed(list(enumerate(contents)))}
    found.pop(b"", None)
    return found
