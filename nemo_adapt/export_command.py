"""``nemo-adapt export-hf``: any Megatron checkpoint, ours or another's, as a Hugging Face folder.

The training may still be running. Of a folder of checkpoints, the newest is exported. One of Megatron-Bridge or
Megatron-LM must be in the ``torch_dist`` format.

    nemo-adapt export-hf checkpoint=runs/tr/train/checkpoints/iter_0000500 model=/models/llama \\
        tokenizer=runs/tr/tokenizer out=/models/llama-tr-500
"""

from dataclasses import dataclass, field
from pathlib import Path

from nemo_adapt import hf_tokenizer
from nemo_adapt.checkpoint.model_tensors import rows_beyond
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import ExportConfig, recipes
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.export import export_checkpoint
from nemo_adapt.families.family import EMBEDDING
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.run import artifact
from nemo_adapt.run.restart import Restart
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.vocab import rows_with


@dataclass
class ExportHfConfig:
    checkpoint: str = ""
    """Folder of a complete Megatron checkpoint, or of several: then the newest."""
    model: str = ""
    """The model's Hugging Face folder, or that of the base it was extended from, for its config.json."""
    tokenizer: str = ""
    """Folder of the tokenizer: the extended one with its token_map.json, or that of the model itself."""
    out: str = ""
    """Folder to create."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """Keys of the ``export`` section, as in a recipe, but for ``checkpoint`` and ``dir``."""


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for missing keys and for an invalid checkpoint, model or tokenizer."""
    config = recipes.parse(ExportHfConfig, words)
    recipes.require("export-hf", config, ("checkpoint", "model", "tokenizer", "out"))
    if config.export.dir or config.export.checkpoint != ExportConfig().checkpoint:
        raise UserError(
            "export-hf: checkpoint=FOLDER and out=FOLDER take the place of export.checkpoint and export.dir"
        )
    checkpoint, model, tokenizer = Path(config.checkpoint), Path(config.model), Path(config.tokenizer)
    # Missing inputs are reported before anything is hashed.
    opened = Checkpoint(checkpoint)
    _, shape = read_shape(model)
    if not tokenizer.is_dir():
        raise UserError(f"tokenizer={tokenizer} does not exist: give the folder of the model's tokenizer")
    rows = rows_with(shape, tokenizer)
    check_tokenizer(tokenizer, opened, rows)
    if held := rows_beyond(opened, rows):
        say(
            f"{opened.folder}: its tables have {held} rows, but the tokenizer needs only {rows}: the others are not "
            "exported. They are padding if this is the model's own tokenizer"
        )
    deciding = {"shard_mib": config.export.shard_mib, "pad_vocab_to": config.export.pad_vocab_to}
    inputs = {"checkpoint": [opened.folder], "model": [model], "tokenizer": [tokenizer]}
    stage = artifact.Stage("export-hf", Path(config.out), deciding, inputs, restart=Restart(keeps_partial=True))
    artifact.run(stage, lambda place: export_checkpoint(opened.folder, model, tokenizer, place, config.export))


def check_tokenizer(tokenizer: Path, opened: Checkpoint, rows: int) -> None:
    """Raise ``UserError`` if the tokenizer has ids beyond the checkpoint's tables or the ``rows`` to be exported."""
    try:
        size = documents.rows_of_text(hf_tokenizer.load(tokenizer))
    except UserError:  # nothing to check: only a token map, or a model folder without a tokenizer
        return
    held = opened.shapes.get(EMBEDDING, (rows,))[0]
    if size > min(rows, held):
        raise UserError(
            f"{tokenizer} has {size:,} tokens, but only {min(rows, held):,} rows of {opened.folder} (which has "
            f"{held:,}) would be exported: give the tokenizer that the model was trained with, and its token_map.json"
        )
