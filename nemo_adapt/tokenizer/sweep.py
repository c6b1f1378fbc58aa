"""Size against fertility: parallel text at many sizes of one learned order, and the size that reaches a target."""

import bisect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nemo_adapt.figures import DPI, INK, color, legend, new_figure
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.encode import bare, encode_words
from nemo_adapt.tokenizer.extend import extended_json

Row = dict[str, Any]
Settle = Callable[[int], list[str]]
"""Returns the tokens that asking for this number gives."""
STEP = 1.01
"""Growth of the size while the one found by bisection just misses the target."""


@dataclass
class Yardstick:
    """Parallel text as words of the base and in bytes, by language; the reference's base tokens (0: no reference)."""

    base: Base
    words: Mapping[str, Counter[str]]
    sizes: Mapping[str, int]
    reference: int

    def tokens(self, new: Sequence[str]) -> dict[str, int]:
        """Return language -> number of tokens under the base extended by ``new``."""
        model = bare(extended_json(self.base, new))
        return {language: _tokens(model, words) for language, words in self.words.items()}


def yardstick(base: Base, words: Mapping[str, Counter[str]], sizes: Mapping[str, int], reference: str) -> Yardstick:
    """Return the yardstick for ``words`` and ``sizes`` (bytes of UTF-8) by language."""
    there = reference in words
    return Yardstick(base, words, sizes, _tokens(base.model, words[reference]) if there else 0)


def _tokens(model: Any, words: Counter[str]) -> int:
    return int(encode_words(model, list(words)).lengths @ np.array(list(words.values())))


def table(yard: Yardstick, sizes: Sequence[int], settle: Settle) -> list[Row]:
    """Return a row per size and language, the base (0 new tokens) first.

    Each size gives what asking for it alone would: ``settle`` reviews the tokens and replaces dropped ones for that
    size. If there are fewer tokens than a size, ``new_tokens`` is their actual number.
    """
    rows: list[Row] = []
    done: set[int] = set()
    for size in [0, *sorted(set(sizes))]:
        new = settle(size) if size else []
        if len(new) in done:
            continue
        done.add(len(new))
        rows += [
            {
                "new_tokens": len(new),
                "language": language,
                "tokens": tokens,
                "tokens_vs_reference": round(tokens / yard.reference, 4) if yard.reference else None,
                "bytes_per_token": round(yard.sizes[language] / tokens, 4),
            }
            for language, tokens in yard.tokens(new).items()
        ]
    return rows


@dataclass
class Reached:
    """The size to ask for, the language and its disparity; ``met`` is false if even the limit misses the target."""

    size: int
    language: str
    disparity: float
    met: bool


def reach(yard: Yardstick, reference: str, target: float, limit: int, settle: Settle) -> Reached:
    """Find the fewest tokens, up to ``limit``, so that a language takes ``target`` times the reference's base tokens.

    The language is the one that ``limit`` tokens shorten most. More tokens shorten text, except for single ones that
    make the encoder segment differently, so sizes are bisected, and the one found is settled and checked.
    """
    most = settle(limit)
    before, after = yard.tokens([]), yard.tokens(most)
    languages = [language for language in before if language != reference]
    language = min(languages, key=lambda language: (after[language] / before[language], language))
    allowed = target * yard.reference
    if after[language] > allowed:
        return Reached(limit, language, after[language] / yard.reference, False)

    def short(size: int) -> bool:
        return yard.tokens(most[:size])[language] <= allowed

    size = bisect.bisect_left(range(len(most)), True, key=short)
    while size < len(most):
        tokens = settle(size) if size else []
        if (found := yard.tokens(tokens)[language]) <= allowed:
            return Reached(size, language, found / yard.reference, True)
        size = max(size + 1, int(size * STEP))
    return Reached(limit, language, after[language] / yard.reference, True)


def plot(path: Path, rows: Sequence[Row], reference: str) -> None:
    """Plot tokens relative to the reference's base tokens (without it, bytes per token) against new tokens."""
    compared = rows[0]["tokens_vs_reference"] is not None
    key = "tokens_vs_reference" if compared else "bytes_per_token"
    figure, axes = new_figure(f"tokens over {reference} (base)" if compared else "bytes per token", "new tokens")
    if compared:
        axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
    languages = list(dict.fromkeys(row["language"] for row in rows))
    for number, language in enumerate(languages, start=1):
        points = [(row["new_tokens"], row[key]) for row in rows if row["language"] == language]
        axes.plot(*zip(*points, strict=True), "o-", color=color(number), linewidth=1.8, markersize=4, label=language)
        axes.annotate(f"{points[-1][1]:.2f}", points[-1], (6, 0), textcoords="offset points", color=INK, va="center")
    ticks = sorted({row["new_tokens"] for row in rows})
    axes.set_xscale("symlog", linthresh=ticks[min(1, len(ticks) - 1)] or 1)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45 if len(ticks) > 6 else 0)
    axes.minorticks_off()
    axes.margins(x=0.1)
    legend(axes, len(languages))
    figure.savefig(path, dpi=DPI)
