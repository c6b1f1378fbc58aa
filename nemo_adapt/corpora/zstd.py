"""Lines of a file that zstd has compressed."""

from collections.abc import Iterator
from typing import BinaryIO

READ = 1 << 17
"""Compressed bytes per read."""
WINDOW = 1 << 31
"""Largest window that ``zstd --long`` writes."""


class Damaged(Exception):
    """A file that is cut off, or that zstd has not compressed."""


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a compressed file without their line ends. ``Damaged`` where it cannot be read further."""
    line: list[bytes] = []
    for block in _blocks(file):
        *ended, rest = block.split(b"\n")
        if ended:
            yield from (b"".join((*line, ended[0])), *ended[1:])
            line = []
        line.append(rest)
    if rest := b"".join(line):
        yield rest


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield decompressed blocks, frame after frame; zstandard's own reader accepts a truncated file as complete."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    frame = decompressor.decompressobj()
    inside = False
    try:
        while raw := file.read(READ):
            while raw:
                if frame.eof:
                    frame = decompressor.decompressobj()
                yield frame.decompress(raw)
                raw, inside = frame.unused_data, not frame.eof
    except zstandard.ZstdError:
        raise Damaged from None
    if inside:
        raise Damaged
