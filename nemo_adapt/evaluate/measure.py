"""All measurements of one model: held-out text, generation, tasks, and their cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from transformers import PreTrainedModel

from nemo_adapt import devices
from nemo_adapt.config import EvaluateConfig
from nemo_adapt.evaluate import generation, models, samples
from nemo_adapt.evaluate.bits_per_byte import Score, score
from nemo_adapt.evaluate.cache import Cache
from nemo_adapt.evaluate.generation import Generation, Limits, Written
from nemo_adapt.evaluate.models import Candidate
from nemo_adapt.evaluate.tasks import harness, writing
from nemo_adapt.evaluate.tasks.load import Task
from nemo_adapt.evaluate.tasks.scores import Result

CONTINUATION_BYTES = 160
"""Bytes after which a continuation ends, unless the model ends it earlier: about a sentence in any script."""


@dataclass(frozen=True)
class Plan:
    """The texts, tasks and settings with which every model is measured."""

    texts: Mapping[str, Sequence[str]]
    """Language -> documents; the target language comes first."""
    window: int
    tasks: Sequence[Task]
    settings: EvaluateConfig
    spbleu_model: Path | None = None

    @property
    def prompts(self) -> dict[str, list[str]]:
        """Language -> beginnings of documents of medium length; the first is that of the report's first sample."""
        return {
            language: [samples.prompt(text) for text in samples.choose(texts, self.settings.generate)]
            for language, texts in self.texts.items()
        }


@dataclass(frozen=True)
class Measured:
    """The measurements of one model: scores and continuations by language, task results by task."""

    scores: dict[str, Score]
    written: dict[str, Generation]
    tasks: dict[str, Result]
    cost: dict[str, Any] = field(default_factory=dict)
    """Seconds for loading, scoring, generation and tasks; tokens scored and generated; device and dtype."""


class _LazyModel:
    """A model that is loaded on first use: not at all if every result is in the cache."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate, self.seconds = candidate, 0.0
        self._model: PreTrainedModel | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The model; the first access loads it."""
        if self._model is None:
            began = perf_counter()
            self._model = models.load(self.candidate)
            self.seconds = perf_counter() - began
        return self._model


@dataclass(frozen=True)
class _Subject:
    """The model that is measured, and with what."""

    name: str
    candidate: Candidate
    new_ids: frozenset[int]
    plan: Plan
    cache: Cache
    loaded: _LazyModel

    @property
    def machine(self) -> dict[str, Any]:
        """What generated text depends on besides model and settings."""
        device = str(devices.best_device())
        return {"device": device, "torch": torch.__version__, "batch": self.plan.settings.batch}


@devices.varying_shapes()
def measure(name: str, candidate: Candidate, new_ids: frozenset[int], plan: Plan, folder: Path | None) -> Measured:
    """Measure the model called ``name``, with the result cache in ``folder`` (``None``: no cache).

    Times from the cache are those of the machine that measured them. ``new_ids`` are the tokens that count as new
    for %Gen, the share of new tokens in generated text.
    """
    cache, loaded = Cache(folder, (candidate.folder, candidate.tokenizer_path)), _LazyModel(candidate)
    subject = _Subject(name, candidate, new_ids, plan, cache, loaded)
    scores, scoring = _scores(subject)
    written, tasks = _written(subject), _task_results(subject)
    dtype = cache.get("dtype", subject.machine["device"], lambda: str(loaded.model.dtype).removeprefix("torch."))
    seconds = {
        "load": loaded.seconds,
        "score": scoring,
        "write": sum((each.seconds for each in written.values()), 0.0),
        "tasks": sum((each.seconds for each in tasks.values()), 0.0),
    }
    cost = {
        "device": subject.machine["device"],
        "dtype": dtype,
        "seconds": seconds,
        "tokens_scored": sum(each.tokens for each in scores.values()),
        "tokens_written": sum(row.tokens for each in written.values() for row in each.written),
    }
    return Measured(scores, written, tasks, cost)


def _scores(subject: _Subject) -> tuple[dict[str, Score], float]:
    """Return the scores by language, and the seconds that they took."""
    plan, scores, seconds = subject.plan, {}, 0.0
    for language, texts in plan.texts.items():
        deciding = [subject.machine["device"], plan.window, texts]
        found = subject.cache.get("score", deciding, partial(_score, subject, language))
        seconds += found.pop("seconds")
        scores[language] = Score.from_json(found)
    return scores, seconds


def _score(subject: _Subject, language: str) -> dict[str, Any]:
    plan, tokenizer, title = subject.plan, subject.candidate.tokenizer, f"scoring {subject.name}, {language}"
    model, began = subject.loaded.model, perf_counter()
    found = score(model, tokenizer, plan.texts[language], plan.window, plan.settings.batch, title)
    return found.to_json() | {"seconds": perf_counter() - began}


def _written(subject: _Subject) -> dict[str, Generation]:
    """Return the continuations of the prompts by language."""
    written = {}
    for language, prompts in subject.plan.prompts.items():
        deciding = [subject.machine, CONTINUATION_BYTES, prompts, sorted(subject.new_ids)]
        found = subject.cache.get("writing", deciding, partial(_write, subject, prompts, language))
        rows = [Written(**each) for each in found["written"]]
        written[language] = Generation(rows, found["seconds"], found["cut"])
    return written


def _write(subject: _Subject, prompts: Sequence[str], language: str) -> dict[str, Any]:
    model, it, batch = subject.loaded.model, subject.candidate, subject.plan.settings.batch
    limits, title = Limits(CONTINUATION_BYTES, CONTINUATION_BYTES), f"writing {subject.name}, {language}"
    return asdict(generation.write(model, it.tokenizer, prompts, limits, batch, it.positions, subject.new_ids, title))


def _task_results(subject: _Subject) -> dict[str, Result]:
    """Return the results by task."""
    plan, results = subject.plan, {}
    for task in plan.tasks:
        deciding = [subject.machine, asdict(task), str(plan.spbleu_model), sorted(subject.new_ids)]
        deciding += [] if task.writes else [harness.SOFTMAX]
        results[task.name] = Result(**subject.cache.get(f"task-{task.name}", deciding, partial(_do, subject, task)))
    return results


def _do(subject: _Subject, task: Task) -> dict[str, Any]:
    model, it, batch = subject.loaded.model, subject.candidate, subject.plan.settings.batch
    if not task.writes:
        return asdict(harness.run(model, it.tokenizer, task, batch))
    spm = subject.plan.spbleu_model
    return asdict(writing.run(model, it.tokenizer, task, batch, it.positions, subject.new_ids, spm))
