"""Keeps standard output and error usable where their reader goes early (``nemo-adapt launch ... | head -1``, a closed
terminal), or the terminal's encoding lacks letters of the text.

What a command does, and its exit code, do not depend on whether its output is read to the end, or can be shown.
"""

import contextlib
import errno
import io
import os
import stat
import sys
from typing import Any, TextIO

READER_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO)
"""Errors of a write once the reader has closed the pipe, the socket or the terminal."""


class Pipe(io.FileIO):
    """A pipe or terminal. Once its reader has closed it, output is discarded, also that of processes started later."""

    is_unread = False

    def write(self, data: Any, /) -> Any:
        """Write as ``FileIO`` does; redirect the file descriptor to ``/dev/null`` once the reader has gone."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in READER_GONE:
                raise
            self.is_unread = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)


def escape_unprintable() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` print ``\\u0c05`` for a letter that their encoding, which is the locale's,
    does not have, and for a byte of a file's name that is no text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def ignore_closed_pipes() -> None:
    """Make ``sys.stdout`` and ``sys.stderr``, if they are pipes or a terminal, work on once their reader has gone."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and _has_reader(stream, number):
            stream.flush()
            setattr(sys, name, _ignoring_closed_pipe(stream, number))


def is_read() -> bool:
    """Return whether standard output may still have a reader: false once its pipe was found closed."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return not (isinstance(raw, Pipe) and raw.is_unread)


def _has_reader(stream: TextIO, number: int) -> bool:
    """Return whether a stream writes to file descriptor ``number`` and that is a pipe, a socket or a terminal."""
    with contextlib.suppress(OSError, ValueError):  # closed, or without a file descriptor
        mode = os.fstat(stream.fileno()).st_mode
        return stream.fileno() == number and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stream.isatty())
    return False


def _ignoring_closed_pipe(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(Pipe(number, "wb", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
