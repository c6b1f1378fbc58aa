"""The text sets that a model is trained on, by name, with their shares of the training; held-out texts and tasks."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.config import Config, EvaluateConfig
from nemo_adapt.corpora.text import existing, expand, one_file
from nemo_adapt.errors import UserError
from nemo_adapt.files import read_object

TARGET, REPLAY = "target", "replay"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Allowed names of sets, which become names of folders and files."""
SHARES_IN = ("tokens", "bytes")
COUNTS = "counts.json"
"""File in the folder of a tokenized set."""
REMEDY = "run the data stage again"
MOST_DOCUMENTS = (1 << 31) - 1
"""Documents that one set can have: Megatron numbers them with 32 bits and would wrap
(blended_megatron_dataset_builder.py, gpt_dataset.py)."""


@dataclass(frozen=True)
class TextSet:
    """One set of text."""

    key: str
    """The configuration key of its files, for error messages."""
    text: list[str]
    """Files or globs."""
    share: float
    """Share of the training, in the unit ``data.shares_in``; a set with share 0 is tokenized but not trained on."""


def text_sets(config: Config) -> dict[str, TextSet]:
    """Return all sets of a configuration, the target first; its share is what the others leave.

    Raises ``UserError`` for shares that leave it nothing, for a set without files, and for a name that is taken or not
    a valid file name.
    """
    data = config.data
    if data.shares_in not in SHARES_IN:
        raise UserError(f"data.shares_in={data.shares_in!r} is neither tokens nor bytes")
    others = {REPLAY: TextSet("data.replay", data.replay, data.replay_share)} if data.replay else {}
    for name, given in data.sets.items():
        if name in (TARGET, REPLAY):
            raise UserError(f"data.sets.{name}: the name is taken, its files are given as data.{name}")
        if not NAME.fullmatch(name):
            raise UserError(f"data.sets.{name}: a set's name is made of letters, digits, - and _")
        if not given.text:
            raise UserError(f"no value for data.sets.{name}.text: give it files or globs")
        if given.share <= 0:
            raise UserError(f"data.sets.{name}.share={given.share} must be above 0")
        others[name] = TextSet(f"data.sets.{name}.text", given.text, given.share)
    shares = {_share_key(name): each.share for name, each in others.items()}
    left = 1.0 - sum(shares.values())
    if left <= 1e-9 or any(share < 0 for share in shares.values()):
        listed = ", ".join(f"{key}={share}" for key, share in shares.items())
        raise UserError(f"{listed}: shares must be above 0 and leave some of 1 to data.target")
    return {TARGET: TextSet("data.target", data.target, left), **others}


def held_out_texts(config: Config) -> dict[str, Path]:
    """Return the held-out text file of each language; nothing is trained on it."""
    return {name: one_file(text, f"evaluate.texts.{name}") for name, text in config.evaluate.texts.items()}


def task_files(settings: EvaluateConfig) -> dict[str, Path]:
    """Return ``KIND.LANGUAGE`` -> file or folder of ``evaluate.tasks``; ``UserError`` for one that does not exist."""
    given = {f"{kind}.{name}": path for kind, of in settings.tasks.items() for name, path in of.items()}
    return {name: existing(path, f"evaluate.tasks.{name}") for name, path in given.items()}


def trained_and_held_out(config: Config) -> list[str]:
    """Return a line for each file that is both trained on and held out."""
    held_out = {path.resolve(): f"evaluate.texts.{name}" for name, path in held_out_texts(config).items()}
    return [
        f"{held_out[path.resolve()]}: {path} is also in {each.key}: its scores say nothing about other text"
        for each in text_sets(config).values()
        for path in expand(each.text, each.key)
        if path.resolve() in held_out
    ]


def check_target(target: str, texts: Collection[str]) -> None:
    """Raise ``UserError`` if ``evaluate.target`` is not a language of the held-out texts."""
    if target not in texts:
        raise UserError(f"evaluate.target={target!r} is not a language of evaluate.texts ({', '.join(texts)})")


def counts(folder: Path) -> dict[str, int]:
    """Return the documents, tokens and bytes of a set. ``FileNotFoundError`` where it is not tokenized yet, and
    ``UserError`` if the file is damaged."""
    found = read_object(folder / COUNTS, REMEDY)
    if not all(isinstance(found.get(name), int) for name in ("documents", "tokens", "bytes")):
        raise UserError(f"{folder / COUNTS} is damaged: numbers are missing; {REMEDY}")
    return found


def check_documents(name: str, documents: int) -> None:
    """Raise ``UserError`` for more documents than a set can have."""
    if documents > MOST_DOCUMENTS:
        raise UserError(
            f"text set {name}: {documents:,} documents are more than the {MOST_DOCUMENTS:,} that one set can have: "
            "give some of its files as another set (data.sets.NAME)"
        )


def token_shares(config: Config, folders: Mapping[str, Path]) -> dict[str, float]:
    """Return the share of the training tokens that comes from each set that is trained on.

    Shares in bytes are converted with the ``counts`` of each set's folder: ``FileNotFoundError`` where a set has not
    been tokenized yet.
    """
    trained = {name: each.share for name, each in text_sets(config).items() if each.share}
    if config.data.shares_in == "tokens":
        return trained
    tokens = {name: share / _bytes_per_token(folders[name]) for name, share in trained.items()}
    return {name: each / sum(tokens.values()) for name, each in tokens.items()}


def bytes_per_token(config: Config, folders: Mapping[str, Path]) -> float:
    """Return the mean bytes of text per token of the mix; ``FileNotFoundError`` where a set is not tokenized yet."""
    shares = token_shares(config, folders)
    return sum(share * _bytes_per_token(folders[name]) for name, share in shares.items())


def passes(config: Config, folders: Mapping[str, Path], tokens: int) -> dict[str, float]:
    """Return how often each set that is trained on is read in a training of so many ``tokens``."""
    shares = token_shares(config, folders)
    return {name: tokens * share / counts(folders[name])["tokens"] for name, share in shares.items()}


def _bytes_per_token(folder: Path) -> float:
    """Return the bytes of text per token of one set, counted when it was tokenized."""
    found = counts(folder)
    return found["bytes"] / found["tokens"]


def _share_key(name: str) -> str:
    return "data.replay_share" if name == REPLAY else f"data.sets.{name}.share"
