"""Stream the documents of a corpus file, or of a part of it: text lines, JSON lines or Parquet; plain, gzip or zstd."""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, cast

from nemo_adapt.console.progress import OnProgress
from nemo_adapt.corpora import zstd
from nemo_adapt.errors import UserError

GROUP = 1024
"""Lines of a compressed file, or rows of a Parquet batch, that form one block and so belong to the same part."""
BLOCK = 1 << 16
"""Bytes of a plain file per block, which has the lines that begin in them; parts are split between blocks."""
BOM = b"\xef\xbb\xbf"
"""Byte order mark, which some editors write at the beginning of a UTF-8 file; not part of the text."""
END = b"\xff"
"""Ends each document of a block: a byte that does not occur in UTF-8."""


@dataclass(frozen=True)
class Part:
    """One of ``of`` disjoint parts of a file: what one process reads."""

    path: Path
    index: int = 0
    of: int = 1


def ignore(amount: float) -> None:
    """An ``OnProgress`` that does nothing."""


def read(part: Part, field: str = "text", on_progress: OnProgress = ignore) -> Iterator[str]:
    """Yield the non-empty documents of a part, without line ends and surrounding spaces.

    The parts of a file are consecutive. Plain files are split at the first line after a byte offset, Parquet between
    row groups; a compressed file is read from the start for each part, which keeps only its own groups of lines.
    ``field`` is the JSON field or Parquet column, whose null values are no documents; ``on_progress`` gets bytes of the
    file on disk. Raises ``UserError`` for a damaged or missing file; for a line that is not UTF-8 or has no ``field``,
    with its number.
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
            yield b"".join(document.encode() + END for _, document in block)
        return
    with _readable(part.path), part.path.open("rb") as file:
        position, end = _seek(file, part)
        while raw := file.read(min(BLOCK - position % BLOCK, end - position)) if position < end else b"":
            raw += b"" if raw.endswith(b"\n") else file.readline()
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
            position += len(raw)
            on_progress(len(raw))


NumberedDocuments = Iterator[tuple[int, str]]
"""Pairs of a block number and a document."""


def _numbered_documents(part: Part, field: str, on_progress: OnProgress) -> NumberedDocuments:
    reader = _parquet if part.path.suffix == ".parquet" else _lines
    with _readable(part.path):
        yield from reader(part, field, on_progress)


def _lines(part: Part, field: str, on_progress: OnProgress) -> NumberedDocuments:
    path, number = part.path, 0
    first = 1 if path.suffix in RAW_LINES or not _range(part)[0] else 0
    raw_lines = RAW_LINES.get(path.suffix, _plain)
    parse = _record if ".jsonl" in path.suffixes[-2:] else _line
    with path.open("rb") as file:
        try:
            raw = b""
            for at, block, raw in raw_lines(file, part, on_progress):
                number = at
                document = parse(raw.removeprefix(BOM) if at == first else raw, field)
                if document:
                    yield block, document
            if number == 1 and parse is _line and not _range(part)[0]:
                _check_line_ends(raw)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise UserError(f"{path} is not a gzip file, or is damaged (after line {number})") from None
        except zstd.Damaged:
            raise UserError(f"{path} is not a zstd file, or is damaged (after line {number})") from None
        except _Unreadable as error:
            raise UserError(f"{path}: line {_before(part) + number} {error}") from None


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
    try:
        document = json.loads(line)[field]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        document = False
    if document is None:  # null is no document, as in a column of Parquet
        return ""
    if not isinstance(document, str):
        raise _Unreadable(
            f'is not a JSON object with a "{field}" field that is a string (data.text_field names the field)'
        )
    if "\\u" in line and document.encode(errors="ignore").decode() != document:
        raise _Unreadable("contains half of a surrogate pair (\\ud800 to \\udfff), which is not a character; remove it")
    return document.strip()


NumberedLines = Iterator[tuple[int, int, bytes]]
"""Triples of a line number, a block number and the line."""


def _plain(file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    """Yield the lines that begin in the part's range of bytes, numbered from the first of them."""
    position, end = _seek(file, part)
    reported = position
    for number, raw in enumerate(file, start=1):
        if position >= end:
            break
        yield number, position // BLOCK, raw
        position += len(raw)
        if not number % GROUP:
            on_progress(position - reported)
            reported = position
    on_progress(max(0, min(position, end) - reported))


