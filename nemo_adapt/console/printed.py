"""Tables, times and sizes as commands print them."""

import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta

WIDEST = 1000
"""Width in columns without a terminal: a row in a log must not break over lines, so that it can be searched."""


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int | None = None) -> None:
    """Print a table, wrapped only on a terminal. Columns after the first ``texts`` (default: all) are right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if texts is None or number < texts else "right")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else WIDEST
    Console(width=width, markup=False, highlight=False).print(table)


def span(seconds: float) -> str:
    """Format a duration as days, hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def ago(seconds: float) -> str:
    """Format the time since an event, at least 0."""
    return f"{span(max(0.0, seconds))} ago"


def data_size(count: float) -> str:
    """Format a number of bytes with a decimal unit."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count / 1e3:,.1f} kB"


def memory_size(count: float) -> str:
    """Format a number of bytes of memory with a binary unit."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
