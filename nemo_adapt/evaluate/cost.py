"""What the stages of a run took, as they left it behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.artifact import read_manifest

TITLES = {"checkpoint": "convert"}
"""Inputs of training that are called otherwise than the stage they come from."""
NOT_OURS = "model"
"""The base: what made it is no cost of this run."""
COUNTS, COUNTED = "counts.json", ("tokens", "bytes")
KEPT = ("seconds", "peak_memory_mib")
ON_RANKS = ("train", "probe")


def of_stages(train: Path | None, export: Path, training: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Stage -> seconds and peak memory, tokens and bytes of text, processes (``ranks``) and their ``device``.

    The stages before training are found by what its manifest says that it has read; those that are not there any more
    are left out. ``training``: its summary, whose seconds are those of all its starts.
    """
    read = read_manifest(train).get("inputs", {}) if train else {}
    folders = {_title(key): Path(path) for key, paths in read.items() if key != NOT_OURS for path in paths}
    folders |= {"train": train} if train else {}
    found = {}
    for name, folder in {**folders, "export": export}.items():
        manifest = read_manifest(folder)
        if not manifest:
            continue
        fact = {key: manifest[key] for key in KEPT if key in manifest}
        if (folder / COUNTS).is_file():
            counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
            fact |= {key: counts[key] for key in COUNTED}
        if name in ON_RANKS:
            fact |= {key: training[key] for key in ("ranks", "device") if key in training}
        if name == "train":
            fact |= {key: training[key] for key in COUNTED if key in training}
            fact["seconds"] = max(fact["seconds"], training.get("seconds", 0.0))
        found[name] = fact
    return found


def _title(key: str) -> str:
    """``data (target)`` for the input ``data.target``."""
    stage, _, part = key.partition(".")
    return f"{stage} ({part})" if part else TITLES.get(stage, stage)
