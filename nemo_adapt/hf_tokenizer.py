"""Loading any base tokenizer as a fast Hugging Face tokenizer, always from local files.

A ``tokenizer.json`` is taken as it is. From a SentencePiece BPE ``tokenizer.model`` alone a tokenizer is built here
that gives sentencepiece's own ids; transformers' guess for such a folder drops the dummy prefix and the BOS token.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_pb2
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from nemo_adapt.errors import UserError

SPACE = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of SentencePiece pieces (``ModelProto.SentencePiece.Type``)."""
MODEL_TYPES = {1: "Unigram", 2: "BPE", 3: "word", 4: "character"}
SPECIAL_NAMES = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>"),
    "eos_token": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
    "unk_token": ("<unk>",),
    "pad_token": ("<pad>", "<|pad|>"),
}
"""Roles that usual spellings have in a tokenizer that does not say, the likeliest first."""


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
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
    found = [path / name if (path / name).is_file() else None for name in names]
    if found[0] is None and found[1] is None:
        raise UserError(f"{path} has no tokenizer: it needs a tokenizer.json or a SentencePiece tokenizer.model")
    return TokenizerFiles(*found)


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The ``PreTrainedTokenizerFast`` of a model folder, a ``tokenizer.json`` or a SentencePiece ``tokenizer.model``.

    Raises ``UserError`` when there is no tokenizer, a file is corrupt, or the SentencePiece model is not a BPE.
    """
    files = find(folder)
    settings = read_settings(files)
    if files.json is None:
        assert files.model is not None
        proto = read_sentencepiece(files.model)
        backend = Tokenizer.from_str(json.dumps(sentencepiece_json(proto, settings.get("add_bos_token", True))))
        specials = sentencepiece_specials(proto)
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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ``UserError`` naming the file when it is anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is corrupt: {one_line(error)}; fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is corrupt: not a JSON object; fetch it again")
    return content


def read_backend(path: Path) -> Tokenizer:
    """The tokenizer in a ``tokenizer.json``; ``UserError`` naming the file when it is damaged."""
    text = json.dumps(read_json(path))
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises plain Exception
        raise UserError(f"{path} is not a tokenizer.json: {one_line(error)}") from None


def read_sentencepiece(path: Path) -> Any:
    """The ``ModelProto`` of a SentencePiece BPE model.

    Raises ``UserError`` when the file is damaged, is no BPE, or uses a feature that has no fast counterpart.
    """
    proto = sentencepiece_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise UserError(f"{path} is not a SentencePiece model (corrupt?): {one_line(error)}; fetch it again") from None
    if not proto.pieces:
        raise UserError(f"{path} is not a SentencePiece model: it holds no pieces; fetch it again")
    kind = proto.trainer_spec.model_type
    if kind != 2:
        raise UserError(f"{path} is a SentencePiece {MODEL_TYPES.get(kind, kind)} model: only BPE is supported yet")
    if proto.trainer_spec.treat_whitespace_as_suffix or any(piece.type == UNUSED for piece in proto.pieces):
        raise UserError(f"{path}: whitespace as suffix and unused pieces are not supported")
    return proto


def sentencepiece_specials(proto: Any) -> dict[str, str]:
    """The control pieces' roles, as the model's own trainer settings give them."""
    spec = proto.trainer_spec
    ids = {"bos_token": spec.bos_id, "eos_token": spec.eos_id, "unk_token": spec.unk_id, "pad_token": spec.pad_id}
    return {role: proto.pieces[i].piece for role, i in ids.items() if 0 <= i < len(proto.pieces)}


def sentencepiece_json(proto: Any, add_bos: bool = True) -> dict[str, Any]:
    """The ``tokenizer.json`` that encodes and decodes as sentencepiece does with this model."""
    specials = sentencepiece_specials(proto)
    pieces = list(proto.pieces)
    vocab = {piece.piece: i for i, piece in enumerate(pieces)}
    normal = [piece for piece in pieces if piece.type == NORMAL]
    bos = specials.get("bos_token")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(i, piece.piece, special=piece.type != USER_DEFINED)
            for i, piece in enumerate(pieces)
            if piece.type in (UNKNOWN, CONTROL, USER_DEFINED)
        ],
        "normalizer": _normalizer(proto),
        "pre_tokenizer": None,
        "post_processor": _prepend_bos(bos, vocab[bos]) if bos is not None and add_bos else None,
        "decoder": _decoder(proto),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": specials.get("unk_token"),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": any(piece.type == BYTE for piece in pieces),
            "vocab": vocab,
            "merges": merges([piece.piece for piece in normal], [piece.score for piece in normal]),
        },
    }


def merges(pieces: Sequence[str], scores: Sequence[float]) -> list[list[str]]:
    """All splits of pieces into two others, best score first: SentencePiece's rule as a list of merges.

    SentencePiece joins the adjacent pair whose *joined* piece scores best, whatever the two parts are, the leftmost
    where scores are equal. With equal scores (Llama's runs of spaces) the longer piece goes first here, which makes the
    merge list grow a run from the left as well.
    """
    known = set(pieces)
    order = sorted(range(len(pieces)), key=lambda i: (-scores[i], -len(pieces[i])))
    return [list(pair) for i in order for pair in splits(pieces[i], known)]


def splits(piece: str, known: set[str]) -> list[tuple[str, str]]:
    """The ways to write ``piece`` as two known ones, the longest left part first."""
    cuts = range(len(piece) - 1, 0, -1)
    return [(piece[:cut], piece[cut:]) for cut in cuts if piece[:cut] in known and piece[cut:] in known]


def one_line(error: BaseException) -> str:
    """An exception's text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _added(i: int, content: str, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special}
    return {"id": i, "content": content, **flags}


def _normalizer(proto: Any) -> dict[str, Any] | None:
    spec = proto.normalizer_spec
    space = SPACE if spec.escape_whitespaces else " "
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if spec.remove_extra_whitespaces:
        steps.append({"type": "Replace", "pattern": {"Regex": rf"\A +|[ {SPACE}]+\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if spec.add_dummy_prefix:
        steps.append(_dummy_prefix(space, [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]))
    if spec.escape_whitespaces:
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    return {"type": "Sequence", "normalizers": steps} if steps else None


def _dummy_prefix(space: str, user_defined: list[str]) -> dict[str, Any]:
    """The step that puts a space in front of a text.

    User-defined pieces go through the normalizer too before they are looked for, and must come out as they are.
    """
    if not user_defined:
        return {"type": "Prepend", "prepend": space}
    names = "|".join(re.escape(piece) for piece in user_defined)
    return {"type": "Replace", "pattern": {"Regex": rf"\A(?!(?:{names})?\z)"}, "content": space}


def _decoder(proto: Any) -> dict[str, Any]:
    spec = proto.normalizer_spec
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if spec.add_dummy_prefix or spec.remove_extra_whitespaces:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _prepend_bos(bos: str, i: int) -> dict[str, Any]:
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, *second],
        "special_tokens": {bos: {"id": bos, "ids": [i], "tokens": [bos]}},
    }
