"""Where the files of a tokenizer lie, and reading JSON with the file named when it is damaged."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError

MODEL_NAMES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""What a SentencePiece model (or tiktoken ranks, for the first) is called: by Llama, T5, and XLM-R and XGLM."""
FAIRSEQ = MODEL_NAMES[2]
"""Models trained with fairseq put special tokens of their own before the pieces: ids are not those of the model."""


@dataclass(frozen=True)
class TokenizerFiles:
    """Where a base tokenizer's parts lie; ``None`` for what it does not have."""

    json: Path | None
    model: Path | None
    config: Path | None


def find(path: Path) -> TokenizerFiles:
    """The tokenizer files of a folder, or ``path`` itself when it is a file; ``UserError`` when there are none."""
    if path.is_file():
        is_json = path.suffix == ".json"
        return TokenizerFiles(path if is_json else None, None if is_json else path, None)
    if not path.is_dir():
        raise UserError(
            f"tokenizer {path} does not exist: give a Hugging Face folder, tokenizer.json or tokenizer.model"
        )
    names = (("tokenizer.json",), MODEL_NAMES, ("tokenizer_config.json",))
    found = [next((path / name for name in some if (path / name).is_file()), None) for some in names]
    if found[0] is None and found[1] is None:
        raise UserError(f"{path} has no tokenizer: it needs a tokenizer.json or a tokenizer.model")
    return TokenizerFiles(*found)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ``UserError`` naming the file when it is anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is corrupt: {one_line(error)}; fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is corrupt: not a JSON object; fetch it again")
    return content


def one_line(error: BaseException) -> str:
    """An exception's text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
