"""Metrics of a training: metrics.jsonl, held_out.jsonl, TensorBoard, Weights & Biases, and a progress bar."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from nemo_adapt import devices
from nemo_adapt.collectives import first_rank_does
from nemo_adapt.console.progress import Bar
from nemo_adapt.files import write_text
from nemo_adapt.machine import ranks
from nemo_adapt.machine.facts import peak_memory_mib
from nemo_adapt.train.weights_and_biases import SCORES, WandbRun
from nemo_adapt.training_files import HELD_OUT, METRICS, records

BOARD = ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second", "bytes_per_second", "mfu")


@dataclass(frozen=True)
class MetricsSettings:
    """What metrics need to know about the training."""

    steps: int
    every: int
    """Steps between records."""
    tokens: int
    """Tokens of a step."""
    flops: Sequence[float]
    """Floating-point operations of a step in each phase, over all ranks."""
    ranks: int
    """Number of ranks: the MFU is that of one device."""
    matmul_rate: float = 0.0
    """Measured floating-point operations per second of one device in matrix products; 0: unknown, no MFU."""
    check: Callable[[], None] = lambda: None
    """Called before each write; raises if another start has claimed the folder."""
    wandb: str = ""
    """Project of Weights & Biases; empty: not used."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The run's configuration, for Weights & Biases."""


UNRECORDED = "unrecorded"
"""Key in a training's progress: sums over the steps since the last record, which a checkpoint keeps."""
UNSCORED = "unscored"
"""Key there: the step was due to be scored, but a stop was requested; the next start scores it."""
NOTHING = {"steps": 0.0, "nats": 0.0, "labels": 0.0, "bytes": 0.0, "seconds": 0.0, "flops": 0.0}


class Metrics:
    """Sums over steps, with a record every ``settings.every`` steps and after the last one.

    Only the first rank writes (on others ``quiet`` is true); an error of it there is raised on all ranks, so all must
    call the same methods. The sums since the last record are in ``progress``, which a checkpoint keeps.

    Record: ``step``, ``phase`` (its number, from 1), ``tokens, bytes`` (consumed so far), ``loss`` (nats per label),
    ``bits_per_byte``, ``lr``, ``grad_norm``, ``tokens_per_second``, ``bytes_per_second``, ``seconds`` (of training so
    far), ``memory_mib`` (peak of this process, or of its GPU), on a GPU ``mfu`` (share of the device's measured rate in
    matrix products, of the operations that the phase needs). ``loss`` and ``bits_per_byte`` are ``None`` where
    ``per_unit`` is. One of held-out scores: ``step``, ``bytes``, ``bits_per_byte`` by language, ``seconds`` that it
    took.
    """

    def __init__(self, folder: Path, progress: dict[str, Any], settings: MetricsSettings, quiet: bool) -> None:
        self.folder, self.progress, self.settings, self.quiet = folder, progress, settings, quiet
        self.bar = Bar("training", settings.steps, "steps", quiet, progress["step"])
        self._sums: dict[str, float] = {**NOTHING, **progress.get(UNRECORDED, {})}
        progress[UNRECORDED] = self._sums
        self._clock = time.monotonic()

    def __enter__(self) -> "Metrics":
        first_rank_does(self._open)
        self.bar.__enter__()
        self._clock = time.monotonic()
        return self

    def add_step(self, nats: float, labels: float, size: float, lr: float, grad_norm: float) -> None:
        """Add one optimizer step: its summed loss in nats, the number of labels that it is of (not all tokens with
        ``train.mask_document_ends``), and their bytes of text."""
        now = time.monotonic()
        progress, seconds = self.progress, now - self._clock
        flops = self.settings.flops[progress["phase"] - 1]
        of_step = {"steps": 1, "nats": nats, "labels": labels, "bytes": size, "seconds": seconds, "flops": flops}
        for name, value in of_step.items():
            self._sums[name] += value
        progress["step"] += 1
        progress["tokens"] += self.settings.tokens
        progress["bytes"] += int(size)
        progress["seconds"] += seconds
        self._clock = now
        if progress["step"] % self.settings.every == 0 or progress["step"] == self.settings.steps:
            self._record(lr, grad_norm)
        else:
            self.bar.advance(1)

    def record_scores(self, bits_per_byte: Mapping[str, float | None]) -> None:
        """Record held-out scores after the last step, and the seconds since it; they do not count as training time."""
        now = time.monotonic()
        seconds, self._clock = now - self._clock, now
        first_rank_does(self._write_scores, bits_per_byte, seconds)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.bar.__exit__(kind, error, tb)
        if kind is None:
            first_rank_does(self._close, 0)
        elif not self.quiet:
            is_asked = isinstance(error, SystemExit) and error.code == ranks.MORE_TO_DO
            with contextlib.suppress(OSError):  # it would hide the error that ends the training
                self._close(ranks.MORE_TO_DO if is_asked else 1)

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        step = self.progress["step"]
        _drop_records_after(self.folder / METRICS, step)
        _drop_records_after(self.folder / HELD_OUT, step - (UNSCORED in self.progress or step == 0))
        self._log = (self.folder / METRICS).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + (step > 0))
        self._wandb = WandbRun(self.settings.wandb, self.settings.config, self.folder, self.bar.say)

    def _close(self, code: int) -> None:
        self._log.close()
        self._board.close()
        self._wandb.finish(code)

    def _write_scores(self, bits_per_byte: Mapping[str, float | None], seconds: float) -> None:
        self.settings.check()
        step, seen = self.progress["step"], self.progress["bytes"]
        record = {"step": step, "bytes": seen, "bits_per_byte": dict(bits_per_byte), "seconds": seconds}
        with (self.folder / HELD_OUT).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        shown = {f"{SCORES}{name}": value for name, value in bits_per_byte.items() if value is not None}
        for name, value in shown.items():
            self._board.add_scalar(name, value, step)
        self._wandb.log_scores(shown, step)
        scores = ", ".join(f"{name} {value:.4f}" for name, value in bits_per_byte.items() if value is not None)
        self.bar.say(f"step {step}: held-out bits/byte {scores}")

    def _record(self, lr: float, grad_norm: float) -> None:
        record = _record_of(self.progress, self._sums, self.settings, lr, grad_norm, memory_mib())
        self._sums.update(NOTHING)
        self.bar.advance(1, _bar_text(record))
        first_rank_does(self._write, record)

    def _write(self, record: Mapping[str, Any]) -> None:
        self.settings.check()
        self._log.write(json.dumps(record) + "\n")
        self._log.flush()
        shown, step = {name: record[name] for name in BOARD if record.get(name) is not None}, record["step"]
        for name, value in shown.items():
            self._board.add_scalar(name, value, step)
        self._wandb.log(shown, step)


