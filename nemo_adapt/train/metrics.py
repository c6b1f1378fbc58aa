"""What a training says of itself: metrics.jsonl, TensorBoard, and a progress bar."""

import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from nemo_adapt.progress import Bar


class Metrics:
    """Collects sums over steps and writes one record every ``every`` steps. Only the first rank's writes anything.

    Record: ``step``, ``phase`` (its number, from 1), ``tokens, bytes`` (consumed so far), ``loss`` (nats per token),
    ``bits_per_byte``, ``lr``, ``grad_norm``, ``tokens_per_second``, ``seconds`` (of training so far).
    """

    def __init__(self, folder: Path, progress: dict[str, Any], steps: int, every: int, quiet: bool) -> None:
        self.folder, self.every, self.quiet = folder, every, quiet
        self.progress = progress
        self.bar = Bar("training", steps, "steps", quiet)
        self._nats = self._tokens = self._bytes = 0.0
        self._seconds_at_record = progress["seconds"]
        self._clock = time.monotonic()

    def __enter__(self) -> "Metrics":
        if not self.quiet:
            from torch.utils.tensorboard import SummaryWriter

            self._drop_records_after(self.progress["step"])
            self._log = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.progress["step"])
        self.bar.__enter__()
        self.bar.advance(self.progress["step"])
        self._clock = time.monotonic()
        return self

    def step(self, nats: float, tokens: float, size: float, lr: float, grad_norm: float) -> None:
        """Count one optimizer step: its summed loss in nats, its tokens and its bytes of text."""
        self._nats, self._tokens, self._bytes = self._nats + nats, self._tokens + tokens, self._bytes + size
        now = time.monotonic()
        progress = self.progress
        progress["step"] += 1
        progress["tokens"] += int(tokens)
        progress["bytes"] += int(size)
        progress["seconds"] += now - self._clock
        self._clock = now
        if progress["step"] % self.every == 0:
            self._record(lr, grad_norm)
        else:
            self.bar.advance(1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.bar.__exit__(kind, error, tb)
        if not self.quiet:
            self._log.close()
            self._board.close()

    def _record(self, lr: float, grad_norm: float) -> None:
        progress = self.progress
        seconds = progress["seconds"] - self._seconds_at_record
        record = {
            "step": progress["step"],
            "phase": progress["phase"],
            "tokens": progress["tokens"],
            "bytes": progress["bytes"],
            "loss": self._nats / self._tokens,
            "bits_per_byte": self._nats / math.log(2) / self._bytes,
            "lr": lr,
            "grad_norm": grad_norm,
            "tokens_per_second": self._tokens / seconds,
            "seconds": progress["seconds"],
        }
        speed = f"{record['tokens_per_second']:,.0f} tokens/s, {self._bytes / seconds / 1000:,.1f} kB/s"
        self.bar.advance(1, f"loss {record['loss']:.3f}, {record['bits_per_byte']:.3f} bits/byte, {speed}")
        self._nats = self._tokens = self._bytes = 0.0
        self._seconds_at_record = progress["seconds"]
        if not self.quiet:
            self._log.write(json.dumps(record) + "\n")
            self._log.flush()
            for name in ("loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second"):
                self._board.add_scalar(name, record[name], record["step"])

    def _drop_records_after(self, step: int) -> None:
        """Forget what an interrupted run had written after the checkpoint that we go on from."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
