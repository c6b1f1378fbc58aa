"""Time, memory and text of the stages of a run, from the files in their folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.corpora.mixture import COUNTS, counts
from nemo_adapt.run.manifest import read_manifest

TITLES = {"checkpoint": "convert"}
"""Inputs of training whose name differs from that of the stage that makes them."""
NOT_OURS = "model"
"""The base model: making it is not a cost of this run."""
COUNTED = ("tokens", "bytes")
KEPT = ("seconds", "peak_memory_mib")
ON_RANKS = ("train", "probe")


def of_stages(train: Path | None, export: Path, training: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return stage -> seconds, peak memory (MiB), tokens and bytes of text, processes (``ranks``), ``device``.

    The stages before training are those that its manifest names among its inputs, in the run's folder, which may have
    been moved since; files (of the user) and folders that no longer exist are left out. ``training`` is the summary of
    the training; its seconds include all restarts.
    """
    read = read_manifest(train).get("inputs", {}) if train else {}
    folders = {
        _title(key): train.parent.joinpath(*Path(path).parts[-len(key.split(".")) :])
        for key, paths in read.items()
        if train and key != NOT_OURS
        for path in paths
    }
    folders |= {"train": train} if train else {}
    found = {}
    for name, folder in {**folders, "export": export}.items():
        manifest = read_manifest(folder)
        if not manifest:
            continue
        fact = {key: manifest[key] for key in KEPT if key in manifest}
        if (folder / COUNTS).is_file():
            of_set = counts(folder)
            fact |= {key: of_set[key] for key in COUNTED}
        if "processes" in manifest:
            fact["ranks"] = manifest["processes"]
        if name in ON_RANKS:
            fact |= {key: training[key] for key in ("ranks", "device") if key in training}
        if name == "train":
            fact |= {key: training[key] for key in COUNTED if key in training}
            fact["seconds"] = max(fact["seconds"], training.get("seconds", 0.0))
            if "memory_mib" in training:  # of a rank; the manifest has that of the process that started them
                fact["peak_memory_mib"] = training["memory_mib"]
        found[name] = fact
    return found


def _title(key: str) -> str:
    """Return the stage's title for an input, e.g. ``data (target)`` for ``data.target``."""
    stage, _, part = key.partition(".")
    return f"{stage} ({part})" if part else TITLES.get(stage, stage)
