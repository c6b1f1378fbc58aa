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
    """Seconds for loading, scoring, generation and tasks; tokens scored and generated; the device."""


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


@devices.varying_shapes()
def measure(name: str, candidate: Candidate, new_ids: frozenset[int], plan: Plan, folder: Path | None) -> Measured:
    """Measure the model called ``name``, with the result cache in ``folder`` (``None``: no cache).

    Times from the cache are those of the machine that measured them. ``new_ids`` are the tokens that count as new
    for %Gen, the share of new tokens in generated text.
    """
    cache = Cache(folder, (candidate.folder, candidate.tokenizer_path))
    loaded, tokenizer, settings = _LazyModel(candidate), candidate.tokenizer, plan.settings
    machine = {"device": str(devices.best_device()), "torch": torch.__version__, "batch": settings.batch}

    def scored(language: str) -> dict[str, Any]:
        model, began, title = loaded.model, perf_counter(), f"scoring {name}, {language}"
        found = score(model, tokenizer, plan.texts[language], plan.window, settings.batch, title)
        return found.to_json() | {"seconds": perf_counter() - began}

    def wrote(prompts: Sequence[str], language: str) -> dict[str, Any]:
        limits, title = Limits(CONTINUATION_BYTES, CONTINUATION_BYTES), f"writing {name}, {language}"
        return asdict(
            generation.write(
                loaded.model, tokenizer, prompts, limits, settings.batch, candidate.positions, new_ids, title
            )
        )

    def did(task: Task) -> dict[str, Any]:
        if task.writes:
            spm = plan.spbleu_model
            return asdict(writing.run(loaded.model, tokenizer, task, settings.batch, candidate.positions, new_ids, spm))
        return asdict(harness.run(loaded.model, tokenizer, task, settings.batch))

    scores, written, results = {}, {}, {}
    seconds = {"score": 0.0, "write": 0.0, "tasks": 0.0}
    for language, texts in plan.texts.items():
        found = cache.get("score", [machine["device"], plan.window, texts], partial(scored, language))
        seconds["score"] += found.pop("seconds")
        scores[language] = Score.from_json(found)
    for language, prompts in plan.prompts.items():
        deciding = [machine, CONTINUATION_BYTES, prompts, sorted(new_ids)]
        found = cache.get("writing", deciding, partial(wrote, prompts, language))
        rows = [Written(**each) for each in found["written"]]
        written[language] = Generation(rows, found["seconds"], found["cut"])
        seconds["write"] += found["seconds"]
    for task in plan.tasks:
        deciding = [machine, asdict(task), str(plan.spbleu_model), sorted(new_ids)]
        found = cache.get(f"task-{task.name}", deciding, partial(did, task))
        results[task.name] = Result(**found)
        seconds["tasks"] += found["seconds"]
    cost = {
        "device": machine["device"],
        "seconds": {"load": loaded.seconds, **seconds},
        "tokens_scored": sum(each.tokens for each in scores.values()),
        "tokens_written": sum(row.tokens for each in written.values() for row in each.written),
    }
    return Measured(scores, written, results, cost)
