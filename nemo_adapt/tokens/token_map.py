"""The token map: what each new token is and how the base tokenizer spelled it.

Written by the tokenizer stage; read by those that make rows (resize, auxiliary), and where new tokens are told from the
base's (train, export, inspect, plan).
"""

import json
import operator
from dataclasses import asdict, dataclass
from pathlib import Path

from nemo_adapt.errors import UserError, one_line
from nemo_adapt.files import read_object

FILE_NAME = "token_map.json"
REMEDY = "run the tokenizer stage again"


@dataclass(frozen=True)
class NewToken:
    """One token that the extended tokenizer has and the base does not have."""

    id: int
    """Its id, which is also its row in the embedding and output tables."""
    token: str
    """Its spelling inside the tokenizer (``▁ev``, ``Ġev``)."""
    text: str
    """The text that it represents (`` ev``)."""
    source_ids: list[int]
    """The base tokenizer's ids that spell the same text in context; never empty."""
    bytes: int
    """UTF-8 length of ``text``."""
    count: int
    """How often it fires in the text it was learned from."""


@dataclass(frozen=True)
class TokenMap:
    """The ``source_vocab`` base ids are unchanged; ``tokens`` follow, with ids ``source_vocab, source_vocab+1, …``."""

    source_vocab: int
    tokens: list[NewToken]

    @property
    def target_vocab(self) -> int:
        """Number of ids in the extended tokenizer (no padding)."""
        return self.source_vocab + len(self.tokens)

    def save(self, folder: Path) -> None:
        """Write ``folder/token_map.json``."""
        content = {"source_vocab": self.source_vocab, "tokens": [asdict(token) for token in self.tokens]}
        (folder / FILE_NAME).write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TokenMap":
        """Read ``folder/token_map.json``; ``UserError`` when it is missing, damaged, or its ids are not consecutive."""
        path = folder / FILE_NAME
        if not path.is_file():
            raise UserError(
                f"{path} does not exist: run the tokenizer stage first (of an extended tokenizer that you have, with "
                "tokenizer.given)"
            )
        content = read_object(path, REMEDY)
        try:
            source_vocab = operator.index(content["source_vocab"])
            tokens = [NewToken(**token) for token in content["tokens"]]
            is_whole = source_vocab > 0 and all(token.source_ids and min(token.source_ids) >= 0 for token in tokens)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: {one_line(error)}; {REMEDY}") from None
        if not is_whole:
            raise UserError(f"{path} is damaged: base ids are missing; {REMEDY}")
        if [token.id for token in tokens] != list(range(source_vocab, source_vocab + len(tokens))):
            raise UserError(f"{path}: new ids do not follow the {source_vocab} base ids one by one")
        return cls(source_vocab, tokens)
