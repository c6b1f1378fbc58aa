"""The documents of a part of a Parquet file: the rows of one column."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from nemo_adapt.console.progress import OnProgress
from nemo_adapt.corpora.lines import GROUP, Part
from nemo_adapt.errors import UserError


def numbered_documents(part: Part, field: str, on_progress: OnProgress) -> Iterator[tuple[int, str]]:
    """Yield the non-empty documents of a part's row groups, each after the number of its block.

    ``field`` names the column, or several between slashes: the first that the file has. ``on_progress`` gets bytes on
    disk. Raises ``UserError`` for a damaged file, and for a column that is missing, ambiguous or not of strings.
    """
    import pyarrow
    import pyarrow.parquet

    path = part.path
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            column = _column(path, file.schema_arrow, field.split("/"))
            count = file.num_row_groups
            groups = range(count * part.index // part.of, count * (part.index + 1) // part.of)
            share = path.stat().st_size / max(1, file.metadata.num_rows)
            batches = chain.from_iterable(file.iter_batches(GROUP, [group], [column]) for group in groups)
            for block, batch in enumerate(batches):
                for value in batch.column(0).to_pylist():
                    if value and (document := value.strip()):
                        yield block, document
                on_progress(share * batch.num_rows)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a Parquet file, or is damaged: {reason}") from None


def _column(path: Path, schema: Any, names: Sequence[str]) -> str:
    """Return the first of ``names`` that the file has a column of, which must be text."""
    import pyarrow

    if not (found := [name for name in names if name in schema.names]):
        wanted, named = " or ".join(map(repr, names)), ", ".join(schema.names)
        raise UserError(f"{path} has no column {wanted}, only {named}: name the one with the text in data.text_field")
    field = found[0]
    if schema.names.count(field) > 1:
        raise UserError(f"{path} has several columns {field!r}: give each its own name")
    kind = schema.field(field).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if str(kind) not in ("string", "large_string", "string_view"):
        raise UserError(f"{path}: column {field!r} holds {kind}, not strings; name another in data.text_field")
    return field
