"""The ``auxiliary`` stage: writes one kind of auxiliary data to ``NAME.npz``. NAME is the name of the folder."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_adapt.auxiliary import bilingual, overlaps, piece_bytes, vectors
from nemo_adapt.config import Config
from nemo_adapt.corpora.sample import drawn
from nemo_adapt.run.inputs import Inputs

KINDS: dict[str, Callable[[Config, Inputs], Mapping[str, NDArray[Any]]]] = {
    "bilingual": bilingual.make,
    "overlaps": overlaps.make,
    "piece_bytes": piece_bytes.make,
    "vectors": vectors.make,
}
"""Name of a kind -> the function that computes its arrays."""
TEXTS = {"text", "source_text"}
"""Inputs of which a sample may be read."""


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write ``out/NAME.npz``: plain arrays, no pickled objects."""
    name, settings = out.name.removesuffix(".partial"), config.auxiliary
    with tempfile.TemporaryDirectory(dir=out) as folder:
        read = dict(inputs)
        for key in TEXTS & inputs.keys():
            sampled = settings.sample_documents, settings.seed, Path(folder) / f"{key}.jsonl.zst"
            read[key] = drawn(f"auxiliary ({name})", inputs[key], config.data.text_field, *sampled)
        arrays: dict[str, Any] = dict(KINDS[name](config, read))
    np.savez(out / f"{name}.npz", **arrays)
