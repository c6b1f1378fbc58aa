"""Read corpora: files or globs of plain text, JSON lines or Parquet, streamed as documents.

A document is one line of a ``.txt`` file, the ``text`` field of one line of a ``.jsonl`` file (both also ``.gz`` and
``.zst``), or one row of a ``.parquet`` file's ``text`` column; another field or column can be named.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from nemo_adapt.console.progress import OnProgress
from nemo_adapt.corpora.lines import Part
from nemo_adapt.corpora.text_files import END, blocks, ignore, read
from nemo_adapt.errors import UserError

SUFFIXES = (".txt", ".txt.gz", ".txt.zst", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
BLANK = b" \t\r\n"
SPLIT_ABOVE = 0.25
"""A file larger than this fraction of one process's share is split; smaller files are not."""
PIECES = 32
"""Parts of a split file per process's share of the bytes."""


def expand(patterns: Iterable[str | Path], key: str) -> list[Path]:
    """Return the files that ``patterns`` (paths or globs) name, sorted within a pattern, each once.

    A file that is named in several ways, as by a relative and an absolute path or by a link, is returned by the first.
    ``key`` is the configuration key that the patterns came from, for error messages. Raises ``UserError`` when a
    pattern matches nothing or a file has an unknown suffix.
    """
    files: dict[Path, Path] = {}
    for pattern in patterns:
        if any("**" in part and part != "**" for part in Path(pattern).parts) and not Path(pattern).is_file():
            raise UserError(f"{key}: {pattern}: ** stands for folders, between slashes, as in **/*.txt")
        matches = [str(pattern)] if Path(pattern).is_file() else _matches(str(pattern))
        if not matches:
            raise UserError(f"{key}: {_no_file(str(pattern))}")
        for match in matches:
            if not match.endswith(SUFFIXES):
                raise UserError(f"{key}: {match} is not one of {', '.join(SUFFIXES)}")
            files.setdefault(Path(match).resolve(), Path(match))
    return list(files.values())


def one_file(pattern: str | Path, key: str) -> Path:
    """Return the only file that ``pattern`` names; ``UserError`` for several, and as ``expand`` raises."""
    (first, *more) = expand([pattern], key)
    if more:
        raise UserError(f"{key}: {pattern} names {1 + len(more)} files; give one")
    return first


def existing(path: str, key: str) -> Path:
    """Return ``path``; ``UserError`` that names ``key`` if it does not exist."""
    if not Path(path).exists():
        raise UserError(f"{key}: {path} does not exist")
    return Path(path)


def by_language(folder: Path, key: str) -> dict[str, Path]:
    """Return language -> file of a folder of texts, one per language, named ``en.txt`` or ``en.dev.txt``.

    ``key`` names the folder in error messages. Raises ``UserError`` where there is no folder, and for two files of a
    language: one would be left out silently.
    """
    if not folder.is_dir():
        raise UserError(f"{key}: {folder} is not a folder")
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES)):
        language = path.name.split(".")[0]
        if language in files:
            raise UserError(f"{key}: {folder} has {files[language].name} and {path.name} for {language!r}; keep one")
        files[language] = path
    return files


def documents(paths: Iterable[Path], field: str = "text") -> Iterator[str]:
    """Yield every non-empty document of ``paths``, without its line end.

    Raises ``UserError`` for a file with no document in it, and for what cannot be read (``text_files.read``).
    """
    for path in paths:
        yield from part_documents(Part(path), field)


def part_documents(part: Part, field: str = "text", on_progress: OnProgress = ignore) -> Iterator[str]:
    """Yield from ``text_files.read``; ``UserError`` for an unsplit file without documents."""
    found = False
    for document in read(part, field, on_progress):
        found = True
        yield document
    _check_found(part, found)


def part_blocks(part: Part, field: str = "text", on_progress: OnProgress = ignore) -> Iterator[bytes]:
    """Yield from ``text_files.blocks``; ``UserError`` for an unsplit file without documents."""
    found = False
    for block in blocks(part, field, on_progress):
        found = found or bool(block.strip(END + BLANK))
        yield block
    _check_found(part, found)


def check_found(parts: Sequence[Part], documents: Mapping[int, int]) -> None:
    """``UserError`` for a file without a document in any of its parts. ``documents``: those of each part, by its
    number."""
    found = Counter({part.path: 0 for part in parts})
    for number, part in enumerate(parts):
        found[part.path] += documents[number]
    for path, amount in found.items():
        if not amount:
            raise no_document(path)


def _check_found(part: Part, found: bool) -> None:
    if not found and part.of == 1:
        raise no_document(part.path)


def no_document(path: Path) -> UserError:
    """Return the error for a file without documents."""
    if path.stat().st_size:
        return UserError(f"{path} holds no document, only blank lines or rows; give a file with at least one document")
    return UserError(f"{path}: the file is empty; give a file with at least one document")


def parts(paths: Iterable[Path], processes: int) -> list[Part]:
    """Split files for concurrent reading by ``processes``: complete files and parts of large ones, largest first.

    Idle processes take the next part, which balances the load. A compressed file must be read from its beginning for
    each of its parts, so it gets at most one part per process; other files get smaller parts.
    """
    sizes = {path: path.stat().st_size for path in paths}
    share = sum(sizes.values()) / processes
    found: list[tuple[float, Part]] = []
    for path, size in sizes.items():
        pieces = math.ceil(PIECES * size / share) if processes > 1 and size > SPLIT_ABOVE * share else 1
        count = min(pieces, processes) if Part(path).is_compressed else pieces
        found += [(size / count, Part(path, index, count)) for index in range(count)]
    return [part for _, part in sorted(found, key=lambda entry: -entry[0])]


def batches(stream: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the documents of a stream, ``size`` at a time."""
    remaining = iter(stream)
    while batch := list(islice(remaining, size)):
        yield batch


def total_bytes(paths: Iterable[Path]) -> int:
    """Return the size of the files on disk, in bytes, for progress bars; of compressed files, the compressed size."""
    return sum(path.stat().st_size for path in paths)


def _no_file(pattern: str) -> str:
    """Explain why a path or glob names no file, and what to do."""
    path = Path(pattern)
    if not pattern:
        return "the name of a file is empty; give files or globs"
    if path.is_dir():
        return f"{pattern} is a folder; give files or a glob, as {path / '*.txt'}"
    if path.exists():  # a pipe, as of the shell's <(...), or a device
        return f"{pattern} is no regular file, and text is read more than once; write it to a file"
    if path.is_symlink():
        return f"{pattern} is a broken link; fix it or give another file"
    if pattern.startswith(("~", "$")):
        return f"no file matches {pattern!r}: nothing is expanded here but ${{oc.env:HOME}} for a variable"
    return f"no file matches {pattern!r}"


def _matches(pattern: str) -> list[str]:
    """Return the files that a glob matches, none for a folder; relative globs start from the current folder."""
    if not pattern or Path(pattern).is_dir():
        return []
    anchor = Path(Path(pattern).anchor or ".")
    return sorted(str(path) for path in anchor.glob(pattern.removeprefix(anchor.anchor)) if path.is_file())
