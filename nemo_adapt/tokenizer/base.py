"""The base tokenizer as the stage uses it: its JSON, its kind, and its bare model."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer.byte_level import SPACE
from nemo_adapt.hf_tokenizer.unigram import NEVER
from nemo_adapt.tokenizer.encode import bare


@dataclass
class Base:
    """A base tokenizer that can be extended.

    ``content`` is its ``tokenizer.json``, with every added token also in the model's vocabulary (otherwise the library
    would give added tokens other ids once the vocabulary grows). ``fast`` is the loaded tokenizer, ``proto`` the
    SentencePiece model if there is one; ``byte_level`` is false for the SentencePiece kind.
    """

    path: Path
    fast: Any
    content: dict[str, Any]
    proto: Any
    byte_level: bool

    @property
    def unigram(self) -> bool:
        """Whether it segments words by scores of pieces (SentencePiece Unigram), not by merges."""
        return self.content["model"]["type"] == "Unigram"

    @cached_property
    def vocab(self) -> dict[str, int]:
        """Token string -> id."""
        vocab = self.content["model"]["vocab"]
        return {token: i for i, (token, _) in enumerate(vocab)} if self.unigram else vocab

    @cached_property
    def unknown(self) -> str | None:
        """The token for characters that have none, if it exists."""
        model = self.content["model"]
        if not self.unigram:
            return model["unk_token"]
        return None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]

    @cached_property
    def model(self) -> Tokenizer:
        """The bare model, which encodes words in the internal spelling."""
        return bare(self.content)

    @cached_property
    def size(self) -> int:
        """The first free id."""
        return max(self.vocab.values()) + 1

    @property
    def merging(self) -> list[str]:
        """The pieces that SentencePiece BPE merges wherever their parts are adjacent, best first; else empty."""
        if self.proto is None or self.unigram:
            return []
        normal = [piece for piece in self.proto.pieces if piece.type == hf_tokenizer.NORMAL]
        return [piece.piece for piece in sorted(normal, key=lambda piece: -piece.score)]


def read(path: Path) -> Base:
    """Read a base tokenizer; ``UserError`` for a missing or damaged file and for a kind that cannot be extended."""
    fast = hf_tokenizer.load(path)
    files = hf_tokenizer.find(path)
    content = json.loads(fast.backend_tokenizer.to_str())
    model = content["model"]
    if model["type"] not in ("BPE", "Unigram"):
        raise UserError(
            f"{path} is a {model['type']} tokenizer: only BPE (SentencePiece or byte-level) and SentencePiece Unigram "
            "can be extended"
        )
    parts = _parts(content["pre_tokenizer"])
    byte_level = parts[-1:] == ["ByteLevel"]
    if model["type"] == "Unigram":
        if "ByteLevel" in parts:
            raise UserError(f"{path} is a byte-level Unigram tokenizer: only SentencePiece's can be extended")
        _add_to_scores(model["vocab"], content["added_tokens"])
    else:
        _check_merges(path, model, parts)
        model["vocab"].update({token["content"]: token["id"] for token in content["added_tokens"]})
        _fill_holes(model["vocab"])
    file = files.model if not byte_level and files.model and files.model.name != hf_tokenizer.FAIRSEQ else None
    base = Base(path, fast, content, hf_tokenizer.read_sentencepiece(file) if file else None, byte_level)
    if file and any(base.vocab.get(piece.piece) != i for i, piece in enumerate(base.proto.pieces)):
        raise UserError(f"{path}: tokenizer.json and {file.name} give pieces different ids; remove one of them")
    return base


def _check_merges(path: Path, model: dict[str, Any], parts: list[str]) -> None:
    byte_level = "ByteLevel" in parts
    if byte_level and parts[-1] != "ByteLevel":
        raise UserError(f"{path} splits words again after ByteLevel ({parts[-1]}): such a BPE cannot be extended")
    if not byte_level and not model["byte_fallback"] and SPACE not in model["vocab"]:
        raise UserError(f"{path} is a character-level BPE: only SentencePiece and byte-level BPE can be extended")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise UserError(f"{path} marks word parts with a prefix or suffix: such a BPE cannot be extended")


def _add_to_scores(vocab: list[list[Any]], added_tokens: list[dict[str, Any]]) -> None:
    """Append the added tokens whose ids follow a Unigram model's own pieces to its list, where positions are ids."""
    names = {token["id"]: token["content"] for token in added_tokens}
    for i in range(len(vocab), max(names, default=-1) + 1):
        vocab.append([names.get(i, f"<unused{i}>"), NEVER])


def _fill_holes(vocab: dict[str, int]) -> None:
    """Name the unused ids of a vocabulary: the library would give them to tokens that are added to the bare model."""
    used = set(vocab.values())
    for i in range(max(used, default=-1) + 1):
        if i not in used:
            name = f"<unused{i}>"
            while name in vocab:  # Gemma has tokens of such names
                name = f"<{name}>"
            vocab[name] = i


def _parts(pre_tokenizer: dict[str, Any] | None) -> list[str]:
    """Return the kinds of a pre-tokenizer's parts in their order; a sequence may hold further ones, or be empty."""
    if pre_tokenizer is None:
        return []
    if pre_tokenizer["type"] != "Sequence":
        return [pre_tokenizer["type"]]
    return [kind for part in pre_tokenizer["pretokenizers"] for kind in _parts(part)]
