"""A tokenizer that extends the base already, as of ``add_tokens`` in transformers: what is new in it."""

from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.tokenizer import marks
from nemo_adapt.tokenizer.base import Base, read
from nemo_adapt.tokenizer.encode import encode_words
from nemo_adapt.tokenizer.pieces import token_bytes
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import NewToken


def take(path: Path, base: Base) -> tuple[Base, list[NewToken]]:
    """Return the tokenizer in ``path``, and what it has beyond ``base``, in the order of ids.

    ``UserError`` unless it is of the base's kind and gives all tokens of the base their ids.
    """
    given = read(path)
    names = {number: token for token, number in given.vocab.items()}
    for token, number in base.vocab.items():
        if names.get(number) != token:
            has = f"gives {token!r} the id {given.vocab[token]}" if token in given.vocab else f"has no token {token!r}"
            raise UserError(
                f"tokenizer.given: {path} {has}, in {base.path} it is {number}: only tokens that are appended to "
                "those of the base can be taken"
            )
    if given.byte_level != base.byte_level or given.unigram != base.unigram:
        raise UserError(f"tokenizer.given: {path} and {base.path} are of different kinds (BPE, Unigram, byte-level)")
    return given, _new_tokens(given, base, [names[number] for number in range(base.size, given.size)])


def _new_tokens(given: Base, base: Base, names: list[str]) -> list[NewToken]:
    """Return the rows of the token map; an added token stands for its name, wherever that is in a text."""
    literal = {token["content"] for token in given.content["added_tokens"]}
    added = [name for name in names if name in literal]
    pieces = [name for name in names if name not in literal]
    spelled = dict(zip(added, documents.encode(base.fast, added), strict=True))
    is_split_alike = not base.byte_level or given.content["pre_tokenizer"] == base.content["pre_tokenizer"]
    spellings = encode_words(base.model, pieces).lists() if is_split_alike else marks.spellings(base, pieces)
    spelled |= zip(pieces, spellings, strict=True)
    found = []
    for number, name in enumerate(names, start=base.size):
        raw = name.encode() if name in literal else token_bytes(name, base.byte_level)
        found.append(NewToken(number, name, raw.decode(errors="replace"), list(spelled[name]), len(raw), 0))
    return found
