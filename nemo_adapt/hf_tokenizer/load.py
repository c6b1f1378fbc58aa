"""Loading any base tokenizer as a fast Hugging Face tokenizer.

A ``tokenizer.json`` is taken as it is. From a SentencePiece ``tokenizer.model`` alone a tokenizer is built here that
gives sentencepiece's own ids; transformers' guess for such a folder drops the dummy prefix and the BOS token. From
tiktoken ranks one is built that gives tiktoken's.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer.bpe import bpe_model
from nemo_adapt.hf_tokenizer.files import FAIRSEQ, TokenizerFiles, find, one_line, read_json
from nemo_adapt.hf_tokenizer.sentencepiece_proto import (
    BPE,
    UNIGRAM,
    read_sentencepiece,
    sentencepiece_json,
    sentencepiece_specials,
)
from nemo_adapt.hf_tokenizer.tiktoken_ranks import is_ranks, ranks_json, read_ranks
from nemo_adapt.hf_tokenizer.unigram import unigram_model

MODEL_OF = {BPE: bpe_model, UNIGRAM: unigram_model}
SPECIAL_NAMES = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>"),
    "eos_token": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
    "unk_token": ("<unk>",),
    "pad_token": ("<pad>", "<|pad|>"),
}
"""Roles that usual spellings have in a tokenizer that does not say, the likeliest first."""


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The ``PreTrainedTokenizerFast`` of a model folder, a ``tokenizer.json`` or a ``tokenizer.model``.

    Raises ``UserError`` when there is no tokenizer, a file is corrupt, or a model is of a type that cannot be read.
    """
    files = find(folder)
    settings = read_settings(files)
    if files.json is None:
        assert files.model is not None
        content, specials = from_model(files.model, files.config, settings.pop("add_bos_token", True))
        backend = Tokenizer.from_str(json.dumps(content))
    elif files.config is not None:
        read_backend(files.json)
        try:
            return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise UserError(f"{files.config}: the tokenizer cannot be loaded: {one_line(error)}") from None
    else:
        backend = read_backend(files.json)
        specials = usual_specials(token.content for token in backend.get_added_tokens_decoder().values())
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{**wrapper_settings(specials), **settings})


def from_model(path: Path, config: Path | None, add_bos: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The ``tokenizer.json`` for a SentencePiece model or tiktoken ranks, and the roles of its special tokens."""
    if path.name == FAIRSEQ:
        raise UserError(
            f"{path}: models with this file number their tokens in another way than it does; save the tokenizer with "
            "transformers once (AutoTokenizer.from_pretrained(...).save_pretrained(...)) to get a tokenizer.json"
        )
    if is_ranks(path):
        ranks, kind = read_ranks(path)
        return ranks_json(ranks, kind, _names(config), add_bos), {"bos_token": kind.bos, "eos_token": kind.eos}
    proto = read_sentencepiece(path)
    model = MODEL_OF[proto.trainer_spec.model_type](proto)
    return sentencepiece_json(proto, model, add_bos), sentencepiece_specials(proto)


def _names(config: Path | None) -> dict[int, str]:
    """Special tokens by id, as a ``tokenizer_config.json`` names them."""
    added = read_json(config).get("added_tokens_decoder", {}) if config is not None else {}
    return {int(i): token["content"] for i, token in added.items()}


def adds_bos(tokenizer: Any) -> bool:
    """Whether ``tokenizer(text)`` puts the BOS token in front by itself."""
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def read_settings(files: TokenizerFiles) -> dict[str, Any]:
    """What a ``tokenizer_config.json`` beside a ``tokenizer.model`` says of use: special tokens, chat template."""
    if files.config is None:
        return {}
    kept = (*SPECIAL_NAMES, "chat_template", "model_max_length", "add_bos_token")
    settings = {key: value for key, value in read_json(files.config).items() if key in kept and value is not None}
    return {key: value["content"] if isinstance(value, dict) else value for key, value in settings.items()}


def wrapper_settings(specials: Mapping[str, str]) -> dict[str, Any]:
    """Keyword arguments of ``PreTrainedTokenizerFast`` for a backend that came without a ``tokenizer_config.json``."""
    return {
        "clean_up_tokenization_spaces": False,  # the default of older transformers eats spaces before punctuation
        "model_input_names": ["input_ids", "attention_mask"],
        **specials,
    }


def usual_specials(contents: Iterable[str]) -> dict[str, str]:
    """The roles of those added tokens that have a usual spelling."""
    there = set(contents)
    found = {role: next((name for name in names if name in there), None) for role, names in SPECIAL_NAMES.items()}
    return {role: name for role, name in found.items() if name is not None}


def read_backend(path: Path) -> Tokenizer:
    """The tokenizer in a ``tokenizer.json``; ``UserError`` naming the file when it is damaged."""
    text = json.dumps(read_json(path))
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises plain Exception
        raise UserError(f"{path} is not a tokenizer.json: {one_line(error)}") from None
