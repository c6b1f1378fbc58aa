"""The ``export`` stage: stream a Megatron checkpoint and the extended tokenizer into a Hugging Face folder.

Padded rows are dropped: the tables of the folder have one row per token, plus those of ``export.pad_vocab_to``. Several
processes share the work, each with a piece of one tensor in memory; at the end a row of every tensor is checked.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nemo_adapt.checkpoint.contents import damaged_contents
from nemo_adapt.checkpoint.folders import CHECKPOINTS, complete, step_of
from nemo_adapt.checkpoint.integrity import damage
from nemo_adapt.checkpoint.model_tensors import open_checkpoint
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.checkpoint.scores import BEST_ONE, LAST_ONE, best, check_which
from nemo_adapt.config import Config, ExportConfig
from nemo_adapt.console.progress import Bar, OnProgress
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Entry, Rows, hf_shapes
from nemo_adapt.files import read_object
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.model_files import complete_folder, read_generation
from nemo_adapt.hf_model.weights import HfWeights, HfWriter
from nemo_adapt.machine.facts import peak_memory_mib
from nemo_adapt.machine.workers import cores, share, shared_counters
from nemo_adapt.partition import blocks
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.run.manifest import MANIFEST
from nemo_adapt.tokens.vocab import kept_rows, padded_rows, rows_with
from nemo_adapt.training_files import SUMMARY

PIECE_BYTES = 8 << 20
"""Most bytes read from the checkpoint at once: larger buffers are freshly mapped by the system each time."""
SHARED_BYTES = 1 << 30
"""Size in bytes below which this process exports a model alone: starting others would take longer."""
DONE = ".exported"
"""Folder of marker files, one for each finished job."""


def build(config: Config, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Export the chosen training checkpoint in ``inputs["train"]`` with the tokenizer in ``inputs["tokenizer"]``.

    Returns facts for the stage's manifest.
    """
    base, tokenizer = inputs["model"][0], inputs["tokenizer"][0]
    checkpoint = chosen_checkpoint(inputs["train"][0], config.export.checkpoint)
    return export_checkpoint(checkpoint, base, tokenizer, out, config.export)


def chosen_checkpoint(train: Path, which: str) -> Path:
    """Return the ``last`` or the ``best`` complete checkpoint of a training folder; ``UserError`` if there is none, if
    it is damaged, or if the last one is not that of the training's last step."""
    found = {place.name: place for place in complete(train / CHECKPOINTS)}
    check_which(which)
    names = {LAST_ONE: max(found, default=""), BEST_ONE: best(train / CHECKPOINTS)[0]}
    if names[which] not in found:
        hint = "train with train.keep_best=true" if which == BEST_ONE else "run the train stage first"
        raise UserError(f"{train} has no {which} checkpoint: {hint}")
    chosen = found[names[which]]
    is_known = which == LAST_ONE and (train / SUMMARY).is_file()
    last = read_object(train / SUMMARY, "run the train stage again").get("steps", 0) if is_known else 0
    if step_of(chosen) < last:
        raise UserError(
            f"{train}: the checkpoint of its last step, {last}, is gone, the newest is {chosen.name}: delete "
            f"{train / MANIFEST}, and nemo-adapt train goes on from there; nemo-adapt export-hf exports it as it is"
        )
    if wrong := damage(chosen) or damaged_contents(chosen, with_optimizer=False):
        again = f"delete {train / MANIFEST}, and nemo-adapt train goes on from the one before"
        advice = {LAST_ONE: again, BEST_ONE: "export the last one, export.checkpoint=last"}
        raise UserError(f"{chosen} is damaged ({wrong}): {advice[which]}")
    return chosen


@dataclass(frozen=True)
class Work:
    """An export, divided into jobs. Every process builds its own identical copy."""

    checkpoint: Checkpoint
    target: HfWriter
    jobs: list[list[tuple[Entry, int]]]
    """Tensors, each with its layer, that are exported together."""
    tokens: int
    """Rows of the folder's tables that are tokens."""
    rows: int
    """All rows of the folder's tables, including the padding of ``export.pad_vocab_to``."""
    dtype: torch.dtype
    """Dtype of the input table."""

    @classmethod
    def of(cls, checkpoint: Path, base: Path, tokenizer: Path, out: Path, config: ExportConfig) -> "Work":
        """Plan the export of ``checkpoint``, a model like ``base`` with the tokenizer's vocabulary, and create the
        files in ``out``; ``UserError`` for a tensor that is missing or has another shape."""
        family, shape = read_shape(base)
        shape = replace(shape, vocab=rows_with(shape, tokenizer))
        rows = padded_rows(shape.vocab, config.pad_vocab_to, 1)
        table = family.entries(shape)
        opened = open_checkpoint(checkpoint, table, shape.layers)
        dtype_of = {
            part.name.format(layer=layer): opened.dtypes[entry.key]
            for entry in table
            for part in entry.rows
            for layer in range(shape.layers)
        }
        sizes = hf_shapes(family.entries(replace(shape, vocab=rows)), shape.layers)
        tensors = {name: (size, dtype_of[name]) for name, size in sizes.items()}
        jobs = [[(entry, 0)] for entry in table if not entry.stacked]
        jobs += [[(entry, layer) for entry in table if entry.stacked] for layer in range(shape.layers)]
        target = HfWriter(out, tensors, config.shard_mib << 20)
        return cls(opened, target, jobs, shape.vocab, rows, opened.dtypes[table[0].key])


