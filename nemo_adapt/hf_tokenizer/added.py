"""Added tokens beside a SentencePiece model: what ``tokenizer_config.json`` and ``added_tokens.json`` name, by id."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.files import read_object
from nemo_adapt.hf_tokenizer.files import TokenizerFiles
from nemo_adapt.hf_tokenizer.sentencepiece_proto import CONTROL, USER_DEFINED

DECODER = "added_tokens_decoder"
"""Key of ``tokenizer_config.json``: id -> content and flags of an added token."""
FLAGS = ("lstrip", "rstrip", "single_word", "special")
"""Flags that are kept. ``normalized`` is not: it has to fit the normalizer that is built here."""
ADVICE = (
    "save the tokenizer with transformers once (AutoTokenizer.from_pretrained(...).save_pretrained(...)) to get a "
    "tokenizer.json with the ids that it uses"
)

Added = Mapping[int, Mapping[str, Any]]
"""Id -> content and flags of an added token."""


def read_added(files: TokenizerFiles, specials: Collection[str]) -> Added:
    """Return the added tokens of both files; those that only ``added_tokens.json`` names are special if in
    ``specials``.

    ``UserError`` for a damaged file, and for a token with two ids or an id with two tokens.
    """
    found: dict[int, Mapping[str, Any]] = {}
    ids: dict[str, int] = {}
    for file, i, token in [*_from_config(files.config), *_from_list(files.added, specials)]:
        content = token["content"]
        if i < 0 or ids.setdefault(content, i) != i or found.setdefault(i, token)["content"] != content:
            raise UserError(f"{file}: id {i} of the added token {content!r} contradicts another one; {ADVICE}")
    return found


def _from_config(path: Path | None) -> list[tuple[Path, int, Mapping[str, Any]]]:
    if path is None:
        return []
    try:
        decoder = read_object(path).get(DECODER) or {}
        return [(path, int(i), {**token, "content": str(token["content"])}) for i, token in decoder.items()]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path} is damaged: {DECODER} is not a map from ids to tokens; download it again") from None


def _from_list(path: Path | None, specials: Collection[str]) -> list[tuple[Path, int, Mapping[str, Any]]]:
    if path is None:
        return []
    tokens = read_object(path)
    if not all(isinstance(i, int) for i in tokens.values()):
        raise UserError(f"{path} is damaged: not a map from tokens to ids; download it again")
    return [(path, i, {"content": content, "special": content in specials}) for content, i in tokens.items()]


def add_pieces(proto: Any, added: Added, path: Path) -> None:
    """Append the added tokens to the pieces of the SentencePiece model read from ``path``.

    ``UserError`` for ids that differ from the model's, and for ids without a token: transformers would close such a
    gap, so that it is not known with which ids a model was trained.
    """
    pieces = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    for i in sorted(added):
        content, size = added[i]["content"], len(proto.pieces)
        if pieces.get(content, i) != i or (i < size and proto.pieces[i].piece != content):
            raise UserError(
                f"{path.parent}: the added token {content!r} with id {i} contradicts {path.name}, whose pieces have "
                f"other ids; {ADVICE}"
            )
        if i > size:
            raise UserError(
                f"{path.parent}: no token has id {size}, but the added token {content!r} has id {i}; {ADVICE}"
            )
        if i == size:
            proto.pieces.add(piece=content, score=0.0, type=CONTROL if added[i].get("special") else USER_DEFINED)


def flagged(token: Mapping[str, Any], added: Added) -> dict[str, Any]:
    """Return an added token of a ``tokenizer.json`` with the flags that the folder's files give it."""
    given = added.get(token["id"], {})
    return {**token, **{flag: bool(given[flag]) for flag in FLAGS if flag in given}}
