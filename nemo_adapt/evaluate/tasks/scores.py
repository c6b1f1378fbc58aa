"""Scores of written lines: spBLEU and chrF by sacrebleu, ROUGE-L by rouge-score; kept as sums, for intervals.

spBLEU is BLEU over SentencePiece pieces. FLORES-200's model is sacrebleu's ``flores200`` tokenizer, which it fetches on
first use; here it is taken from where sacrebleu keeps it, or from ``evaluate.spbleu_model``.
"""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_adapt import bootstrap
from nemo_adapt.errors import UserError

FLORES_MODEL = "models/flores200sacrebleuspm"
"""In sacrebleu's folder (``SACREBLEU``, or ``~/.sacrebleu``)."""
Rows = list[list[float]]


@dataclass(frozen=True)
class Result:
    """A task under one model."""

    metric: str
    """The one that stands for the task; a name of ``rows``."""
    rows: dict[str, Rows]
    """Metric -> numbers of each example, whose sums make the metric (``combine``)."""
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    """Of what was written: tokens, bytes, new tokens, cut prompts, the first lines."""


def combine(metric: str) -> bootstrap.Combine:
    """How a metric is made from sums: accuracies and ROUGE are means, BLEU and chrF are made of counted n-grams."""
    if metric not in ("spbleu", "chrf"):
        return bootstrap.ratio
    compute = _bleu() if metric == "spbleu" else _chrf()
    # What sacrebleu's own significance test uses; it has no public name.
    return lambda sums: float(compute._compute_score_from_stats([int(each) for each in sums]).score)


def lines(hypotheses: Sequence[str], references: Sequence[str], model: Path | None, rouge: bool) -> dict[str, Rows]:
    """The rows of each metric that can be had: ``rouge_l`` where asked for, ``spbleu`` with its ``model``, ``chrf``."""
    rows: dict[str, Rows] = {}
    if rouge:
        rows["rouge_l"] = [[100 * each, 1.0] for each in _rouge(hypotheses, references)]
    if model:
        pieces = [_pieces(model, texts) for texts in (hypotheses, references)]
        rows["spbleu"] = _bleu()._extract_corpus_statistics(pieces[0], [pieces[1]])
    rows["chrf"] = _chrf()._extract_corpus_statistics(list(hypotheses), [list(references)])
    return rows


def values(rows: Mapping[str, Rows]) -> dict[str, float]:
    """Each metric over all examples."""
    return {metric: bootstrap.value(of, combine(metric)) for metric, of in rows.items()}


def spbleu_model(given: str) -> Path | None:
    """The model for spBLEU: ``given``, or sacrebleu's, or ``None``. ``UserError`` when the given one is not there."""
    if given and not Path(given).is_file():
        raise UserError(f"evaluate.spbleu_model: {given} does not exist")
    folder = Path(os.environ.get("SACREBLEU", Path.home() / ".sacrebleu"))
    path = Path(given) if given else folder / FLORES_MODEL
    return path if path.is_file() else None


class Words:
    """Words of any script in lower case: letters with their marks, and digits (rouge-score's own are a to z alone)."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        text = text.replace("İ", "i").lower()  # of which Python makes two characters, an i and a dot
        inside = [unicodedata.category(char)[0] in "LMN" or char in "\u200c\u200d" for char in text]
        return "".join(char if kept else " " for char, kept in zip(text, inside, strict=True)).split()


def _rouge(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    return [
        scorer.score(reference, written)["rougeL"].fmeasure
        for written, reference in zip(hypotheses, references, strict=True)
    ]


def _pieces(model: Path, texts: Sequence[str]) -> list[str]:
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor(model_file=str(model))
    except RuntimeError:
        raise UserError(f"evaluate.spbleu_model: {model} is no SentencePiece model") from None
    return [" ".join(pieces) for pieces in processor.encode(list(texts), out_type=str)]


def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize="none", force=True)


def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
