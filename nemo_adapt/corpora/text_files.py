"""Stream the documents of a corpus file, or of a part of it: text lines, JSON lines or Parquet; plain, gzip or zstd."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from nemo_adapt.console.progress import OnProgress
from nemo_adapt.corpora import parquet
from nemo_adapt.corpora.lines import Damaged, Part, lines_before, numbered_lines, plain_blocks
from nemo_adapt.errors import UserError

BOM = b"\xef\xbb\xbf"
"""Byte order mark, which some editors write at the beginning of a UTF-8 file; not part of the text."""
LARGEST_BLOCK = 1 << 20
"""Bytes after which a block is cut between two documents: counting words takes twenty times the memory of a block."""
END = b"\xff"
"""Ends each document of a block: a byte that does not occur in UTF-8."""


def ignore(amount: float) -> None:
    """An ``OnProgress`` that does nothing."""


def read(part: Part, field: str = "text", on_progress: OnProgress = ignore) -> Iterator[str]:
    """Yield the non-empty documents of a part, without line ends and surrounding spaces.

    The parts of a file are consecutive. Plain files are split at the first line after a byte offset, Parquet between
    row groups; a compressed file is read from the start for each part, which keeps only its own groups of lines.
    ``field`` is the JSON field or Parquet column, whose null values are no documents, or several between slashes: the
    first that a line or file has. ``on_progress`` gets bytes of the file on disk. Raises ``UserError`` for a damaged or
    missing file; for a line that is not UTF-8 or has no ``field``, with its number.
    """
    for _, document in _numbered_documents(part, field, on_progress):
        yield document


def blocks(part: Part, field: str = "text", on_progress: OnProgress = ignore) -> Iterator[bytes]:
    """Yield blocks of many documents of a part, as UTF-8, each document followed by ``END``.

    Empty documents and surrounding spaces may remain. A file has the same blocks however it is split into parts. Ten
    times faster than ``read`` for plain text. Raises ``UserError`` as ``read`` does.
    """
    if part.path.suffix != ".txt":
        for _, block in groupby(_numbered_documents(part, field, on_progress), itemgetter(0)):
            yield from _joined(document for _, document in block)
        return
    with _readable(part.path), part.path.open("rb") as file:
        for position, raw in plain_blocks(file, part):
            is_whole = not position and b"\n" not in raw
            try:
                raw.decode()
                if is_whole:
                    _check_line_ends(raw)
            except (UnicodeDecodeError, _Unreadable):
                for _ in read(part, field):
                    pass  # raises the error with the line number
            lines = raw if position else raw.removeprefix(BOM)
            lines = lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines
            yield lines.replace(b"\n", END) + END
            on_progress(len(raw))


def _joined(documents: Iterable[str]) -> Iterator[bytes]:
    """Yield the documents of a block, in several where they are long."""
    held, size = [], 0
    for document in documents:
        held.append(document.encode() + END)
        size += len(held[-1])
        if size > LARGEST_BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


NumberedDocuments = Iterator[tuple[int, str]]
"""Pairs of a block number and a document."""


def _numbered_documents(part: Part, field: str, on_progress: OnProgress) -> NumberedDocuments:
    reader = parquet.numbered_documents if part.path.suffix == ".parquet" else _lines
    with _readable(part.path):
        yield from reader(part, field, on_progress)


def _lines(part: Part, field: str, on_progress: OnProgress) -> NumberedDocuments:
    path, number = part.path, 0
    first = 1 if part.is_compressed or not part.bounds[0] else 0
    name = path.stem if part.is_compressed else path.name
    parse = _record if name.endswith(".jsonl") else _line
    with path.open("rb") as file:
        try:
            raw = b""
            for at, block, raw in numbered_lines(file, part, on_progress):
                number = at
                document = parse(raw.removeprefix(BOM) if at == first else raw, field)
                if document:
                    yield block, document
            if number == 1 and parse is _line and not part.bounds[0]:
                _check_line_ends(raw)
        except Damaged as error:
            raise UserError(f"{path} is not {error}, or is damaged (after line {number})") from None
        except _Unreadable as error:
            raise UserError(f"{path}: line {lines_before(part) + number} {error}") from None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Context: raise errors of opening and reading a file as ``UserError``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


class _Unreadable(Exception):
    """An error in one line; the message says what is wrong with it."""


def _line(raw: bytes, field: str) -> str:
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise _Unreadable(f"is not UTF-8 (byte {error.start} of the line); convert the file to UTF-8") from None


def _check_line_ends(line: bytes) -> None:
    """Raise ``_Unreadable`` if the only line of a file is several for programs that take CR for a line end."""
    if not line.endswith(b"\n") and b"\r" in line.strip():
        raise _Unreadable("is the whole file: its line ends are CR, as on old Macs; convert them: tr '\\r' '\\n'")


def _record(raw: bytes, field: str) -> str:
    line = _line(raw, field)
    if not line:
        return line
    names = field.split("/")
    try:
        record = json.loads(line)
        document = record[next(name for name in names if name in record)]
    except (ValueError, StopIteration, TypeError, RecursionError):
        document = False
    if document is None:  # null is no document, as in a column of Parquet
        return ""
    if not isinstance(document, str):
        named = " or ".join(f'"{name}"' for name in names)
        raise _Unreadable(
            f"is not a JSON object with a {named} field that is a string (data.text_field names the field)"
        )
    if "\\u" in line and document.encode(errors="ignore").decode() != document:
        raise _Unreadable("contains half of a surrogate pair (\\ud800 to \\udfff), which is not a character; remove it")
    return document.strip()
