"""The state of BPE learning, and the compiled functions that update it after each choice, over two tables.

Strings (tokens and candidates) are numbered from 1; ``0`` means none, for strings and for positions. All words are
concatenated, one position per token. A candidate is the string that a token forms with its right neighbour (a character
that is not a token yet is its own candidate). All positions with the same candidate form a linked list, so that they
are found and counted whatever the two parts are. Strings are identified by 64-bit hashes: with ten million strings, one
learning run in 400,000 has a collision. All fields of a position or a string are in one row, because most time is spent
waiting for memory.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from numba.typed import List

from nemo_adapt.machine.compiled import compiled, mix64

FACTOR = np.int64(-7046029254386353131)
"""Base of the polynomial hash: odd, so that its powers never become 0 (2**64 over the golden ratio, signed)."""

TOKEN, LEFT, RIGHT, WORD, CANDIDATE, BEFORE, AFTER = range(7)
"""Columns of a position: its token, left and right neighbours, and word; the candidate that begins at it, and the
previous and the next position in that candidate's list."""
COUNT, PLACES, FIRST, RANK, SPELLED, WAITS, HASH, POWER, NEXT, PART, OTHER_PART, EVER = range(12)
"""Columns of a string: ``COUNT``, the weight that it would save as a token; ``PLACES``, its number of positions, and
``FIRST``, the first in its list; ``RANK``, its merge priority from 1 (0: none, ``FORBIDDEN``: never); ``SPELLED``, for
a character that is not a token yet, the number of tokens that spell it; ``WAITS``, whether it is in ``State.risen``;
``POWER``, ``FACTOR`` to its length; ``NEXT``, the next string in its hash slot; the two strings that it was first
merged from; ``EVER``, at how many positions it was ever counted, which breaks ties of ``COUNT``."""
FORBIDDEN = -1
STRINGS, RANKS, WAITING, LEAST = range(4)
"""Indices in ``State.used``: next string, ranks in use, strings in ``State.risen``, least weight that a token must
save."""


class State(NamedTuple):
    """Everything that changes while learning."""

    positions: npt.NDArray[np.int32]
    strings: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    """[words]: what each token saved in the word counts."""
    risen: npt.NDArray[np.int32]
    """Strings whose count has risen since the last ``push_risen``."""
    used: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int32]
    """Hash table: by the last bits of a hash, the first string that has them."""
    heap: Any
    """(-count, -ever, string), best first; entries may be out of date."""


def new_state(codes: Any, ends: npt.NDArray[np.int64], tokens: npt.ArrayLike, lengths: Any, least: int) -> State:
    """Return a state of words given by ``tokens`` (numbers of known strings) and their ``lengths``, with weights 0.

    ``codes`` are the code points of the known strings, concatenated, ``ends`` the end of each. Set ``weights`` and the
    ranks, then call ``fill``.
    """
    last = np.cumsum(lengths)
    size = int(last[-1]) + 1 if len(last) else 1
    positions = np.zeros((size, 8), np.int32)  # 32 bytes, so that no position crosses a cache line
    positions[1:, TOKEN] = tokens
    positions[1:, LEFT] = np.arange(size - 1)
    positions[1 + last - lengths, LEFT] = 0
    positions[1:, RIGHT] = np.arange(2, size + 1)
    positions[last, RIGHT] = 0
    positions[1:, WORD] = np.repeat(np.arange(len(last)), lengths)
    # Every merge makes at most two strings and frees a position; memory that is never touched is never allocated.
    most = 1 + len(ends) + 5 * size
    state = State(
        positions,
        strings=np.zeros((most, 12), np.int64),
        weights=np.zeros(len(last), np.int64),
        risen=np.zeros(most, np.int32),
        used=np.array([len(ends) + 1, 0, 0, least]),
        slots=np.zeros(1 << size.bit_length(), np.int32),
        heap=List.empty_list(types.UniTuple(types.int64, 3)),
    )
    _enter_strings(state, codes, ends)
    return state


