"""Layouts of published task files: their names of fields, and where they store languages and templates.

``FIELDS`` has the names that differ from those in ``kinds.py``: of XNLI-1.0 (``sentence1``, ``gold_label``) and its
translated training files (``hypo``), XStoryCloze's own files (``InputSentence1``), IndicSentiment (``INDIC REVIEW``),
ArSarcasm (``tweet``), and common ones of review tables. Case does not matter.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate.tasks import files
from nemo_adapt.evaluate.tasks.records import Record

FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    "sentiment": {
        "text": ("indic review", "sentence", "review", "tweet"),
        "label": ("sentiment", "sentiment_label"),
    },
    "xnli": {"premise": ("sentence1",), "hypothesis": ("sentence2", "hypo"), "label": ("gold_label",)},
    "xstorycloze": {
        **{f"input_sentence_{number}": (f"inputsentence{number}",) for number in range(1, 5)},
        **{f"sentence_quiz{number}": (f"randomfifthsentencequiz{number}",) for number in (1, 2)},
        "answer_right_ending": ("answerrightending",),
    },
}
"""Kind -> field -> its other names, in lower case."""
TEMPLATES = "templates.jsonl"
"""File in a folder of mLAMA with the template of each relation, whose facts are in ``RELATION.jsonl``."""
NO_LABEL = {"sentiment": (None,), "xnli": (None, "-", "-1", -1)}
"""Kind -> labels of examples on which the annotators did not agree. (In sentiment, -1 may mean negative.)"""


def known(kind: str, language: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename a row's fields to the kind's names, and reduce multilingual values to the text in ``language``."""
    found = {name: _of_language(value, language) for name, value in values.items()}
    small = {name.lower(): name for name in found}
    for field, others in FIELDS.get(kind, {}).items():
        for other in (field, *others):
            if field not in found and other in small:
                found[field] = found.pop(small[other])
    return found


def in_language(records: list[Record], language: str, path: Path) -> list[Record]:
    """Keep the examples of one language, if the field ``language`` has several values (XNLI-1.0, mLAMA).

    Raises ``UserError`` if it has several and ``language`` is not among them, or if it is a list.
    """
    there = {record.mark("language") for record in records}
    if len(there) < 2:
        return records
    if language not in there:
        raise UserError(f"{path} has no examples of language {language!r}, but of {', '.join(sorted(map(str, there)))}")
    return [record for record in records if record.values.get("language") == language]


def labelled(kind: str, records: list[Record], path: Path) -> list[Record]:
    """Drop the examples marked as unlabelled (``NO_LABEL``) and print their number; ``UserError`` if none remain."""
    without = NO_LABEL.get(kind, ())
    kept = [record for record in records if "label" not in record.values or record.values["label"] not in without]
    if not kept:
        raise UserError(f"{path}: no example has a label")
    if len(kept) < len(records):
        say(f"{path}: {len(records) - len(kept)} of {len(records)} examples have no label, and are left out")
    return kept


def facts(folder: Path) -> list[Record]:
    """Read mLAMA's folder of a language: each fact with its relation's template, round-robin over the relations.

    Relations whose template is missing or lacks ``[X]`` or ``[Y]`` are left out, as mLAMA does, and printed.
    """
    said = [Record(values, folder / TEMPLATES, at) for at, values in files.rows(folder / TEMPLATES)]
    templates = {record.text("relation"): record.text("template") for record in said}
    relations = [path for path in files.in_folder(folder) if path.name != TEMPLATES]
    usable = [path for path in relations if all(mark in templates.get(path.stem, "") for mark in ("[X]", "[Y]"))]
    if len(usable) < len(relations):
        odd = ", ".join(path.stem for path in relations if path not in usable)
        say(f"{folder}: {TEMPLATES} has no template with [X] and [Y] for {odd}; left out")
    if not usable:
        raise UserError(f"{folder}: no file is named after a relation of {TEMPLATES} (P17.jsonl)")
    found = [
        (number, Record({"relation": path.stem, "template": templates[path.stem], **values}, path, at))
        for path in usable
        for number, (at, values) in enumerate(files.rows(path) if path.stat().st_size else [])
    ]
    return [record for _, record in sorted(found, key=lambda each: each[0])]


def _of_language(value: Any, language: str) -> Any:
    """Return the text of one language from ``{"tr": …}`` or, as XNLI in ``datasets``, ``{"language": ["tr", …],
    "translation": […]}``; other values as they are."""
    if not isinstance(value, Mapping):
        return value
    languages, texts = value.get("language"), value.get("translation")
    if isinstance(languages, Iterable) and isinstance(texts, Iterable):
        value = dict(zip(languages, texts, strict=False))
    return value.get(language)
