"""Build the extended tokenizer: the base's own files with the new tokens appended."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_pb2

from nemo_adapt import hf_tokenizer
from nemo_adapt.files import read_object
from nemo_adapt.hf_model.model_files import copy_templates
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.unigram_scores import new_scores

COPIED = ("special_tokens_map.json", "chat_template.jinja")
"""Files copied unchanged from the base folder."""
BACKEND_KEYS = (
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "auto_map",
    "backend",
    "from_slow",
    "is_local",
    "legacy",
    "sp_model_kwargs",
    "tokenizer_file",
    "vocab_file",
)
"""Settings that would make a loader rebuild what tokenizer.json already defines."""


def extended_json(base: Base, new: Sequence[str]) -> dict[str, Any]:
    """Return the base's ``tokenizer.json`` with the tokens ``new`` appended, in this order of priority.

    Every split of a new token into two known ones becomes a merge, so that the joined token decides, as in
    SentencePiece, and not the pair that it was learned from. With a SentencePiece base the merges of all pieces are
    rebuilt, because base pieces can now also be merged from new ones. Other bases keep their merges as they are. A
    Unigram base gets scores instead (``new_scores``).
    """
    model = base.content["model"]
    if base.unigram:
        scored = zip(new, new_scores(base, new), strict=True)
        return {**base.content, "model": {**model, "vocab": [*model["vocab"], *map(list, scored)]}}
    size = base.size
    vocab = {**base.vocab, **{token: size + i for i, token in enumerate(new)}}
    if base.proto is not None:
        normal = [piece for piece in extended_proto(base, new).pieces if piece.type == hf_tokenizer.NORMAL]
        merges = hf_tokenizer.merges([piece.piece for piece in normal], [piece.score for piece in normal])
    else:
        known = vocab.keys() - {token["content"] for token in base.content["added_tokens"]}
        added = [list(pair) for token in new for pair in hf_tokenizer.splits(token, known)]
        merges = [*model["merges"], *added]
    return {**base.content, "model": {**model, "vocab": vocab, "merges": merges}}


def extended_proto(base: Base, new: Sequence[str]) -> Any:
    """Return the SentencePiece model with ``new`` as its last pieces.

    In a BPE model each scores below all pieces before it; in a Unigram model its score is that of ``new_scores``. Ids
    between the model's pieces and the new ones belong to added tokens of ``tokenizer.json``; these become pieces too,
    so that ids agree.
    """
    proto = sentencepiece_pb2.ModelProto()
    proto.CopyFrom(base.proto)
    added = {token["id"]: token for token in base.content["added_tokens"]}
    for i in range(len(proto.pieces), base.size):
        token = added.get(i, {"content": f"<unused{i}>", "special": True})
        kind = hf_tokenizer.CONTROL if token["special"] else hf_tokenizer.USER_DEFINED
        proto.pieces.add(piece=token["content"], score=0.0, type=kind)
    for token, score in zip(new, new_scores(base, new) if base.unigram else _below(proto, len(new)), strict=True):
        proto.pieces.add(piece=token, score=score, type=hf_tokenizer.NORMAL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    return proto


def _below(proto: Any, count: int) -> Iterator[float]:
    """Yield ``count`` scores, each below those of all pieces and below the one before."""
    score = np.float32(min(piece.score for piece in proto.pieces))
    for _ in range(count):
        score = np.nextafter(score, np.float32(-np.inf))  # scores are float32: a difference of 1 is lost near -1e9
        yield float(score)


def save(base: Base, new: Sequence[str], out: Path) -> Any:
    """Write the extended tokenizer into the folder ``out``, and return it as loaded from there."""
    (out / "tokenizer.json").write_text(json.dumps(extended_json(base, new), ensure_ascii=False), encoding="utf-8")
    (out / "tokenizer_config.json").write_text(
        json.dumps(_config(base), ensure_ascii=False, indent=2), encoding="utf-8"
    )
    if base.proto is not None:
        (out / "tokenizer.model").write_bytes(extended_proto(base, new).SerializeToString())
    for name in COPIED:
        if (base.path / name).is_file():
            shutil.copyfile(base.path / name, out / name)
    copy_templates(base.path, out)
    return hf_tokenizer.load(out)


def _config(base: Base) -> dict[str, Any]:
    """Return the base's ``tokenizer_config.json``, changed so that ``tokenizer.json`` is loaded as it is."""
    files = hf_tokenizer.find(base.path)
    config = read_object(files.config) if files.config is not None else {}
    kept = {key: value for key, value in config.items() if key not in BACKEND_KEYS}
    if isinstance(kept.get("extra_special_tokens"), list):  # transformers 5's form, on which 4 fails
        kept["additional_special_tokens"] = kept.pop("extra_special_tokens")
    if hf_tokenizer.DECODER in kept:  # its flags would replace those of tokenizer.json, which fit its normalizer
        tokens = [dict(token) for token in base.content["added_tokens"]]
        kept[hf_tokenizer.DECODER] = {str(token.pop("id")): token for token in tokens}
    roles = {role: getattr(base.fast, role) for role in hf_tokenizer.SPECIAL_NAMES}
    specials = {role: name for role, name in roles.items() if name is not None}
    return {**hf_tokenizer.wrapper_settings(specials), **kept, "tokenizer_class": "PreTrainedTokenizerFast"}
