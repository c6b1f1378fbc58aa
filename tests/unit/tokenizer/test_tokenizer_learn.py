"""The learner agrees with a plain encoder like sentencepiece's; which tokens are allowed."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_adapt.hf_tokenizer.byte_level import BYTE_OF
from nemo_adapt.tokenizer import learn as learning
from nemo_adapt.tokenizer.learn import Segments, learn
from nemo_adapt.tokenizer.pieces import Rules, cut_cluster, is_whole, token_bytes


def encode(word, ranks):
    """Plain implementation of SentencePiece's rule: merge the best-scoring neighbours, the leftmost of equal ones."""
    tokens = list(word)
    while True:
        options = [(ranks[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(tokens)) if a + b in ranks]
        if not options:
            return tokens
        at = min(options)[1]
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]


def saved(words, ranks, candidate):
    """Merges that would make ``candidate`` in the words as encoded; of two that overlap, the second cannot be made."""
    total = 0
    for word, count in words.items():
        tokens, at = encode(word, ranks), 0
        while at + 1 < len(tokens):
            is_made = tokens[at] + tokens[at + 1] == candidate
            total += count * is_made
            at += 1 + is_made
    return total


def learned(words, *rest):
    """``learn`` on (tokens, count) pairs; a token must save at least two."""
    return learn(Segments.of([tokens for tokens, _ in words]), [count for _, count in words], *rest, 2)


def test_very_long_words_are_learned_from_in_parts(monkeypatch):
    lengths = []
    new_state = learning.merge_state.new_state
    monkeypatch.setattr(
        learning.merge_state, "new_state", lambda *given: lengths.append(given[3].tolist()) or new_state(*given)
    )
    word = "abcd" * 275  # 1,100 tokens
    chosen = learned([(list(word), 2), (list("abcd"), 1)], [], {}, 3, lambda token: len(token) < 5)
    assert lengths == [[500, 500, 100, 4]]
    assert list(chosen) == ["ab", "cd", "abcd"] and chosen["ab"] == 2 * 275 + 1


WORDS = st.dictionaries(st.text("abcd", min_size=1, max_size=8), st.integers(1, 9), min_size=1, max_size=25)
BASE = st.lists(st.text("abcd", min_size=2, max_size=3), max_size=4, unique=True)


@settings(max_examples=150)
@given(words=WORDS, merging=BASE)
def test_each_token_saves_the_most_with_the_tokens_chosen_before(words, merging):
    ranks = {piece: i for i, piece in enumerate(merging)}
    start = [(encode(word, ranks), count) for word, count in words.items()]
    chosen = list(learned(start, merging, {}, 12, lambda token: True))
    assert len(set(chosen)) == len(chosen) and not set(chosen) & set(merging)
    for token in chosen:
        candidates = {a + b for word in words for a, b in itertools.pairwise(encode(word, ranks))}
        best = max(saved(words, ranks, candidate) for candidate in candidates)
        assert saved(words, ranks, token) == best >= 2
        ranks[token] = len(ranks)


@settings(max_examples=150)
@given(words=WORDS, spelled=st.dictionaries(st.sampled_from("bcd"), st.integers(2, 4)))
def test_missing_characters_are_learned_if_they_save_the_most(words, spelled):
    ranks: dict[str, int] = {}
    for token, count in learned(
        [(list(word), n) for word, n in words.items()], [], spelled, 15, lambda _: True
    ).items():
        lacking = set(spelled) - set(ranks)
        candidates = {a + b for word in words for a, b in itertools.pairwise(encode(word, ranks))}
        saves = {join: saved(words, ranks, join) for join in candidates if not lacking & set(join)}
        uses = Counter(letter for word, n in words.items() for letter in list(word) * n)
        saves |= {letter: uses[letter] * (spelled[letter] - 1) for letter in lacking}
        assert count == saves[token] == max(saves.values()) >= 2
        ranks[token] = len(ranks)


