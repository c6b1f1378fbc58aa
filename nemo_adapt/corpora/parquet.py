"""The documents of a part of a Parquet file: the rows of one column."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from nemo_adapt.console.progress import OnProgress
from nemo_adapt.corpora.lines import GROUP, Part
from nemo_adapt.errors import UserError


def numbered_documents(part: Part, field: str, on_progress: OnProgress) -> Iterator[tuple[int, str]]:
    """Yield the non-empty documents of a part's row groups, each after the number of its block.

    ``field`` names the column; ``on_progress`` gets bytes on disk. Raises ``UserError`` for a damaged file, and for a
    column that is missing, ambiguous or not of strings.
    """
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
