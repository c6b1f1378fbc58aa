"""Count the words of a corpus in a base tokenizer's internal spelling (``▁ev``, ``Ġev``).

A word is what the base's normalizer and pre-tokenizer make of a line; for SentencePiece, which has no pre-tokenizer, it
is a run of spaces and the text up to the next space. Tokenizers are slow at this, so the text is first counted in
pieces between single spaces, across which no base merges, and each distinct piece is spelled once.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer.byte_level import BYTE_LEVEL_SPACE, SPACE
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.count_pieces import MAX_TYPES, PieceCounts, Tallies, added_pattern, count_pieces
from nemo_adapt.tokenizer.encode import SEPARATOR
from nemo_adapt.tokenizer.pieces import kind_of
from nemo_adapt.tokenizer.tally import Tally, stretches

RUN = re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")
FIRST_WORD = "a"
"""A first word, so that the words after it are spelled as inside a line."""
TOGETHER = 512
"""Pieces spelled in one call."""
COMPARED = 500
"""Documents on which to check that this base really spells the pieces independently."""
SHORTEST, LONGEST = 16, 64
"""Characters of the parts of a word that is longer than ``LONGEST``, as is a document in a script without spaces."""

Spell = Callable[[str], list[str]]


def count_words(
    base: Base, files: list[Path], field: str, title: str, processes: int = 0, most: int = MAX_TYPES
) -> tuple[Tally, Counter[str]]:
    """Count the words of ``files``; also return the counts of the raw pieces of text.

    ``field`` is the JSON field or Parquet column. If there are more than ``most`` distinct pieces, the most frequent
    count. One pass over the text, and a second, slow one if this base merges across single spaces. Memory grows with
    the distinct words, not with the text. Raises ``UserError`` for text that cannot be read or has no words.
    """
    if not files:
        return Tally(), Counter()
    tallies = count_pieces(files, field, added_texts(base), title, most, processes)
    if not tallies.first.counts and not tallies.later.counts:
        raise UserError(f"no words in {', '.join(map(str, files))}")
    if spells_independently(base, list(islice(text.documents(files, field), COMPARED))):
        words = spell_pieces(base, tallies)
    else:
        words = count_lines(base, text.documents(files, field)).most_common(most)
    for word in [word for word in words.counts if SEPARATOR in word]:
        del words.counts[word], words.weights[word]  # not a character; it separates words in encode_words
    pieces = tallies.later.counts.copy()
    pieces.update(tallies.first.counts)
    return words, pieces


def in_parts(words: Tally, most: int) -> Tally:
    """Return the ``most`` most frequent words, with those of more than ``LONGEST`` characters cut into parts.

    Whole documents would hardly repeat, and learning needs memory for every character.
    """
    parts = Tally()
    for word, count in words.counts.items():
        for part in _parts(word):
            parts.add(part, count, words.weights[word])
        if len(parts.counts) > MAX_TYPES:
            parts = parts.most_common(MAX_TYPES // 2)
    return parts.most_common(most) if len(parts.counts) > most else parts


def _parts(word: str) -> Iterator[str]:
    """Yield a word, or its parts: each ends after punctuation if there is any from ``SHORTEST`` to ``LONGEST``
    characters, and not before a mark."""
    begin = 0
    while len(word) - begin > LONGEST:
        longest = begin + LONGEST
        ends = [end for end in range(begin + SHORTEST, longest + 1) if unicodedata.category(word[end])[0] != "M"]
        signs = (end for end in ends if kind_of(word[end - 1]) == "common" != kind_of(word[end]))
        end = next(signs, ends[-1] if ends else longest)
        yield word[begin:end]
        begin = end
    yield word[begin:]


def added_texts(base: Base) -> list[str]:
    """Return the texts of the base's added tokens, which are not words."""
    return [token["content"] for token in base.content["added_tokens"]]


def speller(base: Base) -> Spell:
    """Return the function that turns text without added tokens into its words."""
    normalizer, pre_tokenizer = base.fast.backend_tokenizer.normalizer, base.fast.backend_tokenizer.pre_tokenizer

    def spell(part: str) -> list[str]:
        normal = normalizer.normalize_str(part) if normalizer else part
        pieces = [word for word, _ in pre_tokenizer.pre_tokenize_str(normal)] if pre_tokenizer else [normal]
        return pieces if base.byte_level else [word for piece in pieces for word in RUN.findall(piece)]

    return spell


def count_lines(base: Base, lines: Iterable[str]) -> Tally:
    """Count the words of ``lines``, spelling each line as a whole: slow, but correct for any base."""
    spell, added = speller(base), added_pattern(added_texts(base))
    words = Tally()
    for stretch in stretches(lines):
        words.add_stretch(Counter(word for line in stretch for part in added.split(line) for word in spell(part)))
        if len(words.counts) > MAX_TYPES:
            words = words.most_common(MAX_TYPES // 2)
    return words


def spells_independently(base: Base, lines: list[str]) -> bool:
    """Return whether these lines give the same word counts spelled in pieces as spelled whole."""
    pieces, added, tallies = PieceCounts(), added_pattern(added_texts(base)), Tallies(Tally(), Tally())
    for line in lines:
        for part in filter(None, added.split(line)):
            pieces.take(part)
    tallies.first.add_stretch(pieces.first)
    tallies.later.add_stretch(pieces.later)
    return spell_pieces(base, tallies).counts == count_lines(base, lines).counts


def spell_pieces(base: Base, tallies: Tallies) -> Tally:
    """Return the words of counted pieces, with their counts and weights."""
    spell, words = speller(base), Tally()
    for piece, count in tallies.first.counts.items():
        for word in spell(piece):
            words.add(word, count, tallies.first.weights[piece])
    mark = BYTE_LEVEL_SPACE if base.byte_level else SPACE
    for pieces in _together(tallies.later.counts):
        for piece, word in zip(*_spell_later(spell, mark, pieces), strict=True):
            words.add(word, tallies.later.counts[piece], tallies.later.weights[piece])
    return words


def _together(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Yield pieces to spell in one call; one with spaces of its own, which would merge with the next, is alone."""
    simple: list[str] = []
    for piece in pieces:
        if SPACE in piece or piece.split() != [piece]:
            yield [piece]
        else:
            simple.append(piece)
    yield from text.batches(simple, TOGETHER)


def _spell_later(spell: Spell, mark: str, pieces: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return, for each word of ``pieces`` as spelled after a space, the piece that it belongs to, and the word.

    All are spelled in one call if the words show their pieces: the first word of each begins with ``mark``. Otherwise
    the halves are spelled separately.
    """
    _, *words = spell(" ".join((FIRST_WORD, *pieces)))
    if len(pieces) == 1:
        return [pieces[0]] * len(words), words
    begins = [word.startswith(mark) for word in words]
    if sum(begins) == len(pieces) and begins[0]:
        number = itertools.accumulate(begins)
        return [pieces[i - 1] for i in number], words
    half = len(pieces) // 2
    before, after = _spell_later(spell, mark, pieces[:half]), _spell_later(spell, mark, pieces[half:])
    return before[0] + after[0], before[1] + after[1]
