"""Load any base tokenizer as a fast Hugging Face tokenizer.

A ``tokenizer.json`` is used as it is, but for a space before texts where transformers takes it from the folder's class
(GPT-2), and for a split where a Unigram model would find special tokens in text. Without one, a tokenizer is built here
from a SentencePiece ``tokenizer.model``, with sentencepiece's ids (transformers' own conversion of such a folder drops
the dummy prefix and the BOS token), or from tiktoken ranks, with tiktoken's ids.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from nemo_adapt.errors import UserError, one_line
from nemo_adapt.files import read_object
from nemo_adapt.hf_tokenizer.added import DECODER, Added, add_pieces, flagged, read_added
from nemo_adapt.hf_tokenizer.bpe import bpe_model
from nemo_adapt.hf_tokenizer.files import FAIRSEQ, TokenizerFiles, find
from nemo_adapt.hf_tokenizer.sentencepiece_proto import (
    BPE,
    UNIGRAM,
    read_sentencepiece,
    sentencepiece_json,
    sentencepiece_specials,
)
from nemo_adapt.hf_tokenizer.tiktoken_ranks import is_ranks, ranks_json, read_ranks
from nemo_adapt.hf_tokenizer.unigram import unigram_model, with_special_split

MODEL_OF = {BPE: bpe_model, UNIGRAM: unigram_model}
SPECIAL_NAMES = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>"),
    "eos_token": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
    "unk_token": ("<unk>",),
    "pad_token": ("<pad>", "<|pad|>"),
}
"""Usual spellings of each special token, most likely first, for tokenizers that do not name their special tokens."""
ROLES = (*SPECIAL_NAMES, "sep_token", "cls_token", "mask_token")
KEPT = ("chat_template", "model_max_length", "add_bos_token")
FURTHER = ("additional_special_tokens", "extra_special_tokens")
"""Keys of further special tokens, in transformers 4 and 5."""
MOST_PER_TOKEN, SPARE_IDS = 2, 8192
"""Ids per token, and beside them, up to which a tokenizer is accepted: models leave a few thousand unused, and with a
damaged id of a billion its tables would need gigabytes."""


OWN_PREFIX = ("GPT2Tokenizer", "CodeGenTokenizer", "Qwen2Tokenizer", "GPTNeoXTokenizer")
"""Classes of transformers whose ``add_prefix_space`` (default: false) replaces that of ``tokenizer.json``."""
CLASS_OF = {
    **{"gpt2": OWN_PREFIX[0], "phi": OWN_PREFIX[0], "qwen2": OWN_PREFIX[2], "qwen3": OWN_PREFIX[2]},
    "gpt_neox": OWN_PREFIX[3],
}
"""Type of model -> the class of these that it has if ``tokenizer_config.json`` names none."""


def load(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model folder, a ``tokenizer.json`` or a ``tokenizer.model``.

    It encodes whole texts: truncation and padding that a training saved in ``tokenizer.json`` are left out.

    Raises ``UserError`` when there is no tokenizer, a file is damaged, or the type of model is not supported.
    """
    files = find(folder)
    settings = read_settings(files)
    if files.json is None:
        assert files.model is not None
        specials = {*(settings[role] for role in ROLES if role in settings), *settings.get(FURTHER[0], ())}
        added = read_added(files, specials)
        content, roles = from_model(files.model, added, settings.pop("add_bos_token", True))
        backend = Tokenizer.from_str(json.dumps(content))
    elif files.config is not None:
        if files.added is not None:
            read_object(files.added)  # transformers reads it too, and would not name it
        backend, changed = read_backend(files.json, _prefixes_space(files))
        # transformers would read the file's truncation and padding again, and add a token for the latter.
        given = {"tokenizer_object": backend} if changed else {}
        try:
            return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True, **given)
        except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{files.config}: the tokenizer cannot be loaded: {one_line(error)}") from None
    else:
        backend, _ = read_backend(files.json)
        roles = usual_specials(token.content for token in backend.get_added_tokens_decoder().values())
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{**wrapper_settings(roles), **settings})


