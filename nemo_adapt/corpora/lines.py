"""The lines of a part of a text file: plain, gzip or zstd."""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from nemo_adapt.console.progress import OnProgress

GROUP = 1024
"""Lines of a compressed file, or rows of a Parquet batch, that form one block and so belong to the same part."""
ZSTD_READ = 1 << 17
"""Compressed bytes per read."""
ZSTD_WINDOW = 1 << 31
"""Largest window that ``zstd --long`` writes."""
BLOCK = 1 << 16
"""Bytes of a plain file per block, which has the lines that begin in them; parts are split between blocks."""


@dataclass(frozen=True)
class Part:
    """One of ``of`` disjoint parts of a file: what one process reads."""

    path: Path
    index: int = 0
    of: int = 1

    @property
    def is_compressed(self) -> bool:
        """Whether the file has to be read from its beginning."""
        return self.path.suffix in COMPRESSED

    @property
    def bounds(self) -> tuple[int, int]:
        """Begin and end of the part's range of bytes on disk; its lines are those that begin in it."""
        size = self.path.stat().st_size
        begin, end = size * self.index // self.of, size * (self.index + 1) // self.of
        if self.is_compressed:
            return begin, end
        return begin // BLOCK * BLOCK, end if end == size else end // BLOCK * BLOCK


class Damaged(Exception):
    """A compressed file that cannot be read further; the message names the expected kind of file."""


NumberedLines = Iterator[tuple[int, int, bytes]]
"""Triples of a line number, a block number and the line."""


def numbered_lines(file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    """Yield the lines of ``part``, whose file is open as ``file``.

    Lines of a plain file are numbered from the first of the part, those of a compressed one from the first of the file.
    ``on_progress`` gets bytes on disk. Raises ``Damaged`` if a compressed file is.
    """
    return COMPRESSED.get(part.path.suffix, _plain)(file, part, on_progress)


def _plain(file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
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


def plain_blocks(file: BinaryIO, part: Part) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a plain file's part, each after its offset: whole lines, the last one perhaps without end."""
    position, end = _seek(file, part)
    while raw := file.read(min(BLOCK - position % BLOCK, end - position)) if position < end else b"":
        raw += b"" if raw.endswith(b"\n") else file.readline()
        yield position, raw
        position += len(raw)


def _seek(file: BinaryIO, part: Part) -> tuple[int, int]:
    """Seek to the first line of a part of a plain file; return its offset and the end of the part's range."""
    position, end = part.bounds
    if position:
        file.seek(position - 1)
        position += len(file.readline()) - 1  # a line that began earlier belongs to the previous part
    return position, end


def lines_before(part: Part) -> int:
    """Count the lines of the file that begin before the part, for error messages."""
    start = 0 if part.is_compressed else part.bounds[0]
    if not start:
        return 0
    with part.path.open("rb") as file:
        blocks = iter(lambda: file.read(min(1 << 20, start - 1 - file.tell())), b"")
        return 1 + sum(block.count(b"\n") for block in blocks)


def _gzip(file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    try:
        with gzip.open(file, "rb") as lines:
            yield from _lines_of_part(cast(Iterator[bytes], lines), file, part, on_progress)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise Damaged("a gzip file") from None


def _zstd(file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    return _lines_of_part(_zstd_lines(file), file, part, on_progress)


COMPRESSED: dict[str, Callable[[BinaryIO, Part, OnProgress], NumberedLines]] = {".gz": _gzip, ".zst": _zstd}
"""Suffix of a compressed file -> its reader."""


def _lines_of_part(lines: Iterator[bytes], file: BinaryIO, part: Part, on_progress: OnProgress) -> NumberedLines:
    """Yield the groups of lines that belong to the part: those at whose start the reading position is in its range.

    That position, in compressed bytes, is the same each time the file is read, so every group belongs to one part.
    """
    size, (begin, end) = os.fstat(file.fileno()).st_size, part.bounds
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


def _zstd_lines(file: BinaryIO) -> Iterator[bytes]:
    line: list[bytes] = []
    for block in _zstd_blocks(file):
        *ended, rest = block.split(b"\n")
        if ended:
            yield from (b"".join((*line, ended[0])), *ended[1:])
            line = []
        line.append(rest)
    if rest := b"".join(line):
        yield rest


def _zstd_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield decompressed blocks, frame after frame; zstandard's own reader accepts a truncated file as complete."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frame = decompressor.decompressobj()
    inside = False
    try:
        while raw := file.read(ZSTD_READ):
            while raw:
                if frame.eof:
                    frame = decompressor.decompressobj()
                yield frame.decompress(raw)
                raw, inside = frame.unused_data, not frame.eof
    except zstandard.ZstdError:
        raise Damaged("a zstd file") from None
    if inside:
        raise Damaged("a zstd file")
