"""Methods to choose new tokens. A method proposes; ``select`` reviews, drops and asks again."""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_pb2
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE

from nemo_adapt.console.progress import Bar
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError, one_line
from nemo_adapt.hf_tokenizer import NORMAL
from nemo_adapt.hf_tokenizer.byte_level import BYTE_OF, SPACE
from nemo_adapt.registry import Registry
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.encode import segment
from nemo_adapt.tokenizer.learn import learn
from nemo_adapt.tokenizer.pieces import cut_cluster
from nemo_adapt.tokenizer.tally import ONCE, Tally


@dataclass(frozen=True)
class Request:
    """The input of a method."""

    base: Base
    files: list[Path]
    """The training text."""
    words: Tally
    """Its words, in the base's internal spelling."""
    allow: Callable[[str], bool]
    """Whether a token may be proposed."""
    asked: int
    """``tokenizer.new_tokens``, or the largest size of the sweep if that is larger."""
    field: str = "text"
    """JSON field or Parquet column of ``files``."""
    title: str = "learning tokens"
    """Title of the progress bar."""


Method = Callable[[Request, int], list[str]]
"""``method(request, wanted)``: up to ``wanted`` tokens, best first. A smaller ``wanted`` gives a prefix of the same
list."""

METHODS: Registry[Method] = Registry("tokenizer method")
LEAST = ONCE + 1
"""Least weight that a token must save: more than one token of the training text."""
PART = re.compile(r"\S.{0,999}(?!\S)|\S{1,1000}", re.DOTALL)
"""Parts of a document, cut at spaces where there are any: sentencepiece's trainer silently skips lines of more than
4,192 bytes. It learns from words, so cuts at spaces change nothing."""
CUT_SHARE = 0.01
"""Share of the words: if fewer begin with a mark of one script, those are errors in the text."""


@METHODS.register("continue")
def continue_bpe(request: Request, wanted: int) -> list[str]:
    """Continue BPE where the base stopped: learn merges on words as the base segments them (arXiv 2512.03989).

    Tokens keep marks with their letters (``cut_cluster``), except in ``free_scripts``. This does not hold for
    ``union``, whose merges need such intermediate tokens.
    """
    base = request.base
    free = free_scripts(base, request.words.counts)

    def allow(token: str) -> bool:
        return request.allow(token) and cut_cluster(token, base.byte_level) in free

    words = list(request.words.weights)
    segments = segment(base.model, words, base.byte_level, base.unknown)
    lacking = (string for string in segments.strings if string and string not in base.vocab)
    spelled = {character: len(character.encode()) for character in lacking if allow(character)}
    weights = list(request.words.weights.values())
    with Bar(request.title, wanted, "tokens") as bar:
        found = list(learn(segments, weights, base.merging, spelled, wanted, allow, LEAST, bar.advance))
        bar.total = len(found)  # the text may give fewer
    return found


def free_scripts(base: Base, words: Counter[str]) -> set[str]:
    """Return the scripts in which letters are already separated from their marks, and ``""``.

    Either the base's own tokens do this, and merges continue from them, or its regex does, so that many words begin
    with a mark.
    """
    spelled = (token for token in base.vocab if not base.byte_level or BYTE_OF.keys() >= set(token))
    cut: Counter[str] = Counter()
    for word, count in words.items():
        cut[cut_cluster(word, base.byte_level)] += count
    often = {script for script, count in cut.items() if count > CUT_SHARE * words.total()}
    return {"", *(cut_cluster(token, base.byte_level) for token in spelled), *often}


@METHODS.register("union")
def union(request: Request, wanted: int) -> list[str]:
    """Train a vocabulary of ``asked`` tokens on the text alone; propose what the base lacks (arXiv 2406.14670)."""
    train = _train_byte_level if request.base.byte_level else _train_sentencepiece
    return [token for token in train(request) if request.allow(token)][:wanted]


def _train_byte_level(request: Request) -> list[str]:
    tokenizer = Tokenizer(BPE())
    backend = request.base.fast.backend_tokenizer
    if backend.normalizer is not None:
        tokenizer.normalizer = backend.normalizer
    tokenizer.pre_tokenizer = backend.pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=request.asked, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.documents(request.files, request.field), trainer)
    vocab = tokenizer.get_vocab()
    return sorted(vocab, key=lambda token: vocab[token])


def _train_sentencepiece(request: Request) -> list[str]:
    """Return the pieces of a SentencePiece BPE trained with the base's own splitting and normalization."""
    model = io.BytesIO()
    spec = request.base.proto.trainer_spec if request.base.proto is not None else sentencepiece_pb2.TrainerSpec()
    copied = ("split_by_unicode_script", "split_by_number", "split_by_whitespace", "split_digits")
    settings = {name: getattr(spec, name) for name in copied}

    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=_lines(request),
            model_writer=model,
            model_type="bpe",
            vocab_size=request.asked,
            normalization_rule_name="identity",
            minloglevel=2,
            **settings,
        )
    except RuntimeError as error:
        raise UserError(f"tokenizer.method=union, tokenizer.new_tokens={request.asked}: {one_line(error)}") from None
    proto = sentencepiece_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return [piece.piece for piece in proto.pieces if piece.type == NORMAL]


def _lines(request: Request) -> Iterator[str]:
    """Yield the text as the base normalizes it, with plain spaces, in parts of at most 1000 characters."""
    normalizer = request.base.fast.backend_tokenizer.normalizer
    for line in text.documents(request.files, request.field):
        yield from PART.findall((normalizer.normalize_str(line) if normalizer else line).replace(SPACE, " "))
