"""``nemo-adapt fertility``: any tokenizers on any texts, as a table on the terminal, JSON, CSV and a plot.

    nemo-adapt fertility 'tokenizers=[/a,/b/tokenizer.model]' parallel=/data/flores200-dev reference=en out=fertility

The disparity of a language is a tokenizer's tokens for its text over the *same* tokenizer's tokens for the reference
language's text, where both are line-aligned.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import recipes
from nemo_adapt.console.printed import print_table
from nemo_adapt.console.progress import say
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.tokens import fertility
from nemo_adapt.tokens.fertility import Row
from nemo_adapt.tokens.token_map import FILE_NAME, TokenMap

NAMED_BY_PARENT = {"tokenizer", "export"}
"""Folders of a run that are labelled with the name of their parent folder."""
COLUMNS = {
    "tokens_per_word": "tokens/word",
    "bytes_per_token": "bytes/token",
    "disparity": "disparity",
    "partial_share": "partial",
    "new_used_share": "new used",
}
"""Column of the rows -> its heading on the terminal; the last two are shares."""


@dataclass
class FertilityConfig:
    tokenizers: list[str] = field(default_factory=list)
    """Folders, ``tokenizer.json`` or ``tokenizer.model`` files."""
    parallel: Any = field(default_factory=list)
    """A folder, or a list of folders, of line-aligned texts, one file per language: ``en.txt``, ``tr.txt``, ..."""
    languages: list[str] = field(default_factory=list)
    """Languages of ``parallel`` to measure; empty means all."""
    texts: dict[str, str] = field(default_factory=dict)
    """Language -> text file; these need not be aligned."""
    text_field: str = "text"
    """The field of ``.jsonl`` lines, the column of ``.parquet`` files."""
    reference: str = "en"
    """The language whose token count is the unit of disparity (1.0)."""
    out: str = "fertility"
    """Folder for ``fertility.json``, ``fertility.csv`` and ``fertility.png``."""


@dataclass(frozen=True)
class Text:
    """One text to measure; those of one ``group`` are translations of each other."""

    group: str
    language: str
    path: Path


def main(words: list[str]) -> None:
    """Run the command: measure, print and write. ``UserError`` for missing keys and for files that cannot be read."""
    config = recipes.parse(FertilityConfig, words)
    if not config.tokenizers:
        raise UserError("no value for tokenizers: give it folders or files, 'tokenizers=[A,B]'")
    texts = list(_texts(config))
    paths = [Path(name) for name in config.tokenizers]
    rows = [row for name, path in zip(labels(paths), paths, strict=True) for row in measure(name, path, texts, config)]
    add_disparity(rows, config.reference)
    if config.parallel and config.reference not in {text.language for text in texts}:
        say(f"reference={config.reference} is no language of these texts: no disparity is measured")
    show(rows)
    write(rows, Path(config.out))


def labels(paths: Sequence[Path]) -> list[str]:
    """Return short names for tokenizers: the folder's name, or the full path where that is not unique."""
    names = []
    for path in paths:
        folder = path.resolve().parent if path.is_file() else path.resolve()
        names.append((folder.parent if folder.name in NAMED_BY_PARENT else folder).name)
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def measure(name: str, path: Path, texts: Sequence[Text], config: FertilityConfig) -> Iterator[Row]:
    """Yield the rows of one tokenizer. ``new_used_share`` is ``None`` without a ``token_map.json`` beside it."""
    tokenizer = hf_tokenizer.load(path)
    partial = fertility.partial_tokens(tokenizer)
    folder = path.parent if path.is_file() else path
    new = [token.id for token in TokenMap.load(folder).tokens] if (folder / FILE_NAME).is_file() else []
    for each in texts:
        counts = fertility.token_counts(tokenizer, each.path, config.text_field)
        yield {
            **fertility.measure(name, each.language, each.path, int(counts.sum()), config.text_field),
            "group": each.group,
            "partial_share": fertility.share(counts, partial),
            "new_used_share": round(float(np.mean(counts[new] > 0)), 4) if new else None,
        }


def add_disparity(rows: Sequence[Row], reference: str) -> None:
    """Set ``disparity`` of each row: ``None`` if the reference text is missing or has another number of sentences."""
    yardsticks = {(row["tokenizer"], row["group"]): row for row in rows if row["language"] == reference}
    for row in rows:
        row["disparity"] = fertility.ratio(row, yardsticks.get((row["tokenizer"], row["group"])))


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    names = ("tokenizer", "text", "language")
    values = ([_shown(column, row[column]) for column in COLUMNS] for row in rows)
    lines = [(row["tokenizer"], row["group"], row["language"], *of) for row, of in zip(rows, values, strict=True)]
    print_table([*names, *COLUMNS.values()], lines, texts=len(names))


def write(rows: Sequence[Row], out: Path) -> None:
    """Write the rows as JSON, CSV and, where there is a disparity to draw, a plot."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "fertility.json", list(rows))
    with (out / "fertility.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if any(row["disparity"] is not None for row in rows):
        plot(rows, out / "fertility.png")
    say(f"written to {out}")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot the disparity: a group of bars per text and language, a bar per tokenizer."""
    from nemo_adapt.figures import DPI, INK, color, legend, new_figure  # imports matplotlib

    drawn = [row for row in rows if row["disparity"] is not None]
    groups = {row["group"] for row in drawn}
    place = {key: i for i, key in enumerate(dict.fromkeys((row["group"], row["language"]) for row in drawn))}
    names = list(dict.fromkeys(row["tokenizer"] for row in drawn))
    size_inches = (max(5.4, 0.35 * len(place) * (len(names) + 1)), 3.2)
    figure, axes = new_figure("tokens over the reference language's", size_inches=size_inches)
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        own = [row for row in drawn if row["tokenizer"] == name]
        left = [place[row["group"], row["language"]] + (i - (len(names) - 1) / 2) * width for row in own]
        axes.bar(left, [row["disparity"] for row in own], width * 0.92, color=color(i), label=name)
    ticks = [language if len(groups) == 1 else f"{language}\n{group}" for group, language in place]
    axes.set_xticks(range(len(place)), ticks)
    axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
    legend(axes, len(names))
    figure.savefig(path, dpi=DPI)


def _texts(config: FertilityConfig) -> Iterator[Text]:
    """Yield the texts of the configuration; ``UserError`` when there are none."""
    folders = config.parallel if isinstance(config.parallel, list) else [config.parallel]
    found = []
    for folder in map(Path, map(str, folders)):
        files = text.by_language(folder, "parallel")
        if not files:
            raise UserError(f"parallel: {folder} holds no text ({', '.join(text.SUFFIXES)})")
        for language in config.languages or files:
            if language not in files:
                raise UserError(f"languages: {folder} has no text of {language!r}, only of {', '.join(files)}")
            found.append(Text(folder.resolve().name, language, files[language]))
    for language, name in config.texts.items():
        found.append(Text("texts", language, text.one_file(name, f"texts.{language}")))
    if not found:
        raise UserError("no text to measure: give parallel=FOLDER or 'texts={LANG: FILE}'")
    yield from found


def _shown(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if column.endswith("_share") else f"{value:.2f}"
