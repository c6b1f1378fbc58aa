"""A tied model's output layer is its input table: what a folder or a checkpoint stores beside it must be the same."""

from pathlib import Path

import torch

from nemo_adapt import families
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, LM_HEAD, OUTPUT_LAYER
from nemo_adapt.hf_folder import HfWeights, read_config

PIECE_BYTES = 8 << 20
"""Most bytes of a table compared at once."""
ADVICE = (
    'write "tie_word_embeddings": false into config.json if the model was trained with both, else delete '
    "the output table"
)


def check_tied(weights: HfWeights | Checkpoint, folder: Path) -> None:
    """Raise ``UserError`` if config.json of ``folder`` says that the tables are tied and ``weights`` has two.

    Many folders store the input table once more. Where the two differ, transformers 5 uses both, and earlier versions
    one; some training programs leave such folders behind.
    """
    config = read_config(folder)
    family = families.of(config)
    shape = family.shape(config)
    if not shape.tied:
        return
    if isinstance(weights, Checkpoint):
        if OUTPUT_LAYER in weights.sizes:
            raise UserError(f"{weights.folder} has an output table, but {folder}/config.json says it is tied: {ADVICE}")
        return
    embedding = next(entry.rows[0].name for entry in family.entries(shape) if entry.key == EMBEDDING)
    if LM_HEAD in weights.tensors and embedding in weights.tensors and not _same(weights, embedding, LM_HEAD):
        raise UserError(f"{folder}: config.json says that {LM_HEAD} is {embedding}, but they differ: {ADVICE}")


def _same(weights: HfWeights, *names: str) -> bool:
    """Return whether two matrices of a folder hold the same bits."""
    first, second = (weights.tensors[name] for name in names)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    step = max(1, PIECE_BYTES // max(1, first.row_elements * first.dtype.itemsize))
    for start in range(0, first.shape[0], step):
        stop = min(start + step, first.shape[0])
        parts = [torch.empty((stop - start, *first.shape[1:]), dtype=first.dtype) for _ in names]
        for name, part in zip(names, parts, strict=True):
            weights.read(name, start, stop, part)
        if not torch.equal(*(part.view(torch.uint8) for part in parts)):
            return False
    return True
