"""The ``resize`` stage: the resized model as a checkpoint of its own. ``train`` does the same in memory."""

from pathlib import Path

from megatron.core import dist_checkpointing

from nemo_adapt.artifact import Inputs
from nemo_adapt.config import Config
from nemo_adapt.model.build import start_parallel
from nemo_adapt.resize.adapted import load_adapted


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write the adapted model, before any training, as a ``torch_dist`` checkpoint into ``out``. Runs on every rank."""
    start_parallel(config.parallel, config.resize.seed)
    model, _ = load_adapted(config, inputs["model"][0], inputs["checkpoint"][0], inputs["tokenizer"][0])
    dist_checkpointing.save({"model": model.sharded_state_dict()}, str(out))
