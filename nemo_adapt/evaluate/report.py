"""The report as data: the measurements of each model, with intervals, and their differences to the first model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nemo_adapt import bootstrap
from nemo_adapt.evaluate.bits_per_byte import Score
from nemo_adapt.evaluate.generation import Generation
from nemo_adapt.evaluate.measure import Measured
from nemo_adapt.evaluate.samples import Piece
from nemo_adapt.evaluate.tasks import scores as task_scores
from nemo_adapt.evaluate.tasks.load import Task
from nemo_adapt.evaluate.tasks.scores import Result
from nemo_adapt.machine.facts import peak_memory_mib, versions

GATE_SHARE = 0.05
"""The gate on the reference language holds if bits per byte rise by at most this fraction."""

NEW = "new_share"
WRITTEN = {
    "examples_per_second": ("examples", "seconds"),
    "tokens_per_second": ("tokens", "seconds"),
    "bytes_per_second": ("bytes", "seconds"),
    "tokens_per_example": ("tokens", "examples"),
    "bytes_per_example": ("bytes", "examples"),
    NEW: ("new", "tokens"),
}
"""Measure of generation -> (numerator, denominator); each text is one example."""

Report = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A held-out sentence as the tokenizer of each model splits it."""

    language: str
    text: str
    pieces: dict[str, list[Piece]]


@dataclass(frozen=True)
class Continuation:
    """The beginning of a held-out sentence and each model's continuation."""

    language: str
    prompt: str
    written: dict[str, Any]


@dataclass(frozen=True)
class About:
    """What the report says about the models beyond the measurements."""

    name: str
    target: str
    reference: str
    window: int
    config: str
    """The resolved configuration, as YAML."""
    folders: Mapping[str, str]
    tokenizers: Mapping[str, str]
    """Model -> its tokenizer's name in ``fertility``."""
    fertility: Sequence[Mapping[str, Any]] = ()
    recipe: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    sweep: Sequence[Mapping[str, Any]] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Stage -> its cost (``cost.of_stages``)."""


def collect(
    about: About,
    measured: Mapping[str, Measured],
    tasks: Sequence[Task],
    samples: Sequence[Sample],
    continuations: Sequence[Continuation],
) -> Report:
    """Return the content of report.json except its headline; ``measured``: model -> measurements, baseline first."""
    first, *others = measured
    scores = {name: model.scores for name, model in measured.items()}
    results = {name: model.tasks for name, model in measured.items()}
    changes = {name: {key: change(scores[first][key], score) for key, score in scores[name].items()} for name in others}
    return {
        **asdict(about),
        "models": list(measured),
        "bits_per_byte": {name: {key: one.bits_per_byte for key, one in of.items()} for name, of in scores.items()},
        "scores": {name: {key: score_facts(one) for key, one in of.items()} for name, of in scores.items()},
        "changes": changes,
        "gate": {name: gate(of[about.reference]) for name, of in changes.items() if about.reference in of},
        "tasks": {name: {key: of_task(one) for key, one in of.items()} for name, of in results.items()},
        "task_scores": {name: {key: task_facts(one) for key, one in of.items()} for name, of in results.items()},
        "task_changes": {
            name: {key: task_change(results[first][key], one) for key, one in results[name].items()} for name in others
        },
        "task_list": {task.name: _about(task) for task in tasks},
        "generation": {
            name: {key: generation_facts(one) for key, one in model.written.items() if one.written}
            for name, model in measured.items()
        },
        "generation_changes": {
            name: {
                key: generation_change(measured[first].written[key], one)
                for key, one in measured[name].written.items()
                if one.written
            }
            for name in others
        },
        "samples": [asdict(sample) for sample in samples],
        "continuations": [asdict(prompted) for prompted in continuations],
        "cost": {name: model.cost for name, model in measured.items()},
        "peak_memory_mib": peak_memory_mib(),
        "versions": versions(),
    }


def _about(task: Task) -> dict[str, Any]:
    counts = {"shots": len(task.shots), "examples": len(task.items)}
    return {"kind": task.kind, "language": task.language, **counts}


def score_facts(score: Score) -> dict[str, Any]:
    """Return the sizes of a scored text, and the 95% interval of its bits per byte."""
    return {
        "documents": len(score.nats),
        "bytes": int(score.bytes.sum()),
        "tokens": score.tokens,
        "unknown": score.unknown,
        **_ends(bootstrap.interval(score.rows, bootstrap.bits)),
    }


def change(first: Score, other: Score) -> dict[str, Any]:
    """Return ``other`` minus ``first`` in bits per byte, with a paired interval, and as fractions of ``first``."""
    before, difference = first.bits_per_byte, other.bits_per_byte - first.bits_per_byte
    ends = bootstrap.paired(first.rows, other.rows, bootstrap.bits)
    share, *of_share = (value / before if before else 0.0 for value in (difference, *(ends or ())))
    return {"bits_per_byte": difference, **_ends(ends), "share": share, "share_ends": of_share or [None, None]}


def gate(change: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether the loss in the reference language is at most ``GATE_SHARE``, with its interval."""
    low, high = change["share_ends"]
    return {"share": change["share"], "low": low, "high": high, "holds": change["share"] <= GATE_SHARE}


