"""The ``resize`` stage: the resized model as a checkpoint of its own. ``train`` does the same in memory."""

import logging
from pathlib import Path

import torch.distributed as dist
from megatron.core import dist_checkpointing

from nemo_adapt.checkpoint.common_state import write_common
from nemo_adapt.config import Config
from nemo_adapt.model.build import start_parallel
from nemo_adapt.model.weights import sharded_weights
from nemo_adapt.resize.adapted import load_adapted
from nemo_adapt.resize.strategy_inputs import AUXILIARY
from nemo_adapt.run.inputs import Inputs, of_group
from nemo_adapt.strategy_choice import with_choice


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write the adapted model, before any training, as a ``torch_dist`` checkpoint into ``out``. Runs on every rank."""
    config = with_choice(config, inputs["probe"][0] if "probe" in inputs else None)
    start_parallel(config.parallel, config.resize.seed)
    model_folder, checkpoint, tokenizer = (inputs[name][0] for name in ("model", "checkpoint", "tokenizer"))
    chunks, _ = load_adapted(config, model_folder, checkpoint, tokenizer, of_group(inputs, AUXILIARY))
    # It would say that it replaces a damaged checkpoint: the folder is not empty, but has the note of the stage.
    logging.getLogger("megatron.core.dist_checkpointing.serialization").setLevel(logging.ERROR)
    dist_checkpointing.save({"model": sharded_weights(chunks)}, str(out))
    if dist.get_rank() == 0:
        write_common(out)
