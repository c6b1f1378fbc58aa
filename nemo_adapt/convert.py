"""The ``convert`` stage: stream a Hugging Face folder into a Megatron distributed checkpoint.

Each process holds one chunk of one tensor at a time, and no model is built; several processes share the files. The
tables keep their size: padding depends on the layout and is added when the checkpoint is loaded.

With ``model.checkpoint``, an existing Megatron checkpoint of that model is copied instead, without padded rows,
optimizer state and the key prefixes of wrappers. It is read as data: no code in it is executed.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nemo_adapt.checkpoint import writer
from nemo_adapt.checkpoint.box import Box, Dims
from nemo_adapt.checkpoint.integrity import seal, sizes_of
from nemo_adapt.checkpoint.model_tensors import chunks_of, copied_chunks, rows_beyond
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.checkpoint.weight_checks import check_tied, open_weights
from nemo_adapt.config import Config
from nemo_adapt.console.progress import say
from nemo_adapt.families.family import Entry
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.machine.workers import cores
from nemo_adapt.run.inputs import Inputs


def plan(folder: Path, chunk_bytes: int, file_bytes: int, checkpoint: Path | None) -> writer.Source:
    """Plan the conversion of ``folder``; ``checkpoint``: where the weights are, if they are not in ``folder``.

    Raises ``UserError`` for an unsupported model and for missing, unknown or misshapen tensors.
    """
    weights, table, layers = open_weights(folder, checkpoint)
    if isinstance(weights, Checkpoint):
        chunks = copied_chunks(weights, table, layers, chunk_bytes)
    else:
        chunks = _chunks(weights, table, layers, chunk_bytes)
    return writer.Source(weights, writer.files(list(chunks), file_bytes))


def build(config: Config, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Write the checkpoint of the model folder ``inputs["model"]`` into ``out``, with ``convert.processes`` processes.

    Weights come from ``inputs["weights"]``, a Megatron checkpoint of this model, where it is given. Files of an
    interrupted conversion in ``out`` are kept. Returns the bytes that each process read and its peak memory, for the
    manifest. Raises ``UserError`` as ``plan`` does.
    """
    checkpoint = inputs["weights"][0] if "weights" in inputs else None
    given = (inputs["model"][0], config.convert.chunk_mib << 20, writer.FILE_BYTES, checkpoint)
    source = plan(*given)
    check_tied(source.weights, inputs["model"][0])
    for said in _left_out(source.weights, inputs["model"][0]):
        say(said)
    facts = writer.write_files(source, out, config.convert.processes or cores(), "converting", plan, *given)
    writer.finish(out, source.files)
    seal(out, sizes_of(out))
    return facts


def _left_out(weights: HfWeights | Checkpoint, folder: Path) -> Iterator[str]:
    """Yield what the user is told about weights that are not taken."""
    if isinstance(weights, HfWeights):
        yield from filter(None, [weights.others_left_out])
        return
    rows = read_shape(folder)[1].vocab
    if held := rows_beyond(weights, rows):
        yield (
            f"{weights.folder}: its tables have {held} rows, but {folder}/config.json says {rows}: the others are left "
            "out. They are padding if the folder is that of the same model; of an adapted one, give its export"
        )


class Memory:
    """One buffer that all chunks use in turn: allocating it for each would cost more than filling it."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def tensor(self, shape: Dims, dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialized tensor, valid until the next call. Its storage is no larger than itself."""
        count = torch.Size(shape).numel()
        if len(self._bytes) < count * dtype.itemsize:
            self._bytes = bytearray(count * dtype.itemsize)
        return torch.frombuffer(self._bytes, dtype=dtype, count=count).view(shape)


def _chunks(weights: HfWeights, table: list[Entry], layers: int, chunk_bytes: int) -> Iterator[writer.NewChunk]:
    """Yield all chunks of the checkpoint, each at most ``chunk_bytes`` (or one row). They share one buffer."""
    memory = Memory()
    for entry in table:
        dtype = weights.tensors[entry.rows[0].name.format(layer=0)].dtype
        yield from chunks_of(entry, layers, dtype, chunk_bytes, partial(_make, weights, memory, entry, dtype))


def _make(weights: HfWeights, memory: Memory, entry: Entry, dtype: torch.dtype, box: Box) -> torch.Tensor:
    """Return a box of a Megatron tensor."""
    layer, start = box.offset[:2] if entry.stacked else (0, box.offset[0])
    values = memory.tensor(box.shape, dtype)
    rows_of_layer = values[0] if entry.stacked else values
    for rows, place in entry.sources(start, start + len(rows_of_layer)):
        weights.read(rows.name.format(layer=layer), rows.start, rows.stop, rows_of_layer[place], rows.transposed)
    return values