def from_model(path: Path, added: Added, add_bos: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the ``tokenizer.json`` for a SentencePiece model or tiktoken ranks, and role -> special token.

    Raises ``UserError`` when the file is damaged, not supported, or of a model trained with fairseq, and as
    ``add_pieces`` does.
    """
    if path.name == FAIRSEQ:
        raise UserError(
            f"{path}: models with this file use other token ids than it does; save the tokenizer with "
            "transformers once (AutoTokenizer.from_pretrained(...).save_pretrained(...)) to get a tokenizer.json"
        )
    if is_ranks(path):
        ranks, kind = read_ranks(path)
        names = {i: token["content"] for i, token in added.items()}
        return ranks_json(ranks, kind, names, add_bos), {"bos_token": kind.bos, "eos_token": kind.eos}
    proto = read_sentencepiece(path)
    add_pieces(proto, added, path)
    model = MODEL_OF[proto.trainer_spec.model_type](proto)
    content = sentencepiece_json(proto, model, add_bos)
    tokens = [flagged(token, added) for token in content["added_tokens"]]
    content = {**content, "added_tokens": tokens}
    return with_special_split(content) if model["type"] == "Unigram" else content, sentencepiece_specials(proto)


def adds_bos(tokenizer: Any) -> bool:
    """Return whether ``tokenizer(text)`` prepends the BOS token by default."""
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def read_settings(files: TokenizerFiles) -> dict[str, Any]:
    """Return the special tokens, chat template, length limit and BOS flag that the folder's files set, if any.

    ``special_tokens_map.json`` counts where transformers also reads it: if ``tokenizer_config.json`` does not describe
    its added tokens.
    """
    config = read_object(files.config) if files.config is not None else {}
    settings = {key: config[key] for key in KEPT if config.get(key) is not None}
    longest = settings.get("model_max_length", 0)
    if not isinstance(longest, int | float):
        raise UserError(
            f"{files.config}: model_max_length={longest!r} is not a number: correct it or download it again"
        )
    if files.config is not None:
        settings |= _special_tokens(files.config, config)
    if files.specials is not None and DECODER not in config:
        settings |= _special_tokens(files.specials, read_object(files.specials))
    return settings


def _special_tokens(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the special tokens in a file's content; ``UserError`` that names the file if it is damaged."""
    try:
        found: dict[str, Any] = {role: _content(content[role]) for role in ROLES if content.get(role) is not None}
        further = [content[key] for key in FURTHER if content.get(key)]
        lists = [value.values() if isinstance(value, dict) else value for value in further]
        if lists:
            found[FURTHER[0]] = list(dict.fromkeys(_content(token) for tokens in lists for token in tokens))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: special tokens: {one_line(error)}; download it again") from None
    return found


def _content(token: Any) -> Any:
    """Return a token's text, which older files store in an object with its flags."""
    return token["content"] if isinstance(token, dict) else token


def wrapper_settings(specials: Mapping[str, str]) -> dict[str, Any]:
    """Return arguments of ``PreTrainedTokenizerFast`` for a backend without a ``tokenizer_config.json``."""
    return {
        "clean_up_tokenization_spaces": False,  # older transformers default to removing spaces before punctuation
        "model_input_names": ["input_ids", "attention_mask"],
        **specials,
    }


def usual_specials(contents: Iterable[str]) -> dict[str, str]:
    """Return role -> added token for the added tokens with a usual spelling (``SPECIAL_NAMES``)."""
    there = set(contents)
    found = {role: next((name for name in names if name in there), None) for role, names in SPECIAL_NAMES.items()}
    return {role: name for role, name in found.items() if name is not None}


def _prefixes_space(files: TokenizerFiles) -> bool | None:
    """Return whether the folder's class puts a space before texts; ``None``: ``tokenizer.json`` says it."""
    assert files.config is not None
    config, beside = read_object(files.config), files.config.parent / "config.json"
    model_type = read_object(beside).get("model_type") if beside.is_file() else None
    name = config.get("tokenizer_class") or CLASS_OF.get(str(model_type), "")
    return bool(config.get("add_prefix_space")) if str(name).removesuffix("Fast") in OWN_PREFIX else None


def _set_prefix(pre_tokenizer: Any, prefix: bool) -> bool:
    """Set ``add_prefix_space`` of a byte-level pre-tokenizer; return whether that changed anything."""
    if not isinstance(pre_tokenizer, dict):
        return False
    if pre_tokenizer.get("type") == "Sequence":
        return sum(_set_prefix(part, prefix) for part in pre_tokenizer.get("pretokenizers", ())) > 0
    if pre_tokenizer.get("type") != "ByteLevel" or pre_tokenizer.get("add_prefix_space") is prefix:
        return False
    pre_tokenizer["add_prefix_space"] = prefix
    return True


def read_backend(path: Path, prefix: bool | None = None) -> tuple[Tokenizer, bool]:
    """Load the tokenizer in a ``tokenizer.json`` without its truncation and padding, and with a space before texts as
    ``prefix`` says, and with ``with_special_split``; also return whether that differs from the file.

    ``UserError`` that names the file if it is damaged.
    """
    content = read_object(path)
    cuts = [key for key in ("truncation", "padding") if content.pop(key, None) is not None]
    moved = prefix is not None and _set_prefix(content.get("pre_tokenizer"), prefix)
    try:
        backend = Tokenizer.from_str(json.dumps(content))
        _check_ids(path, backend.get_vocab().values())
        if not isinstance(backend.model, Unigram):
            return backend, bool(cuts) or moved
        whole = json.loads(backend.to_str())
        split = with_special_split(whole)
        return Tokenizer.from_str(json.dumps(split)), bool(cuts) or moved or split is not whole
    except UserError:
        raise
    except Exception as error:  # the Rust library raises plain Exception
        raise UserError(f"{path} is not a tokenizer.json: {one_line(error)}") from None


def _check_ids(path: Path, ids: Collection[int]) -> None:
    """Raise ``UserError`` for a tokenizer without tokens, and for ids so large that a table of all would be empty."""
    if not ids:
        raise UserError(f"{path} has no tokens: download it again")
    if max(ids) >= MOST_PER_TOKEN * len(ids) + SPARE_IDS:
        raise UserError(f"{path}: id {max(ids)} is too large for {len(ids)} tokens: correct it or download it again")
