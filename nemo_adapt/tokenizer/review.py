"""Review a list of new tokens: which occur in encoded text, which never can, which change the guard text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from nemo_adapt.hf_tokenizer import splits
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.encode import bare, encode_words
from nemo_adapt.tokenizer.extend import extended_json
from nemo_adapt.tokenizer.pieces import is_whole


@dataclass
class Guard:
    """The guard text as words of the base, and the largest share of its tokens that may change."""

    words: Counter[str]
    share: float


@dataclass
class Review:
    """The findings on one list of new tokens."""

    fires: Counter[str]
    """Token -> how often it occurs in the encoded training text."""
    tokens: int
    """Tokens of the training text under the extended tokenizer."""
    unreachable: set[str]
    """Tokens that neither a training word nor their own spelling encodes to, and those of ``_useless_steps``."""
    touching: set[str]
    """Tokens that occur in the encoded guard text."""
    disturbing: set[str]
    """Tokens of ``touching`` to drop so that the guard text changes by no more than its share."""
    guard_tokens: int
    """Tokens of the guard text under the base."""
    guard_changed: int
    """How many of these the extended tokenizer does not give."""


def review(base: Base, new: Sequence[str], words: Counter[str], guard: Guard) -> Review:
    """Review ``new``: encode the words of the training text and of the guard with the base extended by it."""
    model, before = bare(extended_json(base, new)), base.model
    name = dict(enumerate(new, start=base.size))
    encoded = encode_words(model, list(words))
    counts = np.array(list(words.values()), np.int64)
    # float64 counts are exact up to 2**53
    by_id = np.bincount(encoded.ids, np.repeat(counts, encoded.lengths), base.size + len(new)).astype(np.int64)
    fires = Counter({token: count for token, count in zip(new, by_id[base.size :].tolist(), strict=True) if count})
    spelled = dict(zip(new, encode_words(before, new).lengths.tolist(), strict=True))
    silent = [token for token in new if token not in fires]
    unreachable = {
        token
        for token, ids in zip(silent, encode_words(model, silent).lists(), strict=True)
        if [name.get(i) for i in ids] != [token]
    }
    if base.byte_level:
        unreachable |= _useless_steps(base, new)
    costs, tokens, changed = _guard_costs(model, before, name, spelled, guard.words)
    gains = {token: fires[token] * (spelled[token] - 1) for token in costs}
    excess = changed - guard.share * tokens
    return Review(fires, int(by_id.sum()), unreachable, set(costs), _worst(costs, gains, excess), tokens, changed)


def _useless_steps(base: Base, new: Sequence[str]) -> set[str]:
    """Return new tokens of partial characters from which no new token of whole characters is merged."""
    broken = {token for token in new if not is_whole(token, True)}
    known = set(base.vocab) | set(new)
    used: set[str] = set()
    for token in reversed(new):  # a part comes before the tokens merged from it
        if token not in broken or token in used:
            used.update(part for pair in splits(token, known) for part in pair)
    return broken - used


def _guard_costs(
    model: Tokenizer, before: Tokenizer, name: dict[int, str], spelled: dict[str, int], words: Counter[str]
) -> tuple[Counter[str], int, int]:
    """Return new token -> guard tokens it displaces, the guard's tokens under the base, and how many are displaced."""
    costs: Counter[str] = Counter()
    total = changed = 0
    texts = list(words)
    both = encode_words(before, texts).lists(), encode_words(model, texts).lists()
    for word, old, now in zip(texts, *both, strict=True):
        total += len(old) * words[word]
        if old != now:
            changed += sum((Counter(old) - Counter(now)).values()) * words[word]
            for i in now:
                if i in name:
                    costs[name[i]] += spelled[name[i]] * words[word]
    return costs, total, changed


def _worst(costs: Counter[str], gains: dict[str, int], excess: float) -> set[str]:
    """Return the tokens with the lowest gain per cost, so many that their costs make up ``excess``."""
    worst: set[str] = set()
    for token in sorted(costs, key=lambda token: (gains[token] / costs[token], token)):
        if excess <= 0:
            break
        worst.add(token)
        excess -= costs[token]
    return worst
