"""Work between two steps: metrics, held-out scores, checkpoints, and stopping on request."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from nemo_adapt import ranks
from nemo_adapt.config import Config
from nemo_adapt.train.batches import BatchLayout
from nemo_adapt.train.checkpoints import Saver
from nemo_adapt.train.held_out import HeldOut
from nemo_adapt.train.loop import Stepped
from nemo_adapt.train.metrics import Metrics
from nemo_adapt.train.not_finite import explain
from nemo_adapt.train.signals import Signals
from nemo_adapt.train.together import agree

LONG_WAIT = 1.0
"""Waiting for the disk for more than this many seconds is reported."""
SAVING = "(train.save_every, train.save_minutes)"


@dataclass
class BetweenSteps:
    """Runs after each step. All methods are collectives."""

    config: Config
    steps: int
    """Number of steps of the whole training."""
    chunks: Sequence[Any]
    layout: BatchLayout
    saver: Saver
    metrics: Metrics
    held_out: Mapping[str, HeldOut]
    """Texts to score, by language."""
    signals: Signals
    _saved_at: float = field(default_factory=time.monotonic)

    def after(self, made: Stepped) -> None:
        """Record a step, then score and save where due.

        ``UserError`` if the loss or the gradient norm is not finite. ``SystemExit`` with ``ranks.MORE_TO_DO`` if a stop
        was requested before the last step, once the checkpoint is saved.
        """
        if not made.result.is_finite:
            self.saver.finish()  # the checkpoint being written is from an earlier step
            raise explain(made, self.layout)
        self._count(made)
        self.saver.look()
        stop, late = agree(self.signals.seen, self._is_late())
        best = self._score(made)
        if stop or late or best is not None or made.ends_phase or made.step % self.config.train.save_every == 0:
            self._save(made, best)
        if stop and made.step < self.steps:
            self.saver.finish()
            self.metrics.bar.say(f"asked to stop: saved after step {made.step}; run the same command to go on")
            raise SystemExit(ranks.MORE_TO_DO)

    def _count(self, made: Stepped) -> None:
        result = made.result
        self.metrics.progress["phase"] = made.phase
        self.metrics.step(result.nats, result.tokens, result.bytes, made.lr, result.grad_norm)

    def _is_late(self) -> bool:
        """Whether ``train.save_minutes`` have passed since the last checkpoint; only the first rank's clock counts."""
        minutes = self.config.train.save_minutes
        return dist.get_rank() == 0 and 0 < minutes * 60 < time.monotonic() - self._saved_at

    def _score(self, made: Stepped) -> float | None:
        """Score the texts if due; return the target's bits per byte if it is the best so far and kept."""
        train = self.config.train
        if not self.held_out or made.step % train.score_every:
            return None
        made.trainer.gather()
        scores = {language: text.bits_per_byte(self.chunks) for language, text in self.held_out.items()}
        self.metrics.held_out(scores)
        score = scores[self.config.evaluate.target] if train.keep_best else None
        return score if score is not None and self.saver.beats_all(score) else None

    def _save(self, made: Stepped, best: float | None) -> None:
        waited = self.saver.save(made.trainer, self.metrics.progress, best)
        if waited > LONG_WAIT:
            self.metrics.bar.say(f"waited {waited:.0f} s for the last checkpoint: save less often {SAVING}")
        self._saved_at = time.monotonic()
