"""The report as data: what was measured, ready for JSON, and its three headline results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from nemo_adapt.artifact import versions
from nemo_adapt.config import Config
from nemo_adapt.evaluate import languages
from nemo_adapt.evaluate.bits_per_byte import Score, interval
from nemo_adapt.evaluate.samples import Continuation, Piece

GATE_SHARE = 0.05
"""The gate on the reference language holds while bits per byte rise by no more than this share."""

Report = dict[str, Any]
FertilityPair = tuple[Mapping[str, Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Headline:
    """One result: ``before`` and ``after`` are formatted; ``before`` is empty where only one value exists."""

    label: str
    language: str
    before: str
    after: str
    note: str


@dataclass(frozen=True)
class Sample:
    """A held-out sentence as both tokenizers cut it."""

    language: str
    text: str
    base: list[Piece]
    adapted: list[Piece]


@dataclass(frozen=True)
class Prompted:
    """The beginning of a held-out sentence and how both models went on."""

    language: str
    prompt: str
    base: Continuation
    adapted: Continuation


def collect(
    config: Config,
    target: str,
    window: int,
    scores: Mapping[str, Mapping[str, Score]],
    samples: Sequence[Sample],
    continuations: Sequence[Prompted],
    fertility: Sequence[Mapping[str, Any]],
    training: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
) -> Report:
    """The content of report.json. ``scores``: ``base`` and ``adapted`` -> language -> score, the target first."""
    report: Report = {
        "name": config.run.name,
        "recipe": config.recipe,
        "target": target,
        "reference": config.tokenizer.reference,
        "window": window,
        "bits_per_byte": {name: {key: one.bits_per_byte for key, one in of.items()} for name, of in scores.items()},
        "scores": {name: {key: _score_facts(one) for key, one in of.items()} for name, of in scores.items()},
        "change": {key: _change(scores["base"][key], scores["adapted"][key]) for key in scores["base"]},
        "fertility": list(fertility),
        "training": dict(training),
        "tokenizer": dict(tokenizer),
        "samples": [asdict(sample) for sample in samples],
        "continuations": [asdict(prompted) for prompted in continuations],
        "versions": versions(),
        "config": OmegaConf.to_yaml(OmegaConf.structured(config)),
    }
    return report | {"headline": headline(report)}


def headline(report: Report) -> list[str]:
    """The three results as plain lines: tokens, bits per byte of the target, bits per byte of the reference language.

    Without a text in the reference language the third line tells the size of the training.
    """
    return [_line(result) for result in headlines(report)]


def headlines(report: Report) -> list[Headline]:
    """The three results that ``headline`` words."""
    target, reference = report["target"], report["reference"]
    results = [_tokens_headline(report, target), _bits_headline(report, target)]
    if reference != target and reference in report["change"]:
        return [*results, _bits_headline(report, reference, gate=True)]
    return [*results, _size_headline(report)]


def fertility_pairs(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], FertilityPair]:
    """(language, text) -> the rows of the base and of the extended tokenizer, where both were measured."""
    found = {(row["language"], row["text"], row["tokenizer"]): row for row in rows}
    return {
        (language, text): (row, found[language, text, "extended"])
        for (language, text, kind), row in found.items()
        if kind == "base" and (language, text, "extended") in found
    }


def tokens_per_sentence(row: Mapping[str, Any]) -> float:
    """Tokens per sentence of a fertility row."""
    return float(row["tokens"]) / max(1, row["sentences"])


def _tokens_headline(report: Report, language: str) -> Headline:
    pairs = fertility_pairs(report["fertility"])
    measured = [pair for (of, _), pair in pairs.items() if of == language]
    if measured:
        label, (before, after) = "tokens per sentence in", [tokens_per_sentence(row) for row in measured[0]]
    else:
        facts = [report["scores"][name][language] for name in ("base", "adapted")]
        label, (before, after) = "tokens per document in", [fact["tokens"] / fact["documents"] for fact in facts]
    note = f"{before / after:.1f} times fewer" if after and before > after else ""
    return Headline(label, language, f"{before:.1f}", f"{after:.1f}", note)


def _bits_headline(report: Report, language: str, gate: bool = False) -> Headline:
    before, after = (report["bits_per_byte"][name][language] for name in ("base", "adapted"))
    share = report["change"][language]["share"]
    held = "holds" if share <= GATE_SHARE else f"fails, limit {GATE_SHARE:+.0%}"
    note = f"{share:+.1%}" + (f", {languages.name(language)} gate {held}" if gate else "")
    return Headline("bits per byte", language, f"{before:.2f}", f"{after:.2f}", note)


def _size_headline(report: Report) -> Headline:
    training = report["training"]
    if "tokens" in training and "bytes" in training:
        return Headline("trained on", "", "", f"{training['tokens']:,} tokens", f"{training['bytes'] / 1e6:,.1f} MB")
    facts = report["scores"]["adapted"].values()
    scored = sum(fact["bytes"] for fact in facts) / 1e6
    return Headline("scored on", "", "", f"{sum(fact['documents'] for fact in facts):,} documents", f"{scored:,.2f} MB")


def _line(result: Headline) -> str:
    values = f"{result.before} -> {result.after}" if result.before else result.after
    subject = " ".join(part for part in (result.label, result.language) if part)
    return f"{subject}: {values}" + (f" ({result.note})" if result.note else "")


def _score_facts(score: Score) -> dict[str, Any]:
    low, high = interval(score.nats, score.bytes)
    return {
        "documents": len(score.nats),
        "bytes": int(score.bytes.sum()),
        "tokens": score.tokens,
        "unknown": score.unknown,
        "low": low,
        "high": high,
    }


def _change(base: Score, adapted: Score) -> dict[str, float]:
    """Adapted less base in bits per byte, its 95% interval over the same documents, and its share of the base."""
    difference = adapted.bits_per_byte - base.bits_per_byte
    low, high = interval(adapted.nats - base.nats, base.bytes)
    share = difference / base.bits_per_byte if np.any(base.nats) else 0.0
    return {"bits_per_byte": difference, "low": low, "high": high, "share": share}
