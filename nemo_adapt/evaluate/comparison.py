"""Measure any number of models on the same texts and tasks, one after the other, and write one report."""

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_adapt.config import EvaluateConfig, PhaseConfig
from nemo_adapt.corpora.mixture import check_target
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import bits_per_byte, samples
from nemo_adapt.evaluate.headline import headline
from nemo_adapt.evaluate.measure import Plan, measure
from nemo_adapt.evaluate.models import Candidate
from nemo_adapt.evaluate.render import render
from nemo_adapt.evaluate.report import About, Continuation, Report, Sample, collect
from nemo_adapt.evaluate.tasks import harness, load, scores
from nemo_adapt.files import write_json
from nemo_adapt.tokens import documents

TASKS = "tasks"
"""Folder of lm-evaluation-harness task files, beside the report."""
TARGET_SAMPLES, OTHER_SAMPLES = 3, 1


def plan(
    settings: EvaluateConfig, reference: str, texts: Mapping[str, Path], tasks: Mapping[str, Path], field: str
) -> Plan:
    """Read and check everything that the models are measured on; the caller sets ``window`` (0 here).

    ``texts``: language -> file; ``tasks``: ``KIND.LANGUAGE`` -> file or folder; ``field``: text field of the records.
    """
    order = languages_in_order(settings, reference, texts)
    read = {language: bits_per_byte.read_text(texts[language], settings.max_bytes, field) for language in order}
    return Plan(read, 0, load.load(settings, tasks), settings, scores.spbleu_model(settings.spbleu_model))


def compare(
    candidates: Mapping[str, Candidate],
    plan: Plan,
    about: Callable[[str], About],
    out: Path,
    metrics: Sequence[Mapping[str, Any]] = (),
    held_out: Sequence[Mapping[str, Any]] = (),
) -> Report:
    """Measure the models and write report.json, report.md, report.html, plots/ and tasks/; return the report.

    The others are compared with the first. ``about`` is called with the target language. ``metrics`` and ``held_out``
    are the records of a training, for its curve.
    """
    for task in plan.tasks:
        if not task.writes:
            harness.write(task, out / TASKS)
    named = list(candidates.items())
    first = named[0][1]
    new = {name: new_ids(candidate, first) for name, candidate in named}
    folder = Path(plan.settings.cache) if plan.settings.cache else None
    measured = {}
    for name, one in named:
        measured[name] = measure(name, one, new[name] or frozenset(), plan, folder)
        gc.collect()  # frees a model that is spread over GPUs, whose layers refer to themselves
    known = about(next(iter(plan.texts)))
    counts = {key: TARGET_SAMPLES if key == known.target else OTHER_SAMPLES for key in plan.texts}
    chosen = {key: samples.choose(texts, counts[key]) for key, texts in plan.texts.items()}
    cut = [
        Sample(key, text, {name: samples.pieces(one.tokenizer, text, new[name] or ()) for name, one in named})
        for key, texts in chosen.items()
        for text in texts
    ]
    continued = [
        Continuation(key, prompts[0], {name: one.written[key].written[0] for name, one in measured.items()})
        for key, prompts in plan.prompts.items()
        if prompts
    ]
    report = collect(known, measured, plan.tasks, cut, continued)
    report["headline"] = headline(report)
    write_json(out / "report.json", report)
    phases = [PhaseConfig(**phase) for phase in report["training"].get("phases", [])]
    render(report, metrics, held_out, phases, out)
    return report


def new_ids(candidate: Candidate, first: Candidate) -> frozenset[int] | None:
    """Return the ids that ``candidate`` adds to the first model's tokenizer; ``None`` if it does not extend it."""
    before, now = first.tokenizer, candidate.tokenizer
    kept = documents.vocabulary_size(before)
    known = now.get_vocab()
    if any(known.get(token) != number for token, number in before.get_vocab().items()):
        return None
    return frozenset(number for number in known.values() if number >= kept)


def languages_in_order(settings: EvaluateConfig, reference: str, files: Mapping[str, Path]) -> list[str]:
    """Return the languages in the order of the report: target, reference, the others."""
    if not files:
        raise UserError("evaluate.texts is empty: give a held-out text, evaluate.texts.LANG=FILE")
    others = [language for language in files if language != reference]
    target = settings.target or (others or [reference])[0]
    check_target(target, files)
    return sorted(files, key=lambda language: (language != target, language != reference))
