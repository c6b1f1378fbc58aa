"""Turn a frame (one sentence as a pattern in each language) and its words into a sentence of a language.

A pattern is text with slots:

- ``{thing}`` the plain word, ``{thing.acc}`` a form of it, ``{look.agree@thing}`` a form that agrees with another slot;
- ``{who?He|She}`` the first text if the word in the slot is masculine in this language, else the second.

The forms are those of english.py, turkish.py, hindi.py and arabic.py.
"""

import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from nemo_adapt.smallworld import arabic, english, events, facts, hindi, talk, turkish
from nemo_adapt.smallworld.concepts import LANGUAGES, Word

GRAMMARS: dict[str, ModuleType] = {"en": english, "tr": turkish, "hi": hindi, "ar": arabic}
SLOT = re.compile(r"\{(\w+)(?:\.([\w.]+))?(?:@(\w+))?(?:\?([^|}]*)\|([^}]*))?\}")
SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-zışğüçöâ]")


@dataclass(frozen=True)
class Slot:
    """One slot of a pattern."""

    name: str
    form: str = ""
    other: str = ""
    masculine: str | None = None
    feminine: str = ""


Pattern = tuple[str | Slot, ...]


def parse(text: str) -> Pattern:
    """Split a pattern into literal text and slots."""
    parts: list[str | Slot] = []
    end = 0
    for match in SLOT.finditer(text):
        parts.append(text[end : match.start()])
        name, form, other, masculine, feminine = match.groups()
        parts.append(Slot(name, form or "", other or "", masculine, feminine or ""))
        end = match.end()
    parts.append(text[end:])
    if any(isinstance(part, str) and re.search(r"[{}]", part) for part in parts):
        raise ValueError(f"cannot read the pattern {text!r}")
    return tuple(part for part in parts if part != "")


def _read(tables: list[str]) -> dict[str, dict[str, Pattern]]:
    found: dict[str, dict[str, Pattern]] = {}
    for table in tables:
        for block in unicodedata.normalize("NFC", table).strip().split("\n\n"):
            name, *lines = (line.strip() for line in block.splitlines())
            if name in found:
                raise ValueError(f"the frame {name!r} is there twice")
            found[name] = {language: parse(line) for language, line in zip(LANGUAGES, lines, strict=True)}
    return found


FRAMES: dict[str, dict[str, Pattern]] = _read([facts.SENTENCES, events.SENTENCES, talk.SENTENCES])
"""Frame -> language -> pattern."""


@functools.cache
def _inflected(language: str, word: Word, form: str, other: Word | None) -> str:
    text: str = GRAMMARS[language].inflect(word, form, other)
    return text


@functools.cache
def _gender(language: str, word: Word) -> str:
    text: str = GRAMMARS[language].gender(word)
    return text


def _fill(part: str | Slot, language: str, get: Callable[[str], Word]) -> str:
    if isinstance(part, str):
        return part
    word = get(part.name)
    if part.masculine is None:
        return _inflected(language, word, part.form, get(part.other) if part.other else None)
    return part.feminine if _gender(language, word) == "f" else part.masculine


def _capital(match: re.Match[str], language: str) -> str:
    letter = match.group()
    return "İ" if letter == "i" and language == "tr" else letter.upper()


def realize(frame: str, language: str, get: Callable[[str], Word]) -> str:
    """Return the sentence of ``frame`` in ``language``; ``get`` returns the word in a slot."""
    text = "".join(_fill(part, language, get) for part in FRAMES[frame][language])
    if language in ("hi", "ar"):
        return text
    return SENTENCE_START.sub(lambda match: _capital(match, language), text)