def export_checkpoint(checkpoint: Path, base: Path, tokenizer: Path, out: Path, config: ExportConfig) -> dict[str, Any]:
    """Write ``checkpoint`` as a Hugging Face folder like ``base`` (config.json), with the tokenizer's vocabulary.

    The folder gets safetensors (sharded with an index where larger than ``config.shard_mib``), config.json with the new
    vocabulary size and dtype, the base's generation config, and the tokenizer. Dtypes are those of the checkpoint. Jobs
    that an interrupted export finished in ``out`` are kept. Returns the bytes that each process read and its peak
    memory, for the manifest.
    """
    if config.pad_vocab_to < 1:
        raise UserError(f"export.pad_vocab_to={config.pad_vocab_to} must be at least 1 (no padding)")
    read_generation(base)  # needed at the end
    places = (checkpoint, base, tokenizer, out, config)
    work = Work.of(*places)
    (out / DONE).mkdir(exist_ok=True)
    processes = config.processes or (cores() if work.target.total_bytes >= SHARED_BYTES else 1)
    with Bar("exporting", work.target.total_bytes / 1e6, "MB") as bar:
        facts = share(len(work.jobs), processes, bar, partial(write_jobs, work), _write_share, *places)
    work.target.close()
    compare_samples(work, out)
    kept = kept_rows(read_shape(base)[1], tokenizer)
    complete_folder(out, base, tokenizer, work.rows, work.dtype, work.tokens, kept)
    for note in (out / DONE).iterdir():
        note.unlink()
    (out / DONE).rmdir()
    return {"bytes": work.target.total_bytes, "processes": len(facts), "per_process": facts}


def write_jobs(work: Work, numbers: Iterable[int], on_progress: OnProgress) -> dict[str, int]:
    """Run the jobs ``numbers`` in this process; return bytes read and peak MiB. ``on_progress`` gets the MB done.

    While one job is flushed to disk, the next one is copied.
    """
    with ThreadPoolExecutor(1) as disk:
        kept: Future[None] | None = None
        for number in numbers:
            note = work.target.folder / DONE / str(number)
            done = note.is_file()
            for entry, layer in work.jobs[number]:
                if done:
                    on_progress(torch.Size(entry.shape).numel() * work.checkpoint.dtypes[entry.key].itemsize / 1e6)
                else:
                    _copy(work, entry, layer, on_progress)
            if kept:
                kept.result()
            kept = disk.submit(_keep, work, note)
        if kept:
            kept.result()
    return {"bytes_read": work.checkpoint.bytes_read, "peak_mib": peak_memory_mib()}


def _keep(work: Work, note: Path) -> None:
    """Flush a job to disk, then mark it as done."""
    work.target.flush()
    note.touch()


def _write_share(checkpoint: Path, base: Path, tokenizer: Path, out: Path, config: ExportConfig) -> dict[str, int]:
    """Run jobs in another process."""
    work, shared = Work.of(checkpoint, base, tokenizer, out, config), shared_counters()
    return write_jobs(work, shared.take(len(work.jobs)), shared.advance)


def _copy(work: Work, entry: Entry, layer: int, on_progress: OnProgress) -> None:
    """Copy one layer of a Megatron tensor into the Hugging Face tensors that it corresponds to."""
    row_bytes = torch.Size(entry.shape[1:]).numel() * work.checkpoint.dtypes[entry.key].itemsize
    for start, stop in blocks(0, entry.shape[0], row_bytes, PIECE_BYTES):
        piece = work.checkpoint.entry_rows(entry, layer, start, stop)
        for rows, place in entry.sources(start, stop):
            work.target.write(rows.name.format(layer=layer), rows.start, piece[place], rows.transposed)
        on_progress((stop - start) * row_bytes / 1e6)


def compare_samples(work: Work, out: Path) -> None:
    """Compare one row of every tensor in ``out`` with the checkpoint; ``UserError`` if they differ."""
    weights = HfWeights(out)
    for entry, layer in (pair for job in work.jobs for pair in job):
        for source, row in _samples(entry, layer):
            expected = work.checkpoint.entry_rows(entry, layer, row, row + 1)
            name = source.name.format(layer=layer)
            found = weights.rows(name, source.start, source.stop, source.transposed)
            if not torch.equal(found.view(torch.uint8), expected.view(torch.uint8)):
                raise UserError(
                    f"{out}: tensor {name} is not what was written; the disk may be full or broken: export again"
                )
    weights.close()


def _samples(entry: Entry, layer: int) -> Iterator[tuple[Rows, int]]:
    """Yield one row of each Hugging Face tensor that ``entry`` maps to, and its row in the Megatron tensor."""
    parts = defaultdict(list)
    for rows, place in entry.sources(0, entry.shape[0]):
        parts[rows.name].append((rows, place.start))
    for name, found in parts.items():
        drawn = zlib.crc32(f"{name} {layer}".encode())  # the same at every export
        rows, begin = found[drawn % len(found)]
        row = drawn // len(found) % (rows.stop - rows.start)
        yield replace(rows, start=rows.start + row, stop=rows.start + row + 1), begin + row
