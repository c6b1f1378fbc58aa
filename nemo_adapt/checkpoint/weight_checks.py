"""Whether the weights of a folder or a checkpoint are those of the model that config.json describes."""

from pathlib import Path

import torch

from nemo_adapt.checkpoint.model_tensors import open_checkpoint
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, OUTPUT_LAYER, Entry, Family, Shape, hf_shapes
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.partition import blocks

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
    weights, _, _ = open_weights(folder, checkpoint)
    check_tied(weights, folder)
    if isinstance(weights, HfWeights):
        weights.close()


def open_weights(folder: Path, checkpoint: Path | None) -> tuple[HfWeights | Checkpoint, list[Entry], int]:
    """Return the weights of a model, its family's table, and its number of layers.

    ``UserError`` unless the weights have the table's tensors: in a folder those and no others, all layers of one
    Megatron tensor in one dtype.
    """
    family, shape = read_shape(folder)
    table = family.entries(shape)
    if checkpoint:
        return open_checkpoint(checkpoint, table, shape.layers), table, shape.layers
    weights = HfWeights(folder, family, shape)
    _check_tensors(weights, table, family, shape, folder)
    return weights, table, shape.layers


def _check_tensors(weights: HfWeights, table: list[Entry], family: Family, shape: Shape, folder: Path) -> None:
    wanted = hf_shapes(table, shape.layers)
    missing = [name for name in wanted if name not in weights.tensors]
    if missing:
        raise UserError(f"{folder}: {len(missing)} tensors are missing: {_some(missing)}")
    # A tied model may still store its output layer, a copy of the input table.
    ignored = {family.output_table} if shape.tied else set()
    unknown = [name for name in weights.tensors if name not in wanted and name not in ignored]
    if unknown:
        raise UserError(f"{folder}: {len(unknown)} tensors have no place in the model: {_some(unknown)}")
    for name, size in wanted.items():
        if weights.tensors[name].shape != size:
            raise UserError(
                f"{folder}: tensor {name} is {weights.tensors[name].shape}, config.json says {size}: they are of two "
                "models, or one was changed: download both again"
            )
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
    family, shape = read_shape(folder)
    if not shape.tied:
        return
    if isinstance(weights, Checkpoint):
        if OUTPUT_LAYER in weights.shapes:
            raise UserError(f"{weights.folder} has an output table, but {folder}/config.json says it is tied: {ADVICE}")
        return
    embedding = next(entry.rows[0].name for entry in family.entries(shape) if entry.key == EMBEDDING)
    output = family.output_table
    if output in weights.tensors and embedding in weights.tensors and not _same(weights, embedding, output):
        raise UserError(f"{folder}: config.json says that {output} is {embedding}, but they differ: {ADVICE}")


def _same(weights: HfWeights, *names: str) -> bool:
    """Return whether two matrices of a folder hold the same bits."""
    first, second = (weights.tensors[name] for name in names)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    for start, stop in blocks(0, first.shape[0], first.row_elements * first.dtype.itemsize, PIECE_BYTES):
        if not torch.equal(*(weights.rows(name, start, stop).view(torch.uint8) for name in names)):
            return False
    return True


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
