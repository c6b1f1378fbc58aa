"""Read a task's examples: rows with splits, or line-aligned text; errors name the line."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.evaluate.tasks import files

TRAINING = ("train", "training")
VALIDATION = ("dev", "val", "valid", "validation")
TEST = ("test", "devtest", "eval")
SPLITS = (*TRAINING, *VALIDATION, *TEST)
"""The test split is scored, or the validation split if there is no test; few-shot examples come from the others."""
HELD_APART = 32
"""Examples, at most half of all, set aside for few-shot prompts and not scored if the file has a single split."""
FLORES_CODES = {
    "ar": "arb_Arab",
    "en": "eng_Latn",
    "hi": "hin_Deva",
    "sw": "swh_Latn",
    "ta": "tam_Taml",
    "tr": "tur_Latn",
}
"""Language -> the name of its file in FLORES-200."""


@dataclass(frozen=True)
class Record:
    """One example, and its position in the files."""

    values: Mapping[str, Any]
    path: Path
    at: str
    """Position in the file: ``line 3``."""

    def error(self, what: str) -> UserError:
        """Return a ``UserError`` about this example, with its file and position."""
        return UserError(f"{self.path}: {self.at} {what}")

    def value(self, name: str) -> Any:
        """Return a field; ``UserError`` that lists the fields there are if it is missing."""
        if self.values.get(name) is None:
            there = ", ".join(key for key, value in self.values.items() if value is not None)
            raise self.error(f"has no field {name!r}, but {there or 'none at all'}")
        return self.values[name]

    def text(self, name: str) -> str:
        """Return a text field, stripped; ``UserError`` when it is missing, empty or not text."""
        value = self.value(name)
        if not isinstance(value, str):
            raise self.error(f"has no text in field {name!r}, but {_shown(value)}")
        if not value.strip():
            raise self.error(f"has an empty field {name!r}")
        if value.encode(errors="ignore").decode() != value:
            raise self.error(f"has half of a surrogate pair (\\ud800 to \\udfff) in field {name!r}; remove it")
        return value.strip()

    def texts(self, name: str) -> list[str]:
        """Return a field that is a list of texts, each as ``text`` returns it; ``UserError`` when it is not."""
        values = self.value(name)
        if not isinstance(values, list):
            raise self.error(f"has no list in field {name!r}, but {_shown(values)}")
        if all(isinstance(each, str) for each in values) and "".join(values).isprintable():
            found = [each.strip() for each in values]  # lists of facts are long, and many
            if all(found):
                return found
        items = {f"{name}, item {number}": each for number, each in enumerate(values, start=1)}
        return [Record({item: each}, self.path, self.at).text(item) for item, each in items.items()]

    def mark(self, name: str) -> Any:
        """Return a field by which examples are told apart, ``None`` if it is missing; ``UserError`` for a list or an
        object."""
        value = self.values.get(name)
        if isinstance(value, (list, dict)):
            raise self.error(f"has no text in field {name!r}, but {_shown(value)}")
        return value

    def place(self, name: str, *spellings: str) -> int:
        """Return the index of a label in the first of ``spellings`` that has it; case is ignored.

        Each spelling is a string of words (``0 1``, ``negative positive``). ``UserError`` for a label in none of them.
        """
        value = self.value(name)
        for words in spellings:
            if str(value).strip().lower() in words.split():
                return words.split().index(str(value).strip().lower())
        known = ", ".join(word for words in spellings for word in words.split())
        raise self.error(f"has {_shown(value)} in field {name!r}, which is none of {known}")


@dataclass(frozen=True)
class Splits:
    """Examples that may be used as shots, and those that are scored."""

    shown: list[Record]
    scored: list[Record]


def read(path: Path) -> list[Record]:
    """Read a file whose rows may have a field ``split``, or a folder whose files are named after splits.

    The split is the last word of a file's name that is a known split: ``test.jsonl``, ``turkish_val.jsonl``,
    ``train-00000-of-00001.parquet``, ``spring2016.val.hi.tsv.split_20_80_eval.tsv``.
    """
    if not path.is_dir():
        return [Record(values, path, at) for at, values in files.rows(path)]
    named = {file: _split_of(file.name) for file in files.in_folder(path)}
    odd = [file for file, name in named.items() if not name]
    if odd and len(odd) < len(named):
        raise UserError(f"{odd[0]}: no word of the file's name is a split ({', '.join(SPLITS)}), as in others there")
    return [
        Record(({"split": name} if name else {}) | values, file, at)
        for file, name in named.items()
        for at, values in files.rows(file)
    ]


def read_aligned(folder: Path, languages: Iterable[str]) -> list[Record]:
    """Read FLORES's layout: folders ``dev/`` and ``devtest/`` (or a single folder) with a text file per language.

    The file of a language is ``tr.txt``, or named as in FLORES-200 (``tur_Latn.dev``). An example's fields are the
    languages. Raises ``UserError`` for files that are missing, ambiguous, not UTF-8 or not line-aligned.
    """
    folders = [each for each in sorted(folder.iterdir()) if each.is_dir() and each.name in SPLITS]
    records = []
    for each in folders or [folder]:
        texts = {language: _lines_of(each, language) for language in languages}
        counts = {language: len(lines) for language, (_, lines) in texts.items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{language} {count}" for language, count in counts.items())
            raise UserError(f"{each}: the texts are not line-aligned (lines: {said})")
        path = next(iter(texts.values()))[0]
        name = {"split": each.name} if folders else {}
        records += [
            Record({language: lines[row] for language, (_, lines) in texts.items()} | name, path, f"line {row + 1}")
            for row in range(next(iter(counts.values())))
        ]
    return records


def split(records: list[Record], shots: int, path: Path, kind: str) -> Splits:
    """Divide records by their field ``split`` (case is ignored); of a single split, whatever its name, set the first
    examples aside.

    Raises ``UserError`` if there are fewer examples to show than ``shots``, and if only some records are of a known
    split.
    """
    training, validation, test = (
        [record for record in records if _split_in(record) in names] for names in (TRAINING, VALIDATION, TEST)
    )
    if odd := _without_split(records):
        raise odd
    if test:
        shown, scored = [*training, *validation], test
    elif training and validation:
        shown, scored = training, validation
    else:
        apart = min(HELD_APART, len(records) // 2) if shots else 0
        shown, scored = records[:apart], records[apart:]
    if len(shown) < shots:
        raise UserError(
            f"{path}: {shots} examples are to be shown, its splits {', '.join((*TRAINING, *VALIDATION))} have "
            f"{len(shown)}: add some, or set evaluate.shots.{kind}"
        )
    return Splits(shown, scored)


def _split_in(record: Record) -> str:
    return str(record.values.get("split")).strip().lower()


def _without_split(records: list[Record]) -> UserError | None:
    """Return the error of the first record that is of no known split, if others are."""
    odd = [record for record in records if _split_in(record) not in SPLITS]
    if not odd or len(odd) == len(records):
        return None
    return odd[0].error(
        f"has {_shown(odd[0].values.get('split'))} in field 'split', which is none of {', '.join(SPLITS)}, as others "
        "have: rename it, or leave these examples out"
    )


def _shown(value: Any) -> str:
    """Return the beginning of any value as an error shows it: as JSON, whatever types Parquet has, and printable."""
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace").decode()[:40]


def _split_of(name: str) -> str:
    return next((word for word in reversed(re.split("[^a-z]+", name.lower())) if word in SPLITS), "")


def _lines_of(folder: Path, language: str) -> tuple[Path, list[str]]:
    names = {language, FLORES_CODES.get(language, language)}
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.split(".")[0] in names]
    if len(found) != 1:
        raise UserError(f"{folder} has {len(found)} files for {language!r} ({' or '.join(sorted(names))}.*), not one")
    try:
        lines = found[0].read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{found[0]} is not UTF-8") from None
    return found[0], lines[:-1] if not lines[-1] else lines