def test_overlapping_repeats_count_once():
    """Of "aaa" one merge saves one token, not two; SentencePiece counts so, too (ComputeFreq of its BPE trainer)."""
    assert learned([("aaa", 100), ("bc", 150)], [], {}, 2, lambda token: True) == {"bc": 150, "aa": 100}
    assert learned([("aaaaa", 100), ("bc", 150)], [], {}, 2, lambda token: True) == {"aa": 200, "bc": 150}
    assert learned([("aaa", 1)], [], {}, 2, lambda token: True) == {}
    parts = [(["ab", "a", "ba"], 100), ("cd", 150)]  # "aba" twice, of other parts
    assert list(learned(parts, [], {}, 1, lambda token: True)) == ["cd"]


def test_learning_stops_when_nothing_saves_two_tokens():
    assert list(learned([("ab", 1), ("cd", 1)], [], {}, 10, lambda token: True)) == []
    assert list(learned([("ab", 2), ("cd", 1)], [], {}, 10, lambda token: True)) == ["ab"]


def test_missing_characters_are_learned_before_merges_with_them():
    words = [("aक", 5), ("aख", 3), ("aग", 1), ("bb", 9)]
    chosen = list(learned(words, [], {"क": 3, "ख": 3, "ग": 3}, 10, lambda token: True))
    assert chosen == ["क", "bb", "ख", "aक", "aख", "ग"]


def test_forbidden_tokens_are_never_chosen():
    assert list(learned([("abc", 9)], [], {}, 9, lambda token: token != "ab")) == ["bc", "abc"]


def test_base_piece_that_becomes_reachable_is_merged_at_once():
    words = [(("a", "bc", "d"), 5), (("a", "bc", "x"), 9)]
    assert list(learned(words, ["bc", "abcd"], {}, 2, lambda token: True)) == ["abc", "abcx"]


def test_of_equal_savings_the_token_of_more_words_comes_first():
    words = [(["a", "b"], 6), (["c", "d", "x"], 2), (["c", "d", "y"], 2), (["c", "d", "z"], 2)]
    assert list(learned(words, [], {}, 2, lambda token: True)) == ["cd", "ab"]


@settings(max_examples=60)
@given(words=WORDS, few=st.integers(0, 6))
def test_fewer_tokens_are_a_prefix_of_more_and_counts_are_the_savings(words, few):
    start = [(list(word), count) for word, count in words.items()]
    many = learned(start, [], {}, 12, lambda token: True)
    assert list(learned(start, [], {}, few, lambda token: True)) == list(many)[:few]
    ranks: dict[str, int] = {}
    for token, count in many.items():
        assert saved(words, ranks, token) == count
        ranks[token] = len(ranks)


def test_junk_tokens_are_refused():
    rules = Rules(byte_level=False)
    for junk in ("<0x41>", "x<0xE2", "a\x07", "\u200bx\x00", "▁", "▁▁ev", "a▁b", "a" * 33, "\ufffea"):
        assert not rules.allow(junk), junk
    for good in ("▁ev", "ler", "का", "क्\u200dष", "ır.", "'nın", "2.5"):
        assert rules.allow(good), good


@given(st.text("0123456789५٣", min_size=4, max_size=9), st.sampled_from(["", "▁", "▁a", "'"]))
def test_long_numbers_are_never_tokens(digits, before):
    rules = Rules(byte_level=False)
    assert not rules.allow(before + digits) and not rules.allow(before + ".".join(digits))
    assert rules.allow(before + digits[:3])


@given(st.text("!-=.*,;", min_size=4, max_size=9), st.sampled_from(["", "▁", "ev"]))
def test_runs_of_punctuation_are_never_tokens(signs, before):
    rules = Rules(byte_level=False)
    assert not rules.allow(before + signs) and not rules.allow(before + signs + "ev")
    assert rules.allow(before + signs[:3])


def test_optional_vowel_marks_are_limited_but_indic_vowel_signs_are_not():
    rules = Rules(byte_level=False, split_scripts=True)
    assert rules.allow("▁كتب") and rules.allow("▁كتاباً") and rules.allow("بٌ.")
    assert not rules.allow("▁كِتَاب") and not rules.allow("שָׁל")
    assert rules.allow("▁किताबों") and rules.allow("\u0bbf\u0bb1\u0bcd\u0b95\u0bc1")  # Tamil irku


