"""The ``export`` stage: a Megatron checkpoint and the extended tokenizer become a Hugging Face folder, streamed.

Padded rows stay behind: the tables of the folder have one row for each token of the tokenizer.
"""

from pathlib import Path

import torch

from nemo_adapt import families
from nemo_adapt.artifact import Inputs
from nemo_adapt.checkpoint.reader import Checkpoint, complete
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Entry, hf_shapes
from nemo_adapt.hf_folder import HfWriter, complete_folder, read_config
from nemo_adapt.progress import Bar
from nemo_adapt.token_map import TokenMap
from nemo_adapt.vocab import target_rows

PIECE_BYTES = 64 << 20
"""Most bytes read from the checkpoint at once."""


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Export the newest training checkpoint in ``inputs["train"]`` with the tokenizer in ``inputs["tokenizer"]``.

    The folder gets safetensors (sharded with an index where larger than ``export.shard_mib``), config.json with the
    new vocabulary size and dtype, the base's generation config, and the tokenizer. Dtypes are those of the checkpoint.
    """
    base, tokenizer = inputs["model"][0], inputs["tokenizer"][0]
    export_checkpoint(newest_checkpoint(inputs["train"][0]), base, tokenizer, out, config.export.shard_mib << 20)


def newest_checkpoint(train: Path) -> Path:
    """The last complete checkpoint of a training folder; ``UserError`` if it has none."""
    found = complete(train / "checkpoints")
    if not found:
        raise UserError(f"{train} has no checkpoint: run the train stage first")
    return found[-1]


def export_checkpoint(checkpoint: Path, base: Path, tokenizer: Path, out: Path, shard_bytes: int) -> None:
    """Write ``checkpoint`` as a Hugging Face folder like ``base`` (config.json), with the tokenizer's vocabulary."""
    hf_config = read_config(base)
    family = families.of(hf_config)
    shape = family.shape(hf_config)
    rows = target_rows(shape, TokenMap.load(tokenizer))
    grown = family.shape({**hf_config, "vocab_size": rows})
    table = family.entries(grown)
    opened = Checkpoint(checkpoint)
    dtype_of = {
        rows.name.format(layer=layer): opened.dtypes[entry.key]
        for entry in table
        for rows in entry.rows
        for layer in range(shape.layers)
    }
    tensors = {name: (size, dtype_of[name]) for name, size in hf_shapes(table, shape.layers).items()}
    target = HfWriter(out, tensors, shard_bytes)
    with Bar("exporting", target.total_bytes / 1e6, "MB") as bar:
        for entry in table:
            for layer in range(shape.layers if entry.stacked else 1):
                _copy(opened, entry, layer, target, bar)
    target.close()
    complete_folder(out, base, tokenizer, rows, opened.dtypes[table[0].key])


def _copy(opened: Checkpoint, entry: Entry, layer: int, target: HfWriter, bar: Bar) -> None:
    """Copy one layer's part of a Megatron tensor into the Hugging Face tensors that it is made of."""
    row_bytes = torch.Size(entry.shape[1:]).numel() * opened.dtypes[entry.key].itemsize
    step = max(1, PIECE_BYTES // row_bytes)
    for start in range(0, entry.shape[0], step):
        size = (min(step, entry.shape[0] - start), *entry.shape[1:])
        offset = (start, *(0 for _ in entry.shape[1:]))
        if entry.stacked:
            piece = opened.read(entry.key, (layer, *offset), (1, *size))[0]
        else:
            piece = opened.read(entry.key, offset, size)
        for rows, at in entry.sources(start, start + size[0]):
            write = target.write_columns if rows.turned else target.write
            write(rows.name.format(layer=layer), rows.start, piece[at : at + rows.stop - rows.start])
        bar.advance(size[0] * row_bytes / 1e6)
