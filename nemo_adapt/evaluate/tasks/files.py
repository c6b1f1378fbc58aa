"""Read a task's file: JSON lines, a JSON list, TSV or CSV with a header, or Parquet; errors name the line."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from nemo_adapt.errors import UserError

Row = tuple[str, dict[str, Any]]
"""Position in the file (``line 3``), and fields."""
LONGEST_CELL = 1 << 30
"""Longest cell of a table in characters; csv's default limit of 131,072 is too short for articles."""


def rows(path: Path) -> list[Row]:
    """Read the rows of a file, in the format of its suffix.

    Raises ``UserError`` for an unknown suffix, an empty or undecodable file, and with its line for an invalid row.
    """
    reader = READERS.get(path.suffix)
    if reader is None:
        raise UserError(f"{path}: a task's file ends with one of {', '.join(READERS)}")
    try:
        found = [*reader(path)]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8") from None
    if not found:
        raise UserError(f"{path}: the file is empty")
    return found


def in_folder(folder: Path) -> list[Path]:
    """Return a folder's files of rows; if it has several formats, those of the first one in ``READERS``."""
    for suffix in READERS:
        files = sorted(path for path in folder.glob(f"*{suffix}") if path.is_file())
        if files:
            return files
    raise UserError(f"{folder} holds no file that ends with one of {', '.join(READERS)}")


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            yield _object(path, f"line {number}", _parsed(line))


def _json(path: Path) -> Iterator[Row]:
    """Read a list of objects, or JSON lines, which ``datasets`` also writes to ``.json`` files."""
    text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        yield from _json_lines(path)
        return
    values = _parsed(text)
    if not isinstance(values, list):
        raise UserError(f"{path} is not JSON")
    for number, value in enumerate(values, start=1):
        yield _object(path, f"item {number}", value)


def _tab_separated(path: Path) -> Iterator[Row]:
    """Read TSV; quotes are ordinary characters, as in XNLI's and XStoryCloze's own files."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from _table(path, file, delimiter="\t", quoting=csv.QUOTE_NONE)


def _comma_separated(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from _table(path, file)


def _table(path: Path, file: TextIO, **dialect: Any) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(file, **dialect)
    header: list[str] = next(reader, [])
    line = reader.line_num + 1
    for cells in reader:
        if cells and len(cells) != len(header):
            raise UserError(f"{path}: line {line} has {len(cells)} columns, its header {len(header)}")
        if cells:
            yield f"line {line}", dict(zip(header, cells, strict=True))
        line = reader.line_num + 1


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError):
        raise UserError(f"{path} is not a Parquet file") from None
    batches: Iterable[Any] = table.to_batches()
    number = 0
    for batch in batches:
        for values in batch.to_pylist():
            number += 1
            yield f"row {number}", values


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the second: lists in lists, thousands deep
        return None


def _object(path: Path, at: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{path}: {at} is not a JSON object")
    return at, value


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".tsv": _tab_separated,
    ".csv": _comma_separated,
    ".parquet": _parquet,
}