@compiled
def _enter_strings(state: State, codes: npt.NDArray[np.uint32], ends: npt.NDArray[np.int64]) -> None:
    begin = 0
    for i in range(len(ends)):
        value, power = np.int64(0), np.int64(1)
        for at in range(begin, ends[i]):
            value = value * FACTOR + _mixed(codes[at])
            power *= FACTOR
        begin = ends[i]
        state.strings[i + 1, HASH], state.strings[i + 1, POWER] = value, power
        _insert(state, i + 1)


@compiled
def _mixed(code: Any) -> Any:
    """Return 64 mixed bits of a code point: splitmix64 with the code point as its state (Steele et al. 2014)."""
    return np.int64(mix64(np.uint64(code) + np.uint64(0x9E3779B97F4A7C15)))


@compiled
def fill(state: State) -> None:
    """Count all candidates, and apply the merges that have a rank to every word as an encoder does."""
    for at in range(1, len(state.positions)):
        link(state, at)
    for at in range(1, len(state.positions)):
        if state.positions[at, LEFT] == 0 and state.positions[at, RIGHT]:
            encode(state, at)
    push_risen(state)


@compiled
def best(state: State) -> int:
    """Return the candidate that saves most (ties: more positions ever, then the older), or 0 if none saves enough."""
    while len(state.heap):
        count, _, string = heapq.heappop(state.heap)
        now = state.strings[string, COUNT]
        if state.strings[string, RANK] or now < state.used[LEAST]:
            continue
        if now == -count:
            return string
        if now < -count:
            heapq.heappush(state.heap, (-now, -state.strings[string, EVER], string))
    return 0


@compiled
def choose(
    positions: Any, strings: Any, weights: Any, risen: Any, used: Any, slots: Any, heap: Any, chosen: int
) -> int:
    """Make a candidate a token and encode again the words that contain it; return the next ``best``.

    One call with the state as separate arguments: passing it as a tuple takes half as long as a choice."""
    state = State(positions, strings, weights, risen, used, slots, heap)
    state.used[RANKS] += 1
    state.strings[chosen, RANK] = state.used[RANKS]
    if state.strings[chosen, SPELLED]:
        _complete(state, chosen)
    while state.strings[chosen, FIRST]:
        encode(state, _begin(state, state.strings[chosen, FIRST]))
    push_risen(state)
    return best(state)


@compiled
def _complete(state: State, character: int) -> None:
    """Make a character a token: from now on its positions take part in candidates."""
    found = np.empty(state.strings[character, PLACES], np.int32)
    for i in range(len(found)):
        found[i] = state.strings[character, FIRST]
        unlink(state, found[i])
    state.strings[character, SPELLED] = 0
    for at in found:
        for changed in (at, state.positions[at, LEFT]):  # of two adjacent ones, one comes up twice
            if changed:
                unlink(state, changed)
                link(state, changed)
    for at in found:
        encode(state, _begin(state, at))


@compiled
def _begin(state: State, at: int) -> int:
    """Return the first position of the word that contains ``at``."""
    while state.positions[at, LEFT]:
        at = state.positions[at, LEFT]
    return at


@compiled
def encode(state: State, begin: int) -> None:
    """Apply merges to the word that begins at a position as an encoder does: best rank first, leftmost on a tie."""
    while True:
        least, found, at = 0, 0, begin
        while at:
            rank = state.strings[state.positions[at, CANDIDATE], RANK]
            if rank > 0 and (not found or rank < least):
                least, found = rank, at
            at = state.positions[at, RIGHT]
        if not found:
            return
        merge(state, found)


@compiled
def merge(state: State, at: int) -> None:
    """Merge the token at a position with its right neighbour, whose position becomes unused."""
    here = state.positions[at]
    left, gone, joined = here[LEFT], here[RIGHT], here[CANDIDATE]
    after = state.positions[gone, RIGHT]
    unlink(state, at)
    unlink(state, gone)
    if left:
        unlink(state, left)
    here[TOKEN], here[RIGHT] = joined, after
    state.positions[gone, LEFT] = state.positions[gone, RIGHT] = 0
    if after:
        state.positions[after, LEFT] = at
    link(state, at)
    if left:
        link(state, left)


