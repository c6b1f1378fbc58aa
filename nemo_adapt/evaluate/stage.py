"""The stage: score both models, cut and continue sample sentences, write the report."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.artifact import Inputs, write_json
from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import models, samples
from nemo_adapt.evaluate.bits_per_byte import Score, read_text, score
from nemo_adapt.evaluate.models import Candidate
from nemo_adapt.evaluate.render import render
from nemo_adapt.evaluate.report import Prompted, Sample, collect
from nemo_adapt.token_map import FILE_NAME as TOKEN_MAP
from nemo_adapt.token_map import TokenMap

TEXT_KEY = "texts."
TARGET_SAMPLES, REFERENCE_SAMPLES = 3, 1


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Compare ``base`` and ``adapted`` and write report.json, report.md, report.html and plots/*.png into ``out``.

    ``inputs``: ``base`` and ``adapted`` (Hugging Face folders), ``base_tokenizer``, ``texts.LANG`` (a held-out text per
    language); where there: ``tokenizer`` (that stage's folder) and ``train`` (the training folder). ``UserError`` for
    empty or missing texts, and for a model that cannot be loaded or does not fit its tokenizer.
    """
    files = {key.removeprefix(TEXT_KEY): paths[0] for key, paths in inputs.items() if key.startswith(TEXT_KEY)}
    order = _languages(config, files)
    settings, field = config.evaluate, config.data.text_field
    texts = {language: read_text(files[language], settings.max_bytes, field) for language in order}
    counts = {config.tokenizer.reference: REFERENCE_SAMPLES, order[0]: TARGET_SAMPLES}
    chosen = {key: samples.choose(texts[key], counts[key]) for key in order if key in counts}
    prompts = {language: samples.prompt(sentences[0]) for language, sentences in chosen.items()}

    (adapted,) = inputs["adapted"]
    candidates = {
        "base": models.inspect(inputs["base"][0], inputs["base_tokenizer"][0]),
        "adapted": models.inspect(adapted, adapted),
    }
    window = models.context_window(config, candidates.values())
    scores: dict[str, dict[str, Score]] = {}
    written: dict[str, dict[str, samples.Continuation]] = {}
    for name, candidate in candidates.items():
        model, tokenizer = models.load(candidate), candidate.tokenizer
        scores[name] = {
            language: score(model, tokenizer, documents, window, config.evaluate.batch, f"scoring {name}, {language}")
            for language, documents in texts.items()
        }
        room = candidate.positions or window
        written[name] = {key: samples.continuation(model, tokenizer, text, room) for key, text in prompts.items()}
        del model  # before the next one is loaded

    tokenizer_folder, train_folder = (next(iter(inputs.get(key, [])), None) for key in ("tokenizer", "train"))
    new_ids = _new_ids(tokenizer_folder)
    report = collect(
        config,
        target=order[0],
        window=window,
        scores=scores,
        samples=[_sample(language, text, candidates, new_ids) for language, found in chosen.items() for text in found],
        continuations=[
            Prompted(language, text, written["base"][language], written["adapted"][language])
            for language, text in prompts.items()
        ],
        fertility=_read_json(tokenizer_folder, "fertility.json", []),
        training=_read_json(train_folder, "summary.json", {}),
        tokenizer=_read_json(tokenizer_folder, "learn.json", {}),
    )
    write_json(out / "report.json", report)
    phases = [PhaseConfig(**phase) for phase in report["training"].get("phases", [])]
    render(report, _read_metrics(train_folder), phases, out)


def _languages(config: Config, files: Mapping[str, Path]) -> list[str]:
    """The languages in the order of the report: target, reference, the others."""
    if not files:
        raise UserError("evaluate.texts is empty: give a held-out text, evaluate.texts.LANG=FILE")
    reference = config.tokenizer.reference
    others = [language for language in files if language != reference]
    target = config.evaluate.target or (others or [reference])[0]
    if target not in files:
        raise UserError(f"evaluate.target={target!r} is not a language of evaluate.texts ({', '.join(files)})")
    return sorted(files, key=lambda language: (language != target, language != reference))


def _sample(language: str, text: str, candidates: Mapping[str, Candidate], new_ids: Collection[int]) -> Sample:
    base = samples.pieces(candidates["base"].tokenizer, text, ())
    return Sample(language, text, base, samples.pieces(candidates["adapted"].tokenizer, text, new_ids))


def _new_ids(folder: Path | None) -> frozenset[int]:
    if folder is None or not (folder / TOKEN_MAP).is_file():
        return frozenset()
    return frozenset(token.id for token in TokenMap.load(folder).tokens)


def _read_json(folder: Path | None, name: str, default: Any) -> Any:
    """The content of a file that another stage may not have written."""
    if folder is None or not (folder / name).is_file():
        return default
    return _parse((folder / name).read_text(encoding="utf-8"), folder / name)


def _read_metrics(folder: Path | None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl by step; of a step that was trained again after a resume, the last."""
    if folder is None or not (folder / "metrics.jsonl").is_file():
        return []
    path = folder / "metrics.jsonl"
    rows = [_parse(line, path) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    by_step = {row["step"]: row for row in rows}
    return [by_step[step] for step in sorted(by_step)]


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run its stage again") from None
