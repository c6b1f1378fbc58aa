"""The three results at the top of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo_adapt.evaluate import languages
from nemo_adapt.evaluate.report import GATE_SHARE, Report

MOST_DIGITS = 4
"""Most decimals of a percentage."""


@dataclass(frozen=True)
class Headline:
    """One result; ``before`` and ``after`` are formatted values, ``before`` is empty if there is only one."""

    label: str
    language: str
    before: str
    after: str
    note: str


def headline(report: Report) -> list[str]:
    """Return three lines: tokens, bits per byte of the target, bits per byte of the reference language.

    They compare the second model with the first. Without a text in the reference language the third line is the size of
    the training, or of the scored text if there was no training.
    """
    return [_line(result) for result in headlines(report)]


def headlines(report: Report) -> list[Headline]:
    """Return the three results that ``headline`` formats."""
    target, reference = report["target"], report["reference"]
    results = [_tokens(report, target), _bits(report, target)]
    if reference != target and reference in report["bits_per_byte"][report["models"][0]]:
        return [*results, _bits(report, reference, gate=True)]
    return [*results, _size(report)]


def pair(report: Report) -> tuple[str, str]:
    """Return the names of the first and the second model (the first twice if there is only one)."""
    return report["models"][0], report["models"][min(1, len(report["models"]) - 1)]


def rows_by_text(rows: Sequence[Mapping[str, Any]], tokenizer: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return (language, text) -> the fertility row of ``tokenizer``."""
    return {(row["language"], row["text"]): row for row in rows if row["tokenizer"] == tokenizer}


def tokens_per_sentence(row: Mapping[str, Any]) -> float:
    """Return the tokens per sentence of a fertility row."""
    return float(row["tokens"]) / max(1, row["sentences"])


def _tokens(report: Report, language: str) -> Headline:
    names = pair(report)
    tables = [rows_by_text(report["fertility"], report["tokenizers"][name]) for name in names]
    measured = [key for key in tables[0] if key[0] == language and key in tables[1]]
    if measured:
        label, values = "tokens per sentence in", [tokens_per_sentence(table[measured[0]]) for table in tables]
    else:
        facts = [report["scores"][name][language] for name in names]
        label, values = "tokens per document in", [fact["tokens"] / fact["documents"] for fact in facts]
    before, after = values
    note = f"{before / after:.1f} times fewer" if after and before / after >= 1.05 else ""
    return _result(report, label, language, f"{before:.1f}", f"{after:.1f}", note)


def _bits(report: Report, language: str, gate: bool = False) -> Headline:
    first, second = pair(report)
    before, after = (report["bits_per_byte"][name][language] for name in (first, second))
    if first == second:
        return _result(report, "bits per byte", language, "", f"{after:.2f}", "")
    share = report["changes"][second][language]["share"]
    held = "holds" if share <= GATE_SHARE else f"fails, limit {GATE_SHARE:+.0%}"
    note = f"{_beside_limit(share)}, {languages.name(language)} gate {held}" if gate else f"{share:+.1%}"
    return _result(report, "bits per byte", language, f"{before:.2f}", f"{after:.2f}", note)


def _beside_limit(share: float) -> str:
    """Format a share with as many digits as show on which side of ``GATE_SHARE`` it is."""
    for digits in range(1, MOST_DIGITS):
        shown = f"{share:+.{digits}%}"
        if (float(shown.rstrip("%")) <= 100 * GATE_SHARE) == (share <= GATE_SHARE):
            return shown
    return f"{share:+.{MOST_DIGITS}%}"


def _size(report: Report) -> Headline:
    training = report["training"].get("exported", report["training"])  # a best checkpoint saw less
    if "tokens" in training and "bytes" in training:
        return Headline("trained on", "", "", f"{training['tokens']:,} tokens", _text_size(training["bytes"]))
    facts = report["scores"][report["models"][0]].values()
    scored = _text_size(sum(fact["bytes"] for fact in facts))
    return Headline("scored on", "", "", f"{sum(fact['documents'] for fact in facts):,} documents", scored)


def _text_size(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def _result(report: Report, label: str, language: str, before: str, after: str, note: str) -> Headline:
    return Headline(label, language, before if len(report["models"]) > 1 else "", after, note)


def _line(result: Headline) -> str:
    values = f"{result.before} -> {result.after}" if result.before else result.after
    subject = " ".join(part for part in (result.label, result.language) if part)
    return f"{subject}: {values}" + (f" ({result.note})" if result.note else "")
