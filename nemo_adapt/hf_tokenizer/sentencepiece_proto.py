"""Read SentencePiece model files, and build everything of a ``tokenizer.json`` but its ``model``."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_pb2

from nemo_adapt.errors import UserError, one_line
from nemo_adapt.hf_tokenizer.byte_level import SPACE

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of SentencePiece pieces (``ModelProto.SentencePiece.Type``)."""
UNIGRAM, BPE = 1, 2
"""Kinds of SentencePiece models (``TrainerSpec.ModelType``) that are supported."""
OTHER_TYPES = {3: "word", 4: "character"}
NFKC_RULES = ("nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")
"""Names of sentencepiece's normalization rules that contain NFKC."""
CASE_FOLDING = ("nfkc_cf", "nmt_nfkc_cf")
"""Those of them that also make letters small."""
HIDDEN = "\u0651\u05bc\u05c1\u05c2\u1037\u0344\uff5e"
"""Characters that NFKC does not treat as sentencepiece does. Shadda, dagesh and the dots of shin and sin are typed
before vowels, but NFKC sorts them after these; Burmese's dot is typed after asat, but NFKC sorts it before. The last
two are kept by sentencepiece: a double mark, and the wide tilde in the rules with ``nmt``."""
CAPITAL = "\u0130"
"""The capital letter, I with a dot, that rules with case folding keep."""


def read_sentencepiece(path: Path) -> Any:
    """Read the ``ModelProto`` of a SentencePiece BPE or Unigram model.

    Raises ``UserError`` when the file is damaged, is of another type, or uses a feature that fast tokenizers lack.
    """
    proto = sentencepiece_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise UserError(
            f"{path} is neither a SentencePiece model nor a tiktoken rank file (damaged?): {one_line(error)}; "
            "download it again"
        ) from None
    if not proto.pieces:
        raise UserError(f"{path} is not a SentencePiece model: it holds no pieces; download it again")
    if not all(isinstance(piece.piece, str) for piece in proto.pieces):  # bytes, where it is not UTF-8
        raise UserError(f"{path} is damaged: a piece is not UTF-8; download it again")
    kind = proto.trainer_spec.model_type
    if kind not in (UNIGRAM, BPE):
        raise UserError(
            f"{path} is a SentencePiece {OTHER_TYPES.get(kind, kind)} model: only BPE and Unigram are supported"
        )
    if proto.trainer_spec.treat_whitespace_as_suffix:
        raise UserError(f"{path}: whitespace as suffix is not supported")
    if kind == BPE and any(piece.type == UNUSED for piece in proto.pieces):
        raise UserError(f"{path}: unused pieces in a BPE model are not supported")
    return proto


def sentencepiece_specials(proto: Any) -> dict[str, str]:
    """Return role -> piece for BOS, EOS, unknown and padding, from the ids in the model's trainer settings."""
    spec = proto.trainer_spec
    ids = {"bos_token": spec.bos_id, "eos_token": spec.eos_id, "unk_token": spec.unk_id, "pad_token": spec.pad_id}
    return {role: proto.pieces[i].piece for role, i in ids.items() if 0 <= i < len(proto.pieces)}


def sentencepiece_json(proto: Any, model: Mapping[str, Any], add_bos: bool = True) -> dict[str, Any]:
    """Return a ``tokenizer.json`` around ``model`` that encodes and decodes as sentencepiece does with ``proto``."""
    specials = sentencepiece_specials(proto)
    bos = specials.get("bos_token")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(i, piece.piece, special=piece.type != USER_DEFINED)
            for i, piece in enumerate(proto.pieces)
            if piece.type in (UNKNOWN, CONTROL, USER_DEFINED)
        ],
        "normalizer": _normalizer(proto),
        "pre_tokenizer": _pre_tokenizer(model),
        "post_processor": prepend_bos(bos, proto.trainer_spec.bos_id) if bos is not None and add_bos else None,
        "decoder": _decoder(proto),
        "model": model,
    }


def added_token(i: int, content: str, special: bool) -> dict[str, Any]:
    """Return an entry for the ``added_tokens`` of a ``tokenizer.json``."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special}
    return {"id": i, "content": content, **flags}


def _pre_tokenizer(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the split, if needed, that stops Unigram from reading a literal ``<0x41>`` in text as a byte piece."""
    if model["type"] != "Unigram" or not model["byte_fallback"]:
        return None
    pattern = {"Regex": "<(?=0x[0-9A-F]{2}>)"}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def _normalizer(proto: Any) -> dict[str, Any] | None:
    spec = proto.normalizer_spec
    space = SPACE if spec.escape_whitespaces else " "
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        # The library applies the rules to a letter with its marks as one, where they are short: the rule for the letter
        # alone would then also replace the marks. After NFKC few such letters are left, and after Lowercase few that
        # case folding changes: only Cherokee's, which has no marks.
        if spec.name in NFKC_RULES:
            steps += _hiding(HIDDEN, {"type": "NFKC"})
        if spec.name in CASE_FOLDING:
            steps += _hiding(CAPITAL, {"type": "Lowercase"})
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


def _hiding(characters: str, step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a step that leaves ``characters`` as they are: noncharacters stand in for them."""
    stand_ins = {character: chr(0xFDD0 + i) for i, character in enumerate(characters)}
    away = [{"type": "Replace", "pattern": {"String": mark}, "content": other} for mark, other in stand_ins.items()]
    back = [{"type": "Replace", "pattern": {"String": other}, "content": mark} for mark, other in stand_ins.items()]
    return [*away, dict(step), *back]


def _dummy_prefix(space: str, user_defined: list[str]) -> dict[str, Any]:
    """Return the normalizer step that prepends a space to a text.

    User-defined pieces also pass through the normalizer before they are matched, and must come out unchanged.
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


def prepend_bos(bos: str, i: int) -> dict[str, Any]:
    """Return the post-processor that prepends the token ``bos`` with id ``i`` to every text."""
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, *second],
        "special_tokens": {bos: {"id": bos, "ids": [i], "tokens": [bos]}},
    }
