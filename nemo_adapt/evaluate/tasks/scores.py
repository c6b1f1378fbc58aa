"""Scores of generated lines: spBLEU and chrF by sacrebleu, ROUGE-L by rouge-score; kept as sums for bootstrapping.

spBLEU is BLEU over SentencePiece pieces of FLORES-200's model. It is sacrebleu's ``flores200`` tokenizer, which
sacrebleu downloads on first use; here it is read from sacrebleu's folder or from ``evaluate.spbleu_model``.
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
"""Path of the model in sacrebleu's folder (``SACREBLEU``, or ``~/.sacrebleu``)."""
Rows = list[list[float]]


@dataclass(frozen=True)
class Result:
    """The result of a task under one model."""

    metric: str
    """The task's main metric, a key of ``rows``."""
    rows: dict[str, Rows]
    """Metric -> statistics of each example, [examples, numbers]; their sums give the metric (``combine``)."""
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    """The number of cut prompts; of generated text also tokens, bytes, new tokens and the first lines."""


def combine(metric: str) -> bootstrap.Combine:
    """Return the function from sums to a metric: accuracies and ROUGE are means, BLEU and chrF use n-gram counts."""
    if metric not in ("spbleu", "chrf"):
        return bootstrap.ratio
    compute = _bleu() if metric == "spbleu" else _chrf()
    # Private in sacrebleu, whose own significance test uses it; there is no public equivalent.
    return lambda sums: float(compute._compute_score_from_stats([int(each) for each in sums]).score)


def lines(hypotheses: Sequence[str], references: Sequence[str], model: Path | None, rouge: bool) -> dict[str, Rows]:
    """Return the rows of each metric: ``rouge_l`` if ``rouge``, ``spbleu`` if ``model`` is given, and ``chrf``."""
    rows: dict[str, Rows] = {}
    if rouge:
        rows["rouge_l"] = [[100 * each, 1.0] for each in _rouge(hypotheses, references)]
    if model:
        pieces = [_pieces(model, texts) for texts in (hypotheses, references)]
        rows["spbleu"] = _bleu()._extract_corpus_statistics(pieces[0], [pieces[1]])
    rows["chrf"] = _chrf()._extract_corpus_statistics(list(hypotheses), [list(references)])
    return rows


def values(rows: Mapping[str, Rows]) -> dict[str, float]:
    """Return each metric over all examples."""
    return {metric: bootstrap.value(of, combine(metric)) for metric, of in rows.items()}


def spbleu_model(given: str) -> Path | None:
    """Return the model for spBLEU: ``given`` (``UserError`` if it does not exist), else sacrebleu's, else ``None``."""
    if given and not Path(given).is_file():
        raise UserError(f"evaluate.spbleu_model: {given} does not exist")
    folder = Path(os.environ.get("SACREBLEU", Path.home() / ".sacrebleu"))
    path = Path(given) if given else folder / FLORES_MODEL
    return path if path.is_file() else None


class Words:
    """A tokenizer for rouge-score: lower-case words of any script (its own tokenizer keeps only a-z and digits)."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text: runs of letters, combining marks and digits."""
        text = text.replace("İ", "i").lower()  # lower() alone turns İ into i and a combining dot
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
        raise UserError(f"evaluate.spbleu_model: {model} is not a SentencePiece model") from None
    return [" ".join(pieces) for pieces in processor.encode(list(texts), out_type=str)]


def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize="none", force=True)


def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
