"""Whether the weights of a folder or a checkpoint are those of the model that config.json describes."""

from pathlib import Path

import torch

from nemo_adapt import families
from nemo_adapt.checkpoint.model_tensors import check_entry
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, LM_HEAD, OUTPUT_LAYER, Entry, Shape, hf_shapes
from nemo_adapt.hf_folder import HfWeights, read_config
from nemo_adapt.row_ranges import blocks

PIECE_BYTES = 8 << 20
"""Most bytes of a table compared at once."""
ADVICE = (
    'write "tie_word_embeddings": false into config.json if the model was trained with both, else delete '
    "the output table"
)


def check_weights(folder: Path, checkpoint: Path | None) -> None:
    """Raise ``UserError`` for weights that ``convert`` would refuse: it runs after all text is tokenized.

    Reads headers, and the tables of a tied model that stores two. ``checkpoint``: where the weights are, if not in
    ``folder``.
    """
    config = read_config(folder)
    family = families.of(config)
    shape = family.shape(config)
    if checkpoint:
        opened = Checkpoint(checkpoint)
        for entry in family.entries(shape):
            check_entry(opened, entry, shape.layers)
        check_tied(opened, folder)
        return
    weights = HfWeights(folder, family)
    check_tensors(weights, family.entries(shape), shape, folder)
    check_tied(weights, folder)
    weights.close()


def check_tensors(weights: HfWeights, table: list[Entry], shape: Shape, folder: Path) -> None:
    """Raise ``UserError`` unless the folder holds exactly the tensors of the family's table, in the right shapes, and
    those of one Megatron tensor have one dtype."""
    wanted = hf_shapes(table, shape.layers)
    missing = [name for name in wanted if name not in weights.tensors]
    if missing:
        raise UserError(f"{folder}: {len(missing)} tensors are missing: {_some(missing)}")
    # A tied model may still store its output layer, a copy of the input table.
    ignored = {LM_HEAD} if shape.tied else set()
    unknown = [name for name in weights.tensors if name not in wanted and name not in ignored]
    if unknown:
        raise UserError(f"{folder}: {len(unknown)} tensors have no place in the model: {_some(unknown)}")
    for name, size in wanted.items():
        if weights.tensors[name].shape != size:
            raise UserError(f"{folder}: tensor {name} is {weights.tensors[name].shape}, config.json says {size}")
    for entry in table:
        # All layers are stacked in one Megatron tensor.
        names = [rows.name.format(layer=layer) for layer in range(shape.layers) for rows in entry.rows]
        first = weights.tensors[names[0]].dtype
        for name in names:
            if weights.tensors[name].dtype != first:
                raise UserError(
                    f"{folder}: tensor {name} is {weights.tensors[name].dtype}, but {names[0]} is {first}; they go "
                    "into one Megatron tensor: save the model in one dtype"
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
        if OUTPUT_LAYER in weights.shapes:
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
    for start, stop in blocks(0, first.shape[0], first.row_elements * first.dtype.itemsize, PIECE_BYTES):
        parts = [torch.empty((stop - start, *first.shape[1:]), dtype=first.dtype) for _ in names]
        for name, part in zip(names, parts, strict=True):
            weights.read(name, start, stop, part)
        if not torch.equal(*(part.view(torch.uint8) for part in parts)):
            return False
    return True


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
