"""``nemo-adapt inspect``: compare the new rows of both tables with the base model's: norms, neighbours, a PCA plot.

    nemo-adapt inspect run=runs/demo
    nemo-adapt inspect base=/models/llama adapted=runs/demo/export 'tokens=[ev,geldi]' out=inspect

For a run, it reads the exported model or, if there is none yet, the checkpoint of the ``resize`` stage.
"""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nemo_adapt import hf_tokenizer
from nemo_adapt.checkpoint import tables
from nemo_adapt.checkpoint.tables import Table
from nemo_adapt.config import recipes
from nemo_adapt.config.bounds import check_positive
from nemo_adapt.console.printed import print_table
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.inspection import measures
from nemo_adapt.registry import nearest
from nemo_adapt.run.manifest import read_manifest
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import FILE_NAME, TokenMap

Report = dict[str, Any]


@dataclass
class InspectConfig:
    run: str = ""
    """Folder of a run; gives the defaults of ``base`` and ``tokenizer``, and replaces ``adapted``."""
    base: str = ""
    """Hugging Face folder of the base model."""
    adapted: str = ""
    """Hugging Face folder of the adapted model."""
    tokenizer: str = ""
    """Folder of the extended tokenizer; empty means ``adapted``."""
    tokens: list[str] = field(default_factory=list)
    """Texts of the new tokens to show; empty means the most frequent ones."""
    show: int = 12
    """Number of most frequent tokens to show."""
    neighbours: int = 5
    """Number of nearest base tokens to list for each."""
    out: str = ""
    """Folder for the results; empty means ``inspect`` in the run's folder, else in the working directory."""


@dataclass(frozen=True)
class Subject:
    """The models to compare, and their tokens."""

    base: dict[str, Table]
    adapted: dict[str, Table]
    texts: list[str]
    """Text of each token, by id of the extended tokenizer."""
    kept: int
    """Number of ids of the base tokenizer; the rows below it are kept, those from it on are new."""
    frequent: list[int]
    """New ids, the most frequent first."""
    out: Path


def main(words: list[str]) -> None:
    """Run the command with ``key=value`` words. ``UserError`` for models or tokens that cannot be inspected."""
    config = recipes.parse(InspectConfig, words)
    check_positive(config, "show", "neighbours")
    subject = _of_run(config) if config.run else _of_folders(config)
    ids = chosen(subject, config)
    report, views = {}, {}
    for name, table in subject.adapted.items():
        report[name] = inspect(subject, name, table, ids, config.neighbours)
        views[name] = measures.projection(table, subject.kept, len(subject.texts))
    show(report)
    write(report, subject.out)
    from nemo_adapt.inspection.plot import views as draw

    draw(views, subject.out / "inspect.png")
    say(f"written to {subject.out}")


def inspect(subject: Subject, name: str, table: Table, ids: list[int], count: int) -> Report:
    """Return a table's norms of base, kept and new rows, and the ``count`` kept rows nearest to each row of ``ids``."""
    base = measures.norms(subject.base[name], 0, subject.kept)
    kept = measures.norms(table, 0, subject.kept)
    new = measures.norms(table, subject.kept, len(subject.texts))
    found = measures.neighbours(table, subject.kept, ids, count)
    return {
        "norms": {
            kind: asdict(measures.describe(values, base))
            for kind, values in (("base", base), ("kept", kept), ("new", new))
        },
        "neighbours": [
            {
                "id": row,
                "token": subject.texts[row],
                "norm": float(new[row - subject.kept]),
                "nearest": [{"id": of, "token": subject.texts[of], "cosine": value} for of, value in near],
            }
            for row, near in zip(ids, found, strict=True)
        ],
    }


def chosen(subject: Subject, config: InspectConfig) -> list[int]:
    """Return the ids of the new tokens to show; ``UserError`` for a text that is not one, with a suggestion."""
    if not config.tokens:
        return subject.frequent[: config.show]
    exact = {subject.texts[row]: row for row in reversed(subject.frequent)}
    stripped = {text.strip(): row for text, row in exact.items()}
    for text in config.tokens:
        if text not in exact and text.strip() not in stripped:
            raise UserError(f"tokens: {text!r} is not a new token.{nearest(text, stripped)}")
    return [exact[text] if text in exact else stripped[text.strip()] for text in config.tokens]