def _record_of(
    progress: Mapping[str, Any],
    sums: Mapping[str, float],
    settings: MetricsSettings,
    lr: float,
    grad_norm: float,
    memory: int,
) -> dict[str, Any]:
    """Return the record of the last steps, with their ``sums``, and the last one's ``lr`` and ``grad_norm``."""
    record = {
        "step": progress["step"],
        "phase": progress["phase"],
        "tokens": progress["tokens"],
        "bytes": progress["bytes"],
        "loss": per_unit(sums["nats"], sums["labels"]),
        "bits_per_byte": per_unit(sums["nats"] / math.log(2), sums["bytes"]),
        "lr": lr,
        "grad_norm": grad_norm,
        "tokens_per_second": sums["steps"] * settings.tokens / sums["seconds"],
        "bytes_per_second": sums["bytes"] / sums["seconds"],
        "seconds": progress["seconds"],
        "memory_mib": memory,
    }
    if settings.matmul_rate:
        record["mfu"] = sums["flops"] / sums["seconds"] / settings.ranks / settings.matmul_rate
    return record


def _bar_text(record: Mapping[str, Any]) -> str:
    """Return what is shown of a record beside the progress bar."""
    losses = {"loss {:.3f}": record["loss"], "{:.3f} bits/byte": record["bits_per_byte"]}
    parts = [shown.format(value) for shown, value in losses.items() if value is not None]
    parts += [f"{record['tokens_per_second']:,.0f} tokens/s", f"{record['bytes_per_second'] / 1000:,.1f} kB/s"]
    parts += [f"MFU {record['mfu']:.1%}"] if "mfu" in record else []
    return ", ".join([*parts, f"{record['memory_mib'] / 1024:.1f} GiB"])


def per_unit(loss: float, number: float) -> float | None:
    """Return a summed ``loss`` per label or byte; ``None`` without any.

    The few labels of a small step may all be masked, or BOS, which has no bytes, or EOS, which takes back the space
    that SentencePiece adds before a document (``tokens.documents.training_bytes``).
    """
    return loss / number if number > 0 else None


def _drop_records_after(path: Path, step: int) -> None:
    """Delete the records after ``step``, that of the checkpoint to resume from, as those steps are repeated, and
    incomplete lines."""
    if path.is_file():
        kept = [record for record in records(path, whole=True) if record["step"] <= step]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def memory_mib() -> int:
    """Return the peak memory of this rank's GPU, or without one of its process, in MiB."""
    return devices.peak_memory_mib() or peak_memory_mib()
