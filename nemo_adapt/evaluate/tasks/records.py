"""Examples of a task from its files: JSON lines with splits, or line-aligned text; mistakes named by line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError

SHOWN = ("train", "training", "dev", "val", "valid", "validation")
"""Splits that examples to be shown are drawn from; they are never scored."""
SCORED = ("test", "devtest", "eval")
HELD_APART = 32
"""Examples, at most half of all, that are shown and not scored where nothing names splits."""
FLORES_CODES = {
    "ar": "arb_Arab",
    "en": "eng_Latn",
    "hi": "hin_Deva",
    "sw": "swh_Latn",
    "ta": "tam_Taml",
    "tr": "tur_Latn",
}
"""Names of FLORES-200's files."""


@dataclass(frozen=True)
class Record:
    """One example, and where it stands."""

    values: Mapping[str, Any]
    path: Path
    line: int

    def error(self, what: str) -> UserError:
        """A mistake in this example."""
        return UserError(f"{self.path}: line {self.line} {what}")

    def value(self, name: str) -> Any:
        """A field; ``UserError`` when it is missing."""
        if self.values.get(name) is None:
            raise self.error(f"has no field {name!r}")
        return self.values[name]

    def text(self, name: str) -> str:
        """A field that holds text, without outer spaces; ``UserError`` when it is missing, empty or no text."""
        value = self.value(name)
        if not isinstance(value, str):
            raise self.error(f"has no text in field {name!r}, but {json.dumps(value)[:40]}")
        if not value.strip():
            raise self.error(f"has an empty field {name!r}")
        return value.strip()

    def place(self, name: str, *spellings: Mapping[Any, int]) -> int:
        """The number that a label stands for; ``UserError`` for one that is in none of the tables of spellings."""
        value = self.value(name)
        for table in spellings:
            if value in table:
                return table[value]
        known = ", ".join(json.dumps(each) for table in spellings for each in table)
        raise self.error(f"has {json.dumps(value)[:40]} in field {name!r}, which is none of {known}")


@dataclass(frozen=True)
class Splits:
    """Examples that may be shown, and those that are scored."""

    shown: list[Record]
    scored: list[Record]


def read(path: Path, shots: int) -> Splits:
    """A ``.jsonl`` file (with splits in a field ``split``, or none), or a folder of such files named after splits.

    Where nothing names splits and ``shots`` are to be shown, the first examples are held apart for that.
    """
    if path.is_dir():
        files = sorted(path.glob("*.jsonl"))
        records = [record for file in files for record in read_lines(file, file.name.split(".")[0])]
        if not records:
            raise UserError(f"{path} holds no .jsonl file")
    else:
        records = list(read_lines(path))
    return split(records, shots, path)


def read_aligned(folder: Path, languages: Iterable[str], shots: int) -> Splits:
    """FLORES's layout: ``dev/`` and ``devtest/`` (or one folder), in it a file of lines for each language.

    The file of a language is ``tr.txt``, or has the name that FLORES-200 gives it (``tur_Latn.dev``). An example's
    fields are the languages.
    """
    folders = [each for each in sorted(folder.iterdir()) if each.is_dir() and each.name in (*SHOWN, *SCORED)]
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
            Record({language: lines[row] for language, (_, lines) in texts.items()} | name, path, row + 1)
            for row in range(next(iter(counts.values())))
        ]
    return split(records, shots, folder)


def read_lines(path: Path, split_name: str = "") -> list[Record]:
    """The records of one file of JSON lines; ``split_name`` is the split of those that name none."""
    records = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise UserError(f"{path}: line {number} is no JSON object")
        records.append(Record(({"split": split_name} if split_name else {}) | values, path, number))
    if not records:
        raise UserError(f"{path}: the file is empty")
    return records


def split(records: list[Record], shots: int, path: Path) -> Splits:
    """Records by their field ``split``."""
    names = {record.values.get("split") for record in records}
    if names & set(SCORED):
        shown = [record for record in records if record.values.get("split") in SHOWN]
        scored = [record for record in records if record.values.get("split") in SCORED]
    else:  # one split, whatever its name
        apart = min(HELD_APART, len(records) // 2) if shots else 0
        shown, scored = records[:apart], records[apart:]
    if len(shown) < shots:
        raise UserError(
            f"{path}: {shots} examples are to be shown, its splits {', '.join(SHOWN)} have {len(shown)}: "
            "add some, or set evaluate.shots.KIND"
        )
    return Splits(shown, scored)


def _lines_of(folder: Path, language: str) -> tuple[Path, list[str]]:
    names = {language, FLORES_CODES.get(language, language)}
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.split(".")[0] in names]
    if len(found) != 1:
        raise UserError(f"{folder} has {len(found)} files for {language!r} ({' or '.join(sorted(names))}.*), not one")
    lines = found[0].read_text(encoding="utf-8").split("\n")
    return found[0], lines[:-1] if not lines[-1] else lines
