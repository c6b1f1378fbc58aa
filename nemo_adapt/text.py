"""Reading corpora: files or globs of plain text or JSON lines, streamed as documents.

A document is one line of a ``.txt`` file or the ``text`` field of one line of a ``.jsonl`` file; ``.gz`` of both.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from nemo_adapt.errors import UserError

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")


def expand(patterns: Iterable[str | Path], key: str) -> list[Path]:
    """The files that ``patterns`` (paths or globs) name, sorted within a pattern, each once.

    ``key`` is the configuration key that the patterns came from, for the error line. Raises ``UserError`` when a
    pattern matches nothing or a file has a suffix that cannot be read.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        matches = [str(pattern)] if Path(pattern).is_file() else _matches(str(pattern))
        if not matches:
            raise UserError(f"{key}: no file matches {str(pattern)!r}")
        for match in matches:
            if not match.endswith(SUFFIXES):
                raise UserError(f"{key}: {match} is not one of {', '.join(SUFFIXES)}")
            files[Path(match)] = None
    return list(files)


def documents(paths: Iterable[Path]) -> Iterator[str]:
    """Yield every non-empty document of ``paths``, without its line end.

    Raises ``UserError`` for a file with no document in it, and for bytes that are not UTF-8 (file and line named).
    """
    for path in paths:
        number = found = 0
        try:
            with _open(path) as stream:
                for number, raw in enumerate(stream, start=1):
                    document = _decode(raw, path, number)
                    if document:
                        found += 1
                        yield document
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise UserError(f"{path} is not a gzip file, or is damaged (after line {number})") from None
        if not found:
            raise UserError(f"{path}: the file is empty; give a file with one document a line")


def total_bytes(paths: Iterable[Path]) -> int:
    """Size of the files on disk (compressed where they are), for progress bars."""
    return sum(path.stat().st_size for path in paths)


def _matches(pattern: str) -> list[str]:
    """Files that a glob names: relative ones from here, absolute ones from the root."""
    anchor = Path(Path(pattern).anchor or ".")
    return sorted(str(path) for path in anchor.glob(pattern.removeprefix(anchor.anchor)) if path.is_file())


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        line = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: line {number} is not UTF-8 (byte {error.start} of the line); convert the file to UTF-8"
        ) from None
    if not path.name.endswith((".jsonl", ".jsonl.gz")) or not line.strip():
        return line.strip()
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise UserError(f'{path}: line {number} is not a JSON object with a "text" field that is a string')
    return str(record["text"]).strip()