@pytest.mark.parametrize(
    ("token", "script"),
    [
        ("\u093eने", "DEVANAGARI"),
        ("▁\u093eने", "DEVANAGARI"),
        ("\u094dर", "DEVANAGARI"),
        ("\u0bbf\u0bb1\u0bcd\u0b95\u0bc1", "TAMIL"),
        ("\u064eه", "ARABIC"),
        ("\u0301te", "LATIN"),
    ],
)
def test_mark_separated_from_its_letter_is_detected(token, script):
    spelling = {byte: character for character, byte in BYTE_OF.items()}
    spelled = "".join(spelling[byte] for byte in token.replace("▁", " ").encode())
    assert cut_cluster(token, False) == cut_cluster(spelled, True) == script


@given(
    st.text("कनरगமறக", min_size=1, max_size=6), st.text("\u093e\u093f\u0947\u094d\u0bbf\u0bc1", min_size=1, max_size=3)
)
def test_marks_may_follow_letters_or_stand_alone(letters, signs):
    for good in (letters, letters + signs + letters, "▁" + letters + signs, signs, "▁" + signs, signs + "."):
        assert not cut_cluster(good, False), good
    assert cut_cluster(signs + letters, False)


def test_fathatan_with_alef_and_partial_characters_are_allowed():
    assert not cut_cluster("\u064bا", False) and not cut_cluster("\u064bا.", False)
    spelling = {byte: character for character, byte in BYTE_OF.items()}
    assert not any(cut_cluster("".join(spelling[byte] for byte in "\u093e".encode()[:end]), True) for end in (1, 2, 3))


def test_mark_before_part_of_a_letter_counts_as_cut_off():
    """Llama-3 has such tokens as steps to a mark and a letter."""
    spelling = {byte: character for character, byte in BYTE_OF.items()}
    for mark, letter, script in (("\u0bbe", "த", "TAMIL"), ("\u093f", "न", "DEVANAGARI"), ("\u064e", "ه", "ARABIC")):
        for end in range(1, len(letter.encode()) + 1):
            raw = (mark + letter).encode()[: len(mark.encode()) + end]
            assert cut_cluster("".join(spelling[byte] for byte in raw), True) == script


def test_scripts_are_not_mixed_if_the_base_was_trained_to_split_them():
    llama = Rules(False, split_scripts=True)
    for refused in ("aक", "evи"):
        assert not llama.allow(refused) and Rules(False).allow(refused), refused
    for good in ("▁1", "५", "ev.", "▁हैं", "かな漢字", "▁19", "2'de"):
        assert llama.allow(good), good


def test_letters_and_marks_of_every_script_join_any_script():
    """Their Unicode names begin with no script: MODIFIER LETTER TURNED COMMA, IDEOGRAPHIC ITERATION MARK."""
    llama = Rules(False, split_scripts=True)
    for good in ("▁o\u02bbz", "\u02bbo", "п\u02bcя", "人々", "〆切", "葛\U000e0100", "2.ª", "nº", "µm", "µм"):
        assert llama.allow(good), good
    assert not llama.allow("o\u02bbя")


@given(st.text(max_size=20))
def test_byte_level_spelling_decodes_to_the_text(text):
    spelling = {byte: character for character, byte in BYTE_OF.items()}
    token = "".join(spelling[byte] for byte in text.encode())
    assert token_bytes(token, True) == text.encode()
    assert is_whole(token, True)


def test_partial_characters_are_allowed_only_as_steps_to_whole_ones():
    spelling = {byte: character for character, byte in BYTE_OF.items()}

    def token(raw):
        return "".join(spelling[byte] for byte in raw)

    rules = Rules(byte_level=True)
    hindi = " क".encode()
    assert rules.allow(token(hindi)) and rules.allow(token(hindi[:3])) and rules.allow(token(hindi[2:]))
    assert not rules.allow(token("कि".encode()[:-1])) and not rules.allow(token("कि".encode()[1:]))
