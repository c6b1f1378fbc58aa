"""Find a tokenizer's files."""

from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.errors import UserError

MODEL_NAMES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""File names of a SentencePiece model: of Llama (or tiktoken ranks), of T5, and of XLM-R and XGLM."""
FAIRSEQ = MODEL_NAMES[2]
"""Models trained with fairseq put their special tokens before the pieces: token ids differ from this file's piece
ids."""


@dataclass(frozen=True)
class TokenizerFiles:
    """Paths of a base tokenizer's files; ``None`` for a file that it does not have."""

    json: Path | None
    model: Path | None
    config: Path | None = None
    specials: Path | None = None
    """``special_tokens_map.json``: role -> special token."""
    added: Path | None = None
    """``added_tokens.json``: token -> id."""


def find(path: Path) -> TokenizerFiles:
    """Return the tokenizer files of a folder, or of the single file ``path``; ``UserError`` if there are none."""
    if path.is_file():
        is_json = path.suffix == ".json"
        return TokenizerFiles(path if is_json else None, None if is_json else path)
    if not path.is_dir():
        raise UserError(
            f"tokenizer {path} does not exist: give a Hugging Face folder, tokenizer.json or tokenizer.model"
        )
    others = (("tokenizer_config.json",), ("special_tokens_map.json",), ("added_tokens.json",))
    names = (("tokenizer.json",), MODEL_NAMES, *others)
    found = [next((path / name for name in some if (path / name).is_file()), None) for some in names]
    if found[0] is None and found[1] is None:
        raise UserError(f"{path} has no tokenizer: it needs a tokenizer.json or a tokenizer.model")
    return TokenizerFiles(*found)
