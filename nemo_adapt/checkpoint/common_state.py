"""The unsharded part of a checkpoint, in the file where every version of megatron-core finds it."""

import io
from pathlib import Path

import torch
from megatron.core import dist_checkpointing

from nemo_adapt.checkpoint.folders import COMMON


def write_common(checkpoint: Path) -> None:
    """Write ``common.pt`` next to the files of a checkpoint that was saved without it; on one rank only.

    Since megatron-core 0.19 its contents are stored with the tensors (dist_checkpointing/serialization.py), where
    earlier versions do not look; all versions read the file if it exists.
    """
    if not (checkpoint / COMMON).exists():
        contents = io.BytesIO()  # written below: to a file, torch.save would hide an OSError
        torch.save(dist_checkpointing.load_common_state_dict(str(checkpoint)), contents)
        (checkpoint / COMMON).write_bytes(contents.getbuffer())
