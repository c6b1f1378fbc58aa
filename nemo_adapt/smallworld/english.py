"""English forms: articles, plurals, prepositions, verbs."""

from collections.abc import Callable

from nemo_adapt.smallworld.concepts import NAMES, Word

MASS = "-"


def gender(word: Word) -> str:
    """Return ``m`` or ``f`` for names; empty for other words."""
    return word.gender


def article(text: str) -> str:
    """Return ``text`` with its indefinite article."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def plural(word: Word) -> str:
    """Return the plural, from the table or by rule."""
    fields = word.cells["en"]
    return fields[1] if len(fields) > 1 else f"{fields[0]}s"


def _is_mass(word: Word) -> bool:
    return word.cells["en"][1:2] == (MASS,)


def _indefinite(word: Word, _: Word | None) -> str:
    return f"some {word.name}" if _is_mass(word) else article(word.name)


def _placed(preposition: str | None) -> Callable[[Word, Word | None], str]:
    return lambda word, _: f"{preposition or word.cells['en'][1]} the {word.name}"


def _verb(index: int) -> Callable[[Word, Word | None], str]:
    def form(word: Word, _: Word | None) -> str:
        rest = word.name.split()[1:]
        return " ".join([word.cells["en"][index], *rest])

    return form


def _third(word: Word, _: Word | None) -> str:
    first, *rest = word.name.split()
    ending = "es" if first.endswith(("ch", "sh")) else "s"
    spelled = f"{first[:-1]}ies" if first.endswith("dy") else first + ending
    return " ".join([spelled, *rest])


FORMS: dict[str, Callable[[Word, Word | None], str]] = {
    "": lambda word, _: word.name,
    "a": _indefinite,
    "pl": lambda word, _: plural(word),
    "kind": lambda word, _: word.name if _is_mass(word) else plural(word),
    "be": lambda word, _: "is" if _is_mass(word) else "are",
    "at": _placed(None),
    "to": _placed("to"),
    "s": _third,
    "ing": _verb(2),
}


def inflect(word: Word, form: str, other: Word | None = None) -> str:
    """Return ``word`` in a form of ``FORMS``; ``other`` is ignored, as English has no agreement."""
    if word.kind in NAMES:
        return word.name
    return FORMS[form](word, other)
