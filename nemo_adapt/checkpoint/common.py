"""What of a checkpoint is not sharded, in the file where every megatron-core finds it."""

import io
from pathlib import Path

import torch
from megatron.core import dist_checkpointing

from nemo_adapt.checkpoint.whole import COMMON


def write_common(checkpoint: Path) -> None:
    """Put ``common.pt`` beside the files of a checkpoint that was saved without it; for one rank alone.

    Since megatron-core 0.19 what it holds lies among the tensors (dist_checkpointing/serialization.py), where those
    before do not look; all of them read the file if it is there.
    """
    if not (checkpoint / COMMON).exists():
        contents = io.BytesIO()  # of a file torch says in its own way that it could not be written
        torch.save(dist_checkpointing.load_common_state_dict(str(checkpoint)), contents)
        (checkpoint / COMMON).write_bytes(contents.getbuffer())
