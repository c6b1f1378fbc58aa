"""The ``convert`` stage: stream a Hugging Face folder into a Megatron distributed checkpoint.

Each process holds one piece of one tensor at a time, and no model is built; several processes share the files. The
tables keep their size: padding depends on the layout and is added when the checkpoint is loaded.

With ``model.checkpoint``, an existing Megatron checkpoint of that model is copied instead, without padded rows,
optimizer state and the key prefixes of wrappers. It is read as data: no code in it is executed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from nemo_adapt import families
from nemo_adapt.artifact import Inputs, peak_memory_mib, write_json
from nemo_adapt.checkpoint import writer
from nemo_adapt.checkpoint.integrity import seal, sizes_of
from nemo_adapt.checkpoint.pieces import cut, pieces, rows_beyond
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import Config
from nemo_adapt.families.family import Entry
from nemo_adapt.hf_folder import HfWeights, read_config
from nemo_adapt.model_weights import check_tensors, check_tied
from nemo_adapt.progress import Bar, OnProgress, say
from nemo_adapt.workers import cores, share, shared_counters


@dataclass(frozen=True)
class Source:
    """The weights of a model and the checkpoint files to write. Every process builds its own identical copy."""

    weights: HfWeights | Checkpoint
    files: list[list[writer.Piece]]

    @property
    def bytes(self) -> int:
        """Size of all tensors, in bytes."""
        return sum(piece.bytes for pieces in self.files for piece in pieces)

    @classmethod
    def of(cls, folder: Path, chunk_bytes: int, file_bytes: int, checkpoint: Path | None = None) -> "Source":
        """Plan the conversion of ``folder``; ``checkpoint``: where the weights are, if they are not in ``folder``.

        Raises ``UserError`` for an unsupported model and for missing, unknown or misshapen tensors.
        """
        hf_config = read_config(folder)
        family = families.of(hf_config)
        shape = family.shape(hf_config)
        table = family.entries(shape)
        if checkpoint:
            opened = Checkpoint(checkpoint)
            return cls(opened, writer.files(list(pieces(opened, table, shape.layers, chunk_bytes)), file_bytes))
        weights = HfWeights(folder, family)
        check_tensors(weights, table, shape, folder)
        return cls(weights, writer.files(list(_pieces(weights, table, shape.layers, chunk_bytes)), file_bytes))


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write the checkpoint of the model folder ``inputs["model"]`` into ``out``, with ``convert.processes`` processes.

    Weights come from ``inputs["weights"]``, a Megatron checkpoint of this model, where it is given. Files of an
    interrupted conversion in ``out`` are kept. ``convert.json`` records the bytes that each process read and its peak
    memory. Raises ``UserError`` as ``Source.of`` does.
    """
    checkpoint = inputs["weights"][0] if "weights" in inputs else None
    given = (inputs["model"][0], config.convert.chunk_mib << 20, writer.FILE_BYTES, checkpoint)
    source = Source.of(*given)
    check_tied(source.weights, inputs["model"][0])
    for said in _left_out(source.weights, inputs["model"][0]):
        say(said)
    jobs = len(source.files)
    processes = min(config.convert.processes or cores(), jobs)
    with Bar("converting", source.bytes / 1e6, "MB") as bar:
        facts = share(jobs, processes, bar, partial(write_files, source, out), _write_share, out, *given)
    writer.finish(out, source.files)
    seal(out, sizes_of(out))
    write_json(out / "convert.json", {"bytes": source.bytes, "processes": facts})


def _left_out(weights: HfWeights | Checkpoint, folder: Path) -> Iterator[str]:
    """Yield what the user is told about weights that are not taken."""
    if isinstance(weights, HfWeights):
        yield from filter(None, [weights.others_left_out])
        return
    config = read_config(folder)
    rows = families.of(config).shape(config).vocab
    if held := rows_beyond(weights, rows):
        yield (
            f"{weights.folder}: its tables have {held} rows, but {folder}/config.json says {rows}: the others are left "
            "out. They are padding if the folder is that of the same model; of an adapted one, give its export"
        )


def write_files(source: Source, out: Path, numbers: Iterable[int], on_progress: OnProgress) -> dict[str, int]:
    """Write the files ``numbers`` in this process; return bytes read and peak MiB. ``on_progress`` gets MB written."""
    for number in numbers:
        writer.write_file(out, number, source.files[number], lambda size: on_progress(size / 1e6))
    if isinstance(source.weights, HfWeights):
        source.weights.close()
    return {"bytes_read": source.weights.bytes_read, "peak_mib": peak_memory_mib()}


def _write_share(out: Path, folder: Path, chunk_bytes: int, file_bytes: int, checkpoint: Path | None) -> dict[str, int]:
    """Write files in another process."""
    source, shared = Source.of(folder, chunk_bytes, file_bytes, checkpoint), shared_counters()
    return write_files(source, out, shared.take(len(source.files)), shared.advance)


class Memory:
    """One buffer that all pieces use in turn: allocating it for each would cost more than filling it."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def tensor(self, size: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialized tensor, valid until the next call. Its storage is no larger than itself."""
        count = torch.Size(size).numel()
        if len(self._bytes) < count * dtype.itemsize:
            self._bytes = bytearray(count * dtype.itemsize)
        return torch.frombuffer(self._bytes, dtype=dtype, count=count).view(size)


def _pieces(weights: HfWeights, table: list[Entry], layers: int, chunk_bytes: int) -> Iterator[writer.Piece]:
    """Yield all pieces of the checkpoint, each at most ``chunk_bytes`` (or one row). They share one buffer."""
    memory = Memory()
    for entry in table:
        dtype = weights.tensors[entry.rows[0].name.format(layer=0)].dtype
        yield from cut(entry, layers, dtype, chunk_bytes, partial(_make, weights, memory, entry, dtype))


def _make(
    weights: HfWeights,
    memory: Memory,
    entry: Entry,
    dtype: torch.dtype,
    offset: tuple[int, ...],
    size: tuple[int, ...],
) -> torch.Tensor:
    """Return the piece of a Megatron tensor with this offset and size."""
    layer, start = offset[:2] if entry.stacked else (0, offset[0])
    piece = memory.tensor(size, dtype)
    rows_of_layer = piece[0] if entry.stacked else piece
    for rows, at in entry.sources(start, start + len(rows_of_layer)):
        part = rows_of_layer[at : at + rows.stop - rows.start]
        weights.read(rows.name.format(layer=layer), rows.start, rows.stop, part, rows.transposed)
    return piece