def _seek(file: BinaryIO, part: Part) -> tuple[int, int]:
    """Seek to the first line of a part of a plain file; return its offset and the end of the part's range."""
    position, end = _range(part)
    if position:
        file.seek(position - 1)
        position += len(file.readline()) - 1  # a line that began earlier belongs to the previous part
    return position, end


def _range(part: Part) -> tuple[int, int]:
    size = part.path.stat().st_size
    begin, end = size * part.index // part.of, size * (part.index + 1) // part.of
    if part.path.suffix in RAW_LINES:
        return begin, end
    return begin // BLOCK * BLOCK, end if end == size else end // BLOCK * BLOCK


def _before(part: Part) -> int:
    """Count the lines of the file that begin before the part, for error messages."""
    start = 0 if part.path.suffix in RAW_LINES else _range(part)[0]
    if not start:
        return 0
    with part.path.open("rb") as file:
        blocks = iter(lambda: file.read(min(1 << 20, start - 1 - file.tell())), b"")
        return 1 + sum(block.count(b"\n") for block in blocks)


def _gzip(file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    return _lines_of_part(cast(Iterator[bytes], gzip.open(file, "rb")), file, part, on_progress)


def _zstd(file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    return _lines_of_part(zstd.lines(file), file, part, on_progress)


RAW_LINES: dict[str, Callable[[BinaryIO, Part, OnProgress], NumberedLines]] = {".gz": _gzip, ".zst": _zstd}


def _lines_of_part(lines: Iterator[bytes], file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    """Yield the groups of lines that belong to the part: those at whose start the reading position is in its range.

    That position, in compressed bytes, is the same each time the file is read, so every group belongs to one part.
    """
    size, (begin, end) = os.fstat(file.fileno()).st_size, _range(part)
    reported, inside = begin, not part.index
    for number, raw in enumerate(lines, start=1):
        if not number % GROUP:
            place = min(file.tell(), size - 1)  # the end of the file belongs to the last part
            if place >= end:
                break
            inside = place >= begin
            if inside:
                on_progress(place - reported)
                reported = place
        if inside:
            yield number, number // GROUP, raw
    on_progress(end - reported)


def _parquet(part: Part, field: str, on_progress: OnProgress) -> NumberedDocuments:
    import pyarrow
    import pyarrow.parquet

    path = part.path
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            _check_column(path, file.schema_arrow, field)
            count = file.num_row_groups
            groups = range(count * part.index // part.of, count * (part.index + 1) // part.of)
            share = path.stat().st_size / max(1, file.metadata.num_rows)
            batches = chain.from_iterable(file.iter_batches(GROUP, [group], [field]) for group in groups)
            for block, batch in enumerate(batches):
                for value in batch.column(0).to_pylist():
                    if value and (document := value.strip()):
                        yield block, document
                on_progress(share * batch.num_rows)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a Parquet file, or is damaged: {reason}") from None


def _check_column(path: Path, schema: Any, field: str) -> None:
    import pyarrow

    if field not in schema.names:
        named = ", ".join(schema.names)
        raise UserError(f"{path} has no column {field!r}, only {named}: name the one with the text in data.text_field")
    if schema.names.count(field) > 1:
        raise UserError(f"{path} has several columns {field!r}: give each its own name")
    kind = schema.field(field).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if str(kind) not in ("string", "large_string", "string_view"):
        raise UserError(f"{path}: column {field!r} holds {kind}, not strings; name another in data.text_field")