@compiled
def link(state: State, at: int) -> None:
    """Count the candidate that begins at a position, and add the position to its list."""
    here = state.positions[at]
    amount, right, string = state.weights[here[WORD]], here[RIGHT], np.int64(here[TOKEN])
    spelled = state.strings[string, SPELLED]
    if spelled:
        amount *= spelled - 1
    elif right == 0 or state.strings[state.positions[right, TOKEN], SPELLED]:
        return
    else:
        string = _concatenated(state, string, state.positions[right, TOKEN])
    its = state.strings[string]
    here[CANDIDATE], here[BEFORE], here[AFTER] = string, 0, its[FIRST]
    if its[FIRST]:
        state.positions[its[FIRST], BEFORE] = at
    its[FIRST] = at
    if spelled or _saves_one_more(state, at):
        its[COUNT] += amount
    its[PLACES] += 1
    its[EVER] += 1
    if not its[WAITS]:
        its[WAITS] = 1
        state.risen[state.used[WAITING]] = string
        state.used[WAITING] += 1


@compiled
def _saves_one_more(state: State, at: int) -> bool:
    """Return whether a candidate can be merged once more with the position than without it. Of neighbouring positions
    with the same candidate (``a a a``) every second one is merged: of n of them (n + 1) // 2."""
    for side in (LEFT, RIGHT):
        same, place = 0, state.positions[at, side]
        while place and state.positions[place, CANDIDATE] == state.positions[at, CANDIDATE]:
            same, place = same + 1, state.positions[place, side]
        if same % 2:
            return False
    return True


@compiled
def unlink(state: State, at: int) -> None:
    """Stop counting the candidate that begins at a position, and remove the position from its list."""
    here = state.positions[at]
    if here[CANDIDATE] == 0:
        return
    its = state.strings[here[CANDIDATE]]
    if its[SPELLED] or _saves_one_more(state, at):
        its[COUNT] -= state.weights[here[WORD]] * (its[SPELLED] - 1 if its[SPELLED] else 1)
    its[PLACES] -= 1
    if here[BEFORE]:
        state.positions[here[BEFORE], AFTER] = here[AFTER]
    else:
        its[FIRST] = here[AFTER]
    if here[AFTER]:
        state.positions[here[AFTER], BEFORE] = here[BEFORE]
    here[CANDIDATE] = 0


@compiled
def _concatenated(state: State, left: Any, right: Any) -> Any:
    """Return the number of the concatenation of two strings, entering it if it is new."""
    value = state.strings[left, HASH] * state.strings[right, POWER] + state.strings[right, HASH]
    string = np.int64(state.slots[value & (len(state.slots) - 1)])
    while string:
        if state.strings[string, HASH] == value:
            return string
        string = state.strings[string, NEXT]
    string = state.used[STRINGS]
    state.used[STRINGS] += 1
    state.strings[string, HASH] = value
    state.strings[string, POWER] = state.strings[left, POWER] * state.strings[right, POWER]
    state.strings[string, PART], state.strings[string, OTHER_PART] = left, right
    _insert(state, string)
    return string


@compiled
def _insert(state: State, string: int) -> None:
    """Insert a string into the hash table."""
    slot = state.strings[string, HASH] & (len(state.slots) - 1)
    state.strings[string, NEXT] = state.slots[slot]
    state.slots[slot] = string


@compiled
def push_risen(state: State) -> None:
    """Push the candidates whose counts have risen onto the heap."""
    for string in state.risen[: state.used[WAITING]]:
        its = state.strings[string]
        its[WAITS] = 0
        if its[COUNT] >= state.used[LEAST] and not its[RANK]:
            heapq.heappush(state.heap, (-its[COUNT], -its[EVER], np.int64(string)))
    state.used[WAITING] = 0
