"""Arabic forms: the article, the accusative, agreement in gender, possessive suffixes, counted nouns.

The text has no short vowels, so a case is written only where it adds a letter (the indefinite accusative).
"""

from collections.abc import Callable

from nemo_adapt.smallworld.concepts import NAMES, Word

TEH = "ة"
ARTICLE = "ال"


def gender(word: Word) -> str:
    """Return ``m`` or ``f``, from a name's column, else from the ending or the ``f`` field."""
    fields = word.cells["ar"]
    return word.gender or ("f" if fields[0].endswith(TEH) or "f" in fields else "m")


def definite(text: str) -> str:
    """Return ``text`` with the article; in a construct of two nouns the second takes it."""
    first, _, second = text.rpartition(" ")
    return f"{first} {ARTICLE}{second}".strip()


def accusative(text: str) -> str:
    """Return the indefinite accusative of a word that inflects for all three cases."""
    if " " in text or text.endswith((TEH, "ا", "ى")):
        return text
    if text.endswith("يء"):
        return text.removesuffix("ء") + "ئًا"
    return f"{text}ً" if text.endswith("اء") else f"{text}ًا"


def agree(word: Word, other: Word | None, feminine: bool | None = None) -> str:
    """Return an adjective, job or mood that agrees in gender with ``other``, or with ``feminine`` if given."""
    fields = word.cells["ar"]
    if not (gender(other) == "f" if feminine is None and other is not None else feminine):
        return fields[0]
    return fields[1] if len(fields) > 1 else fields[0] + TEH


def _accusative_agree(word: Word, other: Word | None) -> str:
    text = agree(word, other)
    diptote = word.kind == "color" and word.cells["ar"][-1].endswith("اء")
    return text if diptote else accusative(text)


def _definite(word: Word, _: Word | None = None) -> str:
    text = word.cells["ar"][0]
    return text if word.kind in NAMES else definite(text)


def _collective(word: Word) -> str:
    fields = word.cells["ar"]
    return fields[2] if len(fields) > 2 else fields[0]


def _kind_agree(word: Word, food: Word | None) -> str:
    return agree(word, None, food is not None and _collective(food).endswith(TEH))


def joined(word: Word, prefix: str) -> str:
    """Return the definite ``word`` with the prefix ب or ل; after ل the article loses its alif."""
    text = _definite(word)
    if prefix == "ل" and text.startswith(ARTICLE) and word.kind not in NAMES:
        return "لل" + text.removeprefix(ARTICLE).removeprefix("ل")
    return prefix + text


def with_suffix(text: str, suffix: str) -> str:
    """Return ``text`` with a possessive suffix: a final teh marbuta becomes an ordinary teh."""
    return (text.removesuffix(TEH) + "ت" if text.endswith(TEH) else text) + suffix


def _his(word: Word, owner: Word | None) -> str:
    return with_suffix(word.cells["ar"][0], "ها" if owner is not None and gender(owner) == "f" else "ه")


def _imperfect(word: Word, who: Word | None) -> str:
    text = word.cells["ar"][0].split(" ", 1)[0]
    return "ت" + text[1:] if who is not None and gender(who) == "f" else text


def _object(word: Word, _: Word | None) -> str:
    # Keeps its leading space: not every activity has an object, and the subject may stand between verb and object.
    return word.cells["ar"][0].removeprefix(_imperfect(word, None))


def _count(word: Word, counted: Word | None) -> str:
    # From three to ten, a number takes the gender opposite to its noun's.
    return word.cells["ar"][1 if counted is not None and gender(counted) == "f" else 0]


def _place(word: Word, _: Word | None) -> str:
    return f"{'على' if 'on' in word.cells['ar'] else 'في'} {_definite(word)}"


FORMS: dict[str, Callable[[Word, Word | None], str]] = {
    "": lambda word, _: word.cells["ar"][0],
    "def": _definite,
    "acc": lambda word, other: _accusative_agree(word, other) if other else accusative(word.cells["ar"][0]),
    "pl": lambda word, _: word.cells["ar"][1],
    "defpl": lambda word, _: definite(word.cells["ar"][1]),
    "kind": lambda word, food: _kind_agree(word, food) if food else definite(_collective(word)),
    "at": _place,
    "to": lambda word, _: f"إلى {_definite(word)}",
    "li": lambda word, _: joined(word, "ل"),
    "bi": lambda word, _: joined(word, "ب"),
    "his": _his,
    "my": lambda word, _: with_suffix(word.cells["ar"][0], "ي"),
    "your": lambda word, _: with_suffix(word.cells["ar"][0], "ك"),
    "agree": agree,
    "count": _count,
    "imp": _imperfect,
    "fut": lambda word, who: "س" + _imperfect(word, who),
    "object": _object,
    "masdar": lambda word, _: word.cells["ar"][1],
}


def inflect(word: Word, form: str, other: Word | None = None) -> str:
    """Return ``word`` in a form of ``FORMS``; ``other`` is the word it agrees with."""
    return FORMS[form](word, other)
