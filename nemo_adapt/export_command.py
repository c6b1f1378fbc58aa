"""``nemo-adapt export-hf``: any checkpoint of a training, also of one that goes on, as a Hugging Face folder.

    nemo-adapt export-hf checkpoint=runs/tr/train/checkpoints/iter_0000500 model=/models/llama \\
        tokenizer=runs/tr/tokenizer out=/models/llama-tr-500
"""

from dataclasses import dataclass, field
from pathlib import Path

from nemo_adapt import artifact, recipes
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import ExportConfig
from nemo_adapt.export import export_checkpoint
from nemo_adapt.hf_folder import read_config
from nemo_adapt.progress import say
from nemo_adapt.token_map import TokenMap


@dataclass
class ExportHfConfig:
    checkpoint: str = ""
    """Folder of a complete Megatron checkpoint."""
    model: str = ""
    """The base model's Hugging Face folder, for its config.json."""
    tokenizer: str = ""
    """Folder of the extended tokenizer, with its token_map.json."""
    out: str = ""
    """Folder that is made."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """``export.shard_mib`` and the others, as in a recipe."""


def main(words: list[str]) -> None:
    """The command. ``UserError`` for missing words, and for what is no checkpoint, model or tokenizer."""
    config = recipes.parse(ExportHfConfig, words)
    recipes.require("export-hf", config, ("checkpoint", "model", "tokenizer", "out"))
    checkpoint, model, tokenizer = Path(config.checkpoint), Path(config.model), Path(config.tokenizer)
    # What is not there is said before anything is hashed.
    Checkpoint(checkpoint)
    read_config(model)
    TokenMap.load(tokenizer)
    deciding = {"shard_mib": config.export.shard_mib, "pad_vocab_to": config.export.pad_vocab_to}
    inputs = {"checkpoint": [checkpoint], "model": [model], "tokenizer": [tokenizer]}
    stage = artifact.Stage("export-hf", Path(config.out), deciding, inputs, keeps=True)
    if stage.finished:
        say(f"{config.out} was finished before")
        return
    artifact.run(stage, lambda place: export_checkpoint(checkpoint, model, tokenizer, place, config.export))
    say(f"written to {config.out}")
