"""The files of a Hugging Face model folder besides its weights: configurations, and the tokenizer's files."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_adapt.errors import UserError
from nemo_adapt.families.settings import older_layers, older_rope
from nemo_adapt.files import read_object
from nemo_adapt.hf_model.model_config import read_config

if TYPE_CHECKING:
    import torch  # slow to import, and not needed to check what a run is started with

TOKENIZER_FILES = (
    *("tokenizer", "spiece", "sentencepiece", "special_tokens"),
    *("vocab", "merges", "chat_template", "added_tokens"),
)
"""Prefixes of the names of files that belong to the tokenizer."""
TEMPLATES = "additional_chat_templates"
"""Folder of a tokenizer's named chat templates, beside its default one (transformers 4.50)."""
GENERATION = "generation_config.json"
DTYPE_KEYS = ("dtype", "torch_dtype")
"""Keys of the weights' dtype in config.json, in transformers 5 and 4."""


def read_generation(folder: Path) -> dict[str, Any]:
    """Return the generation config of a model folder, empty if there is none; ``UserError`` if it is damaged."""
    path = folder / GENERATION
    content = read_object(path) if path.is_file() else {}
    if not isinstance(content.get("suppress_tokens") or [], list):
        raise UserError(f"{path} is damaged: suppress_tokens is not a list; download it again")
    return content


def complete_folder(
    out: Path, base: Path, tokenizer: Path, rows: int, dtype: "torch.dtype", tokens: int, kept: int
) -> None:
    """Write the files that a model folder needs besides its weights:

    - config.json of ``base``, with ``rows`` as the vocabulary size, the new dtype under the keys that it used, and
      rotary positions also in the form of transformers 4. Code of the base's own is not copied, nor its name there.
    - its generation config, if any. It suppresses the ids of padding, the rows from ``tokens`` on. Ids from ``kept`` on
      that the base's suppressed were padding then, and may be new tokens now.
    - the tokenizer's files.
    """
    hf_config = read_config(base)
    used = [key for key in DTYPE_KEYS if key in hf_config] or ["torch_dtype"]
    dtypes = dict.fromkeys(used, str(dtype).removeprefix("torch."))
    content = {**hf_config, **older_rope(hf_config), **older_layers(hf_config), "vocab_size": rows, **dtypes}
    content.pop("auto_map", None)
    (out / "config.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    generation, padded = read_generation(base), list(range(tokens, rows))
    if padded or generation.get("suppress_tokens"):
        own = [number for number in generation.get("suppress_tokens") or [] if number < kept]
        generation["suppress_tokens"] = [*own, *padded] or None
    if generation:
        (out / GENERATION).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    copy_tokenizer(tokenizer, out)


def copy_tokenizer(tokenizer: Path, out: Path) -> None:
    """Copy the tokenizer's files (``TOKENIZER_FILES``) and its chat templates from one folder into another."""
    for file in sorted(tokenizer.iterdir()):
        if file.is_file() and file.name.startswith(TOKENIZER_FILES):
            shutil.copyfile(file, out / file.name)
    copy_templates(tokenizer, out)


def copy_templates(tokenizer: Path, out: Path) -> None:
    """Copy the named chat templates of a tokenizer, if it has any."""
    for file in sorted((tokenizer / TEMPLATES).glob("*.jinja")):
        (out / TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(file, out / TEMPLATES / file.name)
