"""``nemo-adapt export-bridge``: any Megatron checkpoint as a folder that Megatron-Bridge opens.

    nemo-adapt export-bridge checkpoint=runs/tr/train/checkpoints model=/models/llama \\
        tokenizer=runs/tr/tokenizer out=/checkpoints/llama-tr
"""

from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.bridge import checkpoint as bridge
from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.run import artifact
from nemo_adapt.run.restart import Restart


@dataclass
class ExportBridgeConfig:
    checkpoint: str = ""
    """Folder of a complete Megatron checkpoint, or of several, of which the newest is taken."""
    model: str = ""
    """The model's Hugging Face folder, or that of the base it was extended from, for its config.json."""
    tokenizer: str = ""
    """Folder of the tokenizer: the extended one with its token_map.json, or that of the model itself."""
    out: str = ""
    """Folder to create."""
    pad_vocab_to: int = 1
    """Bridge pads the tables to a multiple of this times TP when it builds the model (128 is usual on GPUs). Bridge 0.3
    keeps the padded rows when it exports to Hugging Face; 1 adds none at TP=1."""


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for missing settings, and for a wrong checkpoint, model or tokenizer."""
    config = recipes.parse(ExportBridgeConfig, words)
    recipes.require("export-bridge", config, ("checkpoint", "model", "tokenizer", "out"))
    if config.pad_vocab_to < 1:
        raise UserError(f"pad_vocab_to={config.pad_vocab_to} must be at least 1 (no padding)")
    model, tokenizer = Path(config.model), Path(config.tokenizer)
    if not tokenizer.is_dir():
        raise UserError(f"tokenizer={tokenizer} does not exist: give the folder of the model's tokenizer")
    # Check the inputs before hashing them.
    checkpoint = bridge.Source.of(Path(config.checkpoint), model, tokenizer).weights.folder
    inputs = {"checkpoint": [checkpoint], "model": [model], "tokenizer": [tokenizer]}
    stage = artifact.Stage(
        "export-bridge",
        Path(config.out),
        {"pad_vocab_to": config.pad_vocab_to},
        inputs,
        restart=Restart(keeps_partial=True),
    )
    places = (checkpoint, model, tokenizer)
    artifact.run(stage, lambda place: bridge.write(*places, place, config.pad_vocab_to, stage.out))
