"""The ``auxiliary`` stage: one kind of auxiliary data into ``NAME.npz``. NAME is the name of the folder."""

from pathlib import Path

import numpy as np

from nemo_adapt.artifact import Inputs
from nemo_adapt.auxiliary import bilingual, meetings, piece_bytes, vectors
from nemo_adapt.config import Config

KINDS = {
    "bilingual": bilingual.make,
    "meetings": meetings.make,
    "piece_bytes": piece_bytes.make,
    "vectors": vectors.make,
}
"""Name -> what makes its arrays."""


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write ``out/NAME.npz``: plain arrays, no pickled objects."""
    name = out.name.removesuffix(".partial")
    np.savez(out / f"{name}.npz", **KINDS[name](config, inputs))
