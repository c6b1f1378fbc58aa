"""Hindi forms: gender, number, the oblique case, agreement of adjectives and verbs."""

from collections.abc import Callable

from nemo_adapt.smallworld.concepts import NAMES, Word

# Ending of a masculine in -ā -> the ending of its oblique singular and direct plural.
MASCULINE = {"या": "ए", "ा": "े", "आ": "ए"}
FEMININE = {"या": "ई", "ा": "ी", "आ": "ई"}
VOWEL_SIGNS = "ािीुूृेैोौआइईउऊएऐओऔ"


def _swap(text: str, endings: dict[str, str]) -> str:
    for old, new in endings.items():
        if text.endswith(old):
            return text.removesuffix(old) + new
    return text


def gender(word: Word) -> str:
    """Return ``m`` or ``f``, from the name's column or the noun's field."""
    return word.gender or ("f" if "f" in word.cells["hi"][1:] else "m")


def _inflects(word: Word) -> bool:
    return word.kind not in NAMES and gender(word) == "m" and "fix" not in word.cells["hi"]


def oblique(word: Word) -> str:
    """Return the oblique singular: only masculines in -ā change."""
    text = word.cells["hi"][0]
    return _swap(text, MASCULINE) if _inflects(word) else text


def plural(word: Word) -> str:
    """Return the direct plural."""
    text = word.cells["hi"][0]
    if gender(word) == "m":
        return oblique(word)
    if text.endswith("िया"):
        return text + "ँ"
    if text.endswith("ी"):
        return text.removesuffix("ी") + "ियाँ"
    return text + ("एँ" if text[-1] in VOWEL_SIGNS else "ें")


def agree(word: Word, other: Word | None) -> str:
    """Return an adjective, job or mood that agrees in gender with ``other``."""
    fields = word.cells["hi"]
    if other is None or gender(other) == "m":
        return fields[0]
    if len(fields) > 1:
        return fields[1]
    return " ".join(_swap(part, FEMININE) for part in fields[0].split())


def _indefinite(word: Word, _: Word | None) -> str:
    if word.cells["en"][1:2] == ("-",):
        return f"{'थोड़ी' if gender(word) == 'f' else 'थोड़ा'} {word.cells['hi'][0]}"
    return f"एक {word.cells['hi'][0]}"


def _habitual(word: Word, who: Word | None) -> str:
    return word.cells["hi"][0] + ("ती" if who is not None and gender(who) == "f" else "ता")


def _future(word: Word, who: Word | None) -> str:
    stem = word.cells["hi"][0]
    stem = stem.removesuffix("ी") + "ि" if stem.endswith("ी") else stem
    return stem + ("ए" if stem[-1] in VOWEL_SIGNS else "े") + ("गी" if who is not None and gender(who) == "f" else "गा")


FORMS: dict[str, Callable[[Word, Word | None], str]] = {
    "": lambda word, _: word.cells["hi"][0],
    "obl": lambda word, _: oblique(word),
    "loc": lambda word, _: f"{oblique(word)} {'पर' if 'pr' in word.cells['hi'] else 'में'}",
    "pl": lambda word, _: plural(word),
    "kind": lambda word, _: word.cells["hi"][0] if word.cells["en"][1:2] == ("-",) else plural(word),
    "a": _indefinite,
    "agree": agree,
    "stem": lambda word, _: word.cells["hi"][0],
    "inf": lambda word, _: word.cells["hi"][0] + "ना",
    "hab": _habitual,
    "fut": _future,
}


def inflect(word: Word, form: str, other: Word | None = None) -> str:
    """Return ``word`` in a form of ``FORMS``; ``other`` is the word that an adjective or a verb agrees with."""
    return FORMS[form](word, other)