def show(report: Report) -> None:
    """Print the norms and the neighbours."""
    norms = ("rows", "count", "1%", "median", "99%", "outside base's 1-99%", "outside base's range")
    for name, facts in report.items():
        say(f"{name} table: norms")
        rows = []
        for kind, of in facts["norms"].items():
            values = [f"{of[key]:.3f}" for key in ("low", "median", "high")]
            rows.append((kind, f"{of['rows']:,}", *values, f"{of['unusual']:.1%}", f"{of['outside']:.1%}"))
        print_table(norms, rows, texts=1)
        say(f"\n{name} table: nearest base tokens (cosine)")
        near = [
            "  ".join(f"{of['token']!r} {of['cosine']:.2f}" for of in row["nearest"]) for row in facts["neighbours"]
        ]
        tokens = [(repr(row["token"]), f"{row['norm']:.3f}") for row in facts["neighbours"]]
        print_table(["new token", "norm", "nearest"], [(*token, of) for token, of in zip(tokens, near, strict=True)])
        say("")


def write(report: Report, out: Path) -> None:
    """Write ``inspect.json``, ``norms.csv`` and ``neighbours.csv``."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "inspect.json", report)
    norms = [{"table": name, "of": kind, **of} for name, facts in report.items() for kind, of in facts["norms"].items()]
    near = [
        {"table": name, "id": row["id"], "token": row["token"], "norm": row["norm"], "neighbour": of["token"],
         "neighbour_id": of["id"], "cosine": of["cosine"]}
        for name, facts in report.items() for row in facts["neighbours"] for of in row["nearest"]
    ]  # fmt: skip
    for path, rows in ((out / "norms.csv", norms), (out / "neighbours.csv", near)):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)


def _of_run(config: InspectConfig) -> Subject:
    """Read a run's exported model or, if there is none, the checkpoint of ``resize``."""
    root = Path(config.run)
    if not (root / "config.yaml").is_file():
        raise UserError(f"run: {root} is not a run's folder (no config.yaml)")
    settings = recipes.read(root / "config.yaml")
    run = RunFolder(root, settings.export.dir)
    export, resized = run["export"], run["resize"]
    if read_manifest(export):
        adapted = tables.of_folder(export)
    elif read_manifest(resized):
        adapted = tables.of_checkpoint(resized)
    else:
        raise UserError(f"{root} has no adapted model yet: run the resize stage, or train and export")
    base = config.base or settings.model.path
    return _subject(
        Path(base), adapted, Path(config.tokenizer or run["tokenizer"]), Path(config.out or root / "inspect")
    )


def _of_folders(config: InspectConfig) -> Subject:
    if not config.base or not config.adapted:
        raise UserError("name what to inspect: run=FOLDER, or base=FOLDER adapted=FOLDER")
    tokenizer = Path(config.tokenizer or config.adapted)
    _check_base_tokens(Path(config.base), tokenizer)
    return _subject(Path(config.base), tables.of_folder(Path(config.adapted)), tokenizer, Path(config.out or "inspect"))


def _subject(base: Path, adapted: Mapping[str, Table], tokenizer: Path, out: Path) -> Subject:
    """Read the base tables and the tokenizer; ``UserError`` if base, adapted and tokenizer do not belong together."""
    loaded = hf_tokenizer.load(tokenizer)
    names = loaded.convert_ids_to_tokens(list(range(documents.vocabulary_size(loaded))))
    contents = documents.token_contents(loaded)
    texts = [_text(content, str(name)) for content, name in zip(contents, names, strict=True)]
    before = tables.of_folder(base)
    if (tokenizer / FILE_NAME).is_file():
        token_map = TokenMap.load(tokenizer)
        kept = token_map.source_vocab
        frequent = [token.id for token in sorted(token_map.tokens, key=lambda token: -token.count)]
    else:
        kept = documents.vocabulary_size(hf_tokenizer.load(base))
        frequent = list(range(kept, len(texts)))  # ids follow the order of learning, frequent first
    if not frequent:
        raise UserError(f"{tokenizer} has no new tokens over {base}: there is nothing to inspect")
    for name, table in adapted.items():
        if name not in before or table.rows < len(texts) or before[name].rows < kept:
            other = before[name].rows if name in before else "none"
            raise UserError(
                f"the {name} table has {table.rows} rows adapted and {other} in {base}, but the tokenizer has "
                f"{len(texts)} and {kept} tokens: they do not belong together"
            )
    return Subject(before, dict(adapted), texts, kept, frequent, out)


def _check_base_tokens(base: Path, extended: Path) -> None:
    """``UserError`` if an id of the base tokenizer is another token in the extended one."""
    ours, theirs = hf_tokenizer.load(base), hf_tokenizer.load(extended)
    ids = list(range(documents.vocabulary_size(ours)))
    pairs = zip(ours.convert_ids_to_tokens(ids), theirs.convert_ids_to_tokens(ids), strict=True)
    for row, (token, other) in enumerate(pairs):
        if token != other:
            raise UserError(
                f"token {row} is {token!r} in {base} and {other!r} in {extended}: they do not belong together"
            )


def _text(content: bytes, name: str) -> str:
    """Return a token's text, or its name if the text is empty or not valid UTF-8."""
    try:
        return content.decode("utf-8") or name
    except UnicodeDecodeError:
        return name