def of_task(result: Result) -> float:
    """Return a task's main metric: the fraction of right answers, or the score of the generated text."""
    return bootstrap.value(result.rows[result.metric], task_scores.combine(result.metric))


def task_facts(result: Result) -> dict[str, Any]:
    """Return all metrics of a task with their intervals, and the facts of its result."""
    values = {}
    for metric, rows in result.rows.items():
        combine = task_scores.combine(metric)
        values[metric] = {"value": bootstrap.value(rows, combine), **_ends(bootstrap.interval(rows, combine))}
    return {"metric": result.metric, "values": values, "seconds": result.seconds, **result.facts}


def task_change(first: Result, other: Result) -> dict[str, Any]:
    """Return ``other`` minus ``first`` in a task's main metric, with a paired interval over the examples."""
    rows, combine = (first.rows[first.metric], other.rows[other.metric]), task_scores.combine(first.metric)
    ends = _ends(bootstrap.paired(*rows, combine))
    return {"metric": first.metric, "difference": of_task(other) - of_task(first), **ends}


def generation_facts(generation: Generation) -> dict[str, Any]:
    """Return the speed of generation and the share of new tokens (%Gen), with intervals over the texts."""
    rows = {name: _written(generation, name) for name in WRITTEN}
    ends = {name: bootstrap.interval(each) for name, each in rows.items()}
    return {
        "examples": len(generation.written),
        "tokens": sum(written.tokens for written in generation.written),
        "bytes": sum(written.bytes for written in generation.written),
        "seconds": generation.seconds,
        "cut": generation.cut,
        **{name: bootstrap.value(each) for name, each in rows.items()},
        "intervals": ends,
    }


def generation_change(first: Generation, other: Generation) -> dict[str, Any]:
    """Return the ratios ``other / first`` of speeds and lengths, with paired intervals over the texts."""
    found = {}
    for name in [name for name in WRITTEN if name != NEW]:
        rows = _written(first, name), _written(other, name)
        before, now = map(bootstrap.value, rows)
        ends = _ends(bootstrap.paired(*rows, between=bootstrap.quotient))
        found[name] = {"times": bootstrap.quotient(now, before), **ends}
    return found


def _ends(found: bootstrap.Ends) -> dict[str, float | None]:
    """Return the ends of an interval by name; ``None`` where there is none, of too few documents or examples."""
    low, high = found or (None, None)
    return {"low": low, "high": high}


def _written(generation: Generation, name: str) -> list[list[float]]:
    """Return numerator and denominator of ``WRITTEN[name]`` for each text."""
    above, below = WRITTEN[name]
    return [[getattr(one, above, 1.0), getattr(one, below, 1.0)] for one in generation.written]
