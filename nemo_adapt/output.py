"""Standard output and standard error whose reader may go away: ``nemo-adapt launch ... | head -1``.

What a command does, and its exit code, do not depend on who reads to its end.
"""

import contextlib
import io
import os
import stat
import sys
from typing import Any, TextIO


class Pipe(io.FileIO):
    """A pipe to a reader. Once it has gone away, what is written goes nowhere, also what processes write that are
    started later."""

    is_unread = False

    def write(self, data: Any, /) -> Any:
        """As a file's."""
        try:
            return super().write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.is_unread = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)


def outlive_readers() -> None:
    """Have ``sys.stdout`` and ``sys.stderr`` go on without their readers, where they are pipes."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and _is_pipe(stream, number):
            stream.flush()
            setattr(sys, name, _outliving(stream, number))


def is_read() -> bool:
    """Whether somebody may be reading standard output: false once a reader has gone away."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return not (isinstance(raw, Pipe) and raw.is_unread)


def _is_pipe(stream: TextIO, number: int) -> bool:
    """Whether a stream is that of a file descriptor, and somebody reads the other end of it."""
    with contextlib.suppress(OSError, ValueError):  # one that was closed, or has none
        mode = os.fstat(stream.fileno()).st_mode
        return stream.fileno() == number and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
    return False


def _outliving(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(Pipe(number, "wb", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
