"""Work between two steps: metrics, held-out scores, checkpoints, and stopping on request."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch.distributed as dist

from nemo_adapt.collectives import any_rank
from nemo_adapt.config import Config
from nemo_adapt.machine import ranks
from nemo_adapt.train.batches import BatchLayout
from nemo_adapt.train.checkpoints import Saver
from nemo_adapt.train.held_out import HeldOut
from nemo_adapt.train.loop import CompletedStep
from nemo_adapt.train.loss_rise import LEVEL, NO_LEVEL, has_risen, updated
from nemo_adapt.train.loss_rise import explain as explain_rise
from nemo_adapt.train.metrics import UNSCORED, Metrics, per_unit
from nemo_adapt.train.not_finite import explain
from nemo_adapt.train.signals import Signals

LONG_WAIT = 1.0
"""Waiting for the disk for more than this many seconds is reported."""
SAVING = "(train.save_every, train.save_minutes)"


class _Stopped(Exception):
    """A stop was requested while held-out text is scored."""


@dataclass(kw_only=True)
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
    write_suspects: Callable[[Sequence[int]], str]
    """Writes the text of samples, given by number, and returns where it is, for errors."""
    _saved_at: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Before the first step: score the model that training starts from, or the checkpoint that it resumes from if
        an earlier start had no time left to.

        ``SystemExit`` as in ``after``; the checkpoint is then still unscored. A training that starts makes its first
        step even so, because a start that saves nothing counts as one without progress.
        """
        progress = self.metrics.progress
        unscored, starts = progress.pop(UNSCORED, False), progress["step"] == 0
        if not self.held_out or not (unscored or starts):
            return
        try:
            best = self._score()
        except _Stopped:
            if starts:
                return
            self._stop(f"held-out text is to be scored at step {progress['step']}")
        if best is not None and not starts:
            self.saver.record_best(progress, best)

    def after(self, done: CompletedStep) -> None:
        """Record a step, then score and save where due. On a requested stop it is only saved: the time left is unknown.

        ``UserError`` if the loss or the gradient norm is not finite, or the loss has risen by more than
        ``train.max_loss_rise``. ``SystemExit`` with ``ranks.MORE_TO_DO`` if a stop was requested before the last step,
        once the checkpoint is saved.
        """
        if not done.result.is_finite:
            self.saver.finish()  # the checkpoint being written is from an earlier step
            raise explain(done, self.layout, self.saver.folder, self.write_suspects)
        self._count(done)
        self._check_level(done)
        self.saver.poll()
        stop, late = any_rank(self.signals.seen, self._is_late())
        best = None
        if self._is_scored(done.step):
            done.trainer.gather()
            try:
                best = self._score()
            except _Stopped:
                stop = self.metrics.progress[UNSCORED] = True
        if stop or late or best is not None or done.ends_phase or self._is_due(done.step):
            self._save(done, best)
        if stop and done.step < self.steps:
            self.saver.finish()
            self._stop(f"saved after step {done.step}")

    def finish(self) -> None:
        """Wait for the last checkpoint. ``SystemExit`` with ``ranks.MORE_TO_DO`` if a stop was requested meanwhile: the
        next stage must not start."""
        self.saver.finish()
        if any_rank(self.signals.seen)[0]:
            self._stop("all steps are saved")

    def _stop(self, state: str) -> NoReturn:
        self.metrics.bar.say(f"asked to stop: {state}; run the same command to go on")
        raise SystemExit(ranks.MORE_TO_DO)

    def _count(self, done: CompletedStep) -> None:
        result = done.result
        self.metrics.progress["phase"] = done.phase
        self.metrics.add_step(result.nats, result.labels, result.bytes, done.lr, result.grad_norm)

    def _check_level(self, done: CompletedStep) -> None:
        progress, result = self.metrics.progress, done.result
        loss = per_unit(result.nats, result.labels)
        level = updated(progress.get(LEVEL, NO_LEVEL), done.step, done.phase, loss)
        progress[LEVEL] = level
        if has_risen(level, self.config.train.max_loss_rise):
            self.saver.finish()
            batch, folder = self.layout.global_batch, self.saver.folder
            raise explain_rise(level, done.step, batch, done.lr, folder, self.write_suspects)

    def _is_due(self, step: int) -> bool:
        """Whether ``step`` is saved because of its number."""
        train = self.config.train
        return step % train.save_every == 0 or (train.keep_every > 0 and step % train.keep_every == 0)

    def _is_late(self) -> bool:
        """Whether ``train.save_minutes`` have passed since the last checkpoint; only the first rank's clock counts."""
        minutes = self.config.train.save_minutes
        return dist.get_rank() == 0 and 0 < minutes * 60 < time.monotonic() - self._saved_at

    def _is_scored(self, step: int) -> bool:
        """Whether the texts are scored after ``step``; they are after the last one."""
        return bool(self.held_out) and (step % self.config.train.score_every == 0 or step == self.steps)

    def _score(self) -> float | None:
        """Score the texts. ``_Stopped`` if a stop is requested before or meanwhile.

        Returns the target's bits per byte if it is the best so far and its checkpoint is to be kept.
        """

        def check() -> None:
            if any_rank(self.signals.seen)[0]:
                raise _Stopped

        scores = {language: text.bits_per_byte(self.chunks, check) for language, text in self.held_out.items()}
        self.metrics.record_scores(scores)
        score = scores[self.config.evaluate.target] if self.config.train.keep_best else None
        return score if score is not None and self.saver.beats_all(score) else None

    def _save(self, done: CompletedStep, best: float | None) -> None:
        waited = self.saver.save(done.trainer, self.metrics.progress, best)
        if waited > LONG_WAIT:
            self.metrics.bar.say(f"waited {waited:.0f} s for the last checkpoint: save less often {SAVING}")
        self._saved_at = time.monotonic()
