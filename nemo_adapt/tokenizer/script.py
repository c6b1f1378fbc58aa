"""Check that a corpus is in the intended language: compare its scripts with those of the target language's text."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import islice
from pathlib import Path

from nemo_adapt.console.progress import say
from nemo_adapt.corpora import text
from nemo_adapt.tokenizer.pieces import NO_SCRIPT

LOOKED_AT = 50_000
"""Most frequent pieces of a corpus from which the shares are computed."""
SENTENCES = 1000
"""Sentences of a parallel text that determine its scripts."""
ENOUGH = 0.5
"""Smallest share of letters in the expected scripts without a warning."""
MINOR = 0.05
"""A script with a smaller share of the letters is taken for names and quotations."""


@cache
def script_of(character: str) -> str:
    """Return the script of a letter, the first word of its Unicode name (``LATIN``, ``DEVANAGARI``), else ``""``."""
    first = unicodedata.name(character, "").split(" ")[0]
    return first if character.isalpha() and first not in NO_SCRIPT else ""


def shares(pieces: Mapping[str, int]) -> dict[str, float]:
    """Return script -> share of the letters in counted pieces of text (the most frequent ones), largest first."""
    letters: Counter[str] = Counter()
    for piece, count in Counter(pieces).most_common(LOOKED_AT):
        for character in piece:
            letters[script_of(character)] += count
    del letters[""]
    return {script: count / letters.total() for script, count in letters.most_common()}


def warn(corpus: Mapping[str, int], target: list[Path], guard: Mapping[str, int], field: str) -> None:
    """Print a warning, with the shares, if less than half of the corpus's letters are in the target texts' scripts.

    Without target texts: if most letters are in the guard's script although the corpus also has another one, which is
    then likely the intended language (a Turkish corpus with an English guard has only one script).
    """
    found = shares(corpus)
    if not found:
        return
    if target:
        expected = {script for path in target for script in _main_scripts(path, field)}
        share = sum(found.get(script, 0.0) for script in expected)
        if expected and share < ENOUGH:
            say(
                f"warning: only {share:.1%} of the letters of tokenizer.text are {_titles(expected)}, the script of "
                f"tokenizer.parallel; {next(iter(found)).title()} has {max(found.values()):.1%}"
            )
        return
    of_guard = next(iter(shares(guard)), "")
    others = {script: share for script, share in found.items() if script != of_guard and share >= MINOR}
    if found.get(of_guard, 0.0) > ENOUGH and others:
        say(
            f"warning: {found[of_guard]:.1%} of the letters of tokenizer.text are {of_guard.title()}, the guard's "
            f"script, and only {max(others.values()):.1%} are {_titles({next(iter(others))})}"
        )


def _main_scripts(path: Path, field: str) -> list[str]:
    sentences = islice(text.documents([path], field), SENTENCES)
    return [script for script, share in shares(Counter(sentences)).items() if share >= MINOR]


def _titles(scripts: set[str]) -> str:
    return " or ".join(script.title() for script in sorted(scripts))
