"""``nemo-adapt export-hf``: any Megatron checkpoint, ours or another's, as a Hugging Face folder.

Also of a training that goes on; of a folder of checkpoints the newest. Of Megatron-Bridge or Megatron-LM it has to be
``torch_dist``.

    nemo-adapt export-hf checkpoint=runs/tr/train/checkpoints/iter_0000500 model=/models/llama \\
        tokenizer=runs/tr/tokenizer out=/models/llama-tr-500
"""

from dataclasses import dataclass, field
from pathlib import Path

from nemo_adapt import artifact, documents, families, hf_tokenizer, recipes
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import ExportConfig
from nemo_adapt.errors import UserError
from nemo_adapt.export import export_checkpoint
from nemo_adapt.families.family import EMBEDDING
from nemo_adapt.hf_folder import read_config
from nemo_adapt.progress import say
from nemo_adapt.vocab import rows_with


@dataclass
class ExportHfConfig:
    checkpoint: str = ""
    """Folder of a complete Megatron checkpoint, or of several."""
    model: str = ""
    """The model's Hugging Face folder, or that of the base it was extended from, for its config.json."""
    tokenizer: str = ""
    """Folder of the tokenizer: the extended one with its token_map.json, or that of the model itself."""
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
    opened = Checkpoint(checkpoint)
    hf_config = read_config(model)
    if not tokenizer.is_dir():
        raise UserError(f"tokenizer={tokenizer} does not exist: give the folder of the model's tokenizer")
    rows = rows_with(families.of(hf_config).shape(hf_config), tokenizer)
    check_tokenizer(tokenizer, opened, rows)
    if said := rows_left_behind(opened, rows):
        say(said)
    deciding = {"shard_mib": config.export.shard_mib, "pad_vocab_to": config.export.pad_vocab_to}
    inputs = {"checkpoint": [opened.folder], "model": [model], "tokenizer": [tokenizer]}
    stage = artifact.Stage("export-hf", Path(config.out), deciding, inputs, keeps=True)
    if stage.finished:
        say(f"{config.out} was finished before")
        return
    artifact.run(stage, lambda place: export_checkpoint(opened.folder, model, tokenizer, place, config.export))
    say(f"written to {config.out}")


def check_tokenizer(tokenizer: Path, opened: Checkpoint, rows: int) -> None:
    """``UserError`` for a tokenizer with ids that the tables, or the ``rows`` that are exported, have no row for."""
    try:
        size = documents.vocabulary_size(hf_tokenizer.load(tokenizer))
    except UserError:  # a folder with a token map alone, or of a model that has none
        return
    held = opened.sizes.get(EMBEDDING, (rows,))[0]
    if size > min(rows, held):
        raise UserError(
            f"{tokenizer} has {size:,} tokens, and of the {held:,} rows of {opened.folder} {min(rows, held):,} would "
            "be exported: give the tokenizer that the model was trained with, and its token_map.json"
        )


def rows_left_behind(opened: Checkpoint, rows: int) -> str:
    """A line where the checkpoint's table has rows beyond the first ``rows`` that do not look like our padding."""
    held = opened.sizes.get(EMBEDDING, (rows,))[0]
    if held <= rows or not opened.rows(EMBEDDING, rows, rows + 1).count_nonzero():
        return ""
    return (
        f"{opened.folder}: its tables have {held} rows, of which the tokenizer needs {rows}: the others are left "
        "behind. That is padding, if it is the tokenizer of this model"
    )
