"""Turkish forms: suffixes with vowel harmony, softening, buffer letters and the apostrophe of names.

In a suffix, capitals stand for letters that harmony determines: A is a/e, I is ı/i/u/ü, D is d/t. A letter in brackets
is a buffer: a consonant that appears only after a vowel, or a vowel that appears only after a consonant.
"""

from dataclasses import dataclass, replace

from nemo_adapt.smallworld.concepts import NAMES, Word

VOWELS = "aıoueiöüâ"
BACK = "aıouâ"
HIGH = {"a": "ı", "â": "ı", "ı": "ı", "o": "u", "u": "u", "e": "i", "i": "i", "ö": "ü", "ü": "ü"}
FRONTED = {"a": "e", "ı": "i", "o": "ö", "u": "ü"}
VOICELESS = "fstkçşhp"
SUFFIXES = {
    "acc": "(y)I",
    "dat": "(y)A",
    "gen": "(n)In",
    "loc": "DA",
    "abl": "DAn",
    "ins": "(y)lA",
    "pl": "lAr",
    "poss": "(s)I",
    "my": "(I)m",
    "yours": "(I)n",
    "dir": "DIr",
    "was": "(y)DI",
}
# Case suffixes after the possessive suffix, with the buffer letter n.
AFTER_POSSESSIVE = {"acc": "nI", "dat": "nA", "loc": "nDA", "abl": "nDAn"}


@dataclass(frozen=True)
class Stem:
    """A stem to which a suffix is added."""

    text: str
    soft: str
    """The stem before a suffix that begins with a vowel."""
    vowel: str
    """The vowel that determines harmony."""
    possessed: bool = False
    mark: str = ""
    """The apostrophe between a name and its first suffix; empty for other words."""


def stem_of(field: str, mark: str = "") -> Stem:
    """Parse the field of a noun or adjective (see nouns.py)."""
    plain = field.rstrip("~+")
    text, _, soft = plain.partition(":")
    vowel = _last_vowel(text)
    return Stem(text, soft or text, FRONTED[vowel] if "~" in field else vowel, "+" in field, mark)


def _last_vowel(text: str) -> str:
    return next(letter for letter in reversed(lower(text)) if letter in VOWELS)


def lower(text: str) -> str:
    """Return ``text`` in lower case, with the Turkish dotted and dotless i."""
    return text.replace("İ", "i").replace("I", "ı").lower()


def add(stem: Stem, name: str) -> Stem:
    """Return ``stem`` with the suffix called ``name`` added."""
    if name == "poss" and stem.possessed:
        return stem
    pattern = AFTER_POSSESSIVE.get(name, SUFFIXES[name]) if stem.possessed else SUFFIXES[name]
    if pattern.startswith("("):
        buffer, rest = pattern[1], pattern[3:]
        after_vowel = lower(stem.soft)[-1] in VOWELS
        pattern = buffer + rest if after_vowel == (buffer not in "AI") else rest
    base = stem.soft if pattern[0] in "AI" else stem.text
    ending, vowel = "", stem.vowel
    for letter in pattern:
        previous = (base + ending)[-1].lower()
        letter = {
            "A": "a" if vowel in BACK else "e",
            "I": HIGH[vowel],
            "D": "t" if previous in VOICELESS else "d",
        }.get(letter, letter)
        vowel = letter if letter in VOWELS else vowel
        ending += letter
    text = base + stem.mark + ending
    return replace(stem, text=text, soft=text, vowel=vowel, possessed=name == "poss", mark="")


def suffixed(field: str, forms: str, mark: str = "") -> str:
    """Return the word of a field with a chain of suffixes such as ``poss.acc``."""
    stem = stem_of(field, mark)
    for name in forms.split("."):
        stem = add(stem, name)
    return stem.text


def gender(_: Word) -> str:
    """Return the empty string: Turkish has no gender."""
    return ""


def _verb(word: Word, form: str) -> str:
    stem, aorist, present, future = word.cells["tr"]
    before = stem.split()[:-1]
    last = stem.split()[-1]
    front = _last_vowel(last) not in BACK
    # The stem before a suffix with a vowel (ye-, ed-, uyuy-) is the future without -ecek/-acak.
    made = {
        "aor": aorist,
        "prog": present,
        "fut": future,
        "can": future[:-4] + ("ebilir" if front else "abilir"),
        "meyi": last + ("meyi" if front else "mayı"),
    }
    return " ".join([*before, made[form]])


def inflect(word: Word, form: str, _: Word | None = None) -> str:
    """Return ``word`` with the suffixes in ``form``, joined by dots; ``a``: indefinite; for activities, the tense."""
    fields = word.cells["tr"]
    if word.kind == "activity":
        return _verb(word, form)
    text = stem_of(fields[0]).text
    if form == "":
        return text
    if form == "a":
        return f"biraz {text}" if word.cells["en"][1:2] == ("-",) else f"bir {text}"
    return suffixed(fields[0], form, "'" if word.kind in NAMES else "")
