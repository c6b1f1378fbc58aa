"""A cache of results by model: nothing is measured twice with the same weights, text and settings."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nemo_adapt.files import write_json

DETERMINING = (".safetensors", ".json", ".model", ".tiktoken")
"""Suffixes of the files in a model folder that determine its output; our own files (``OURS``) do not."""
OURS = ("manifest.json", "started.json", "token_map.json")


class Cache:
    """A folder with one JSON file for each result of each model; without a folder nothing is cached."""

    def __init__(self, folder: Path | None, paths: tuple[Path, ...]) -> None:
        self.folder = folder
        self.model = _hash([_content(path) for path in paths]) if folder else ""
        """Fingerprint of the files of the model and its tokenizer."""

    def get(self, what: str, deciding: Any, make: Callable[[], Any]) -> Any:
        """Return the result of ``make()`` as JSON stores it, from the cache if it is there.

        ``what`` names the kind of result; ``deciding`` holds everything except the model that the result depends on.
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{what}-{_hash([what, self.model, deciding])}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, made)
        return json.loads(path.read_text(encoding="utf-8"))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _content(path: Path) -> list[str]:
    """Return name and hash of each file that counts. A file that the user names counts whatever its name is: a
    tokenizer's may be any (``tokenizer.model.v3``)."""
    if not path.is_dir():
        return [f"{path.name} {_whole_hash(path)}"]
    kept = [file for file in sorted(path.iterdir()) if file.suffix in DETERMINING and file.name not in OURS]
    return [f"{file.name} {_whole_hash(file)}" for file in kept]


def _whole_hash(file: Path) -> str:
    """Return the hash of all of a file: two models may differ in a few rows of a table, which samples miss."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
