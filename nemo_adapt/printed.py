"""Tables and times as commands print them."""

import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta

WIDEST = 1000
"""Columns where there is no terminal: who looks for words in a log must not find them on two lines."""


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int | None = None) -> None:
    """Print one table: as wide as the terminal, or as wide as it is. Columns behind the first ``texts`` are numbers."""
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
    """Days, hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def ago(seconds: float) -> str:
    """The same of what has passed."""
    return f"{span(max(0.0, seconds))} ago"
