"""Bits per byte against a loop that scores one token at a time, and against closed-form values."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate_tiny import ALL, SENTENCES, byte_level_tokenizer, sentencepiece_tokenizer, tiny_llama
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import bits_per_byte
from nemo_adapt.tokens import documents

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", Path(__file__).parents[3] / "../shared/data"))


@torch.inference_mode()
def one_token_at_a_time(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], start: int, window: int
) -> float:
    """Reference: each token is scored given the part of its document that its window covers."""
    nats = 0.0
    for text in texts:
        ids = [start, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        for place in range(1, len(ids)):
            begin = 0
            while begin + window < place:
                begin += window // 2
            logits = model(torch.tensor([ids[begin:place]])).logits[0, -1]
            nats -= torch.log_softmax(logits.double(), -1)[ids[place]].item()
    return nats / math.log(2) / sum(len(text.encode("utf-8")) for text in texts)


@pytest.mark.parametrize("window", [8, 9, 64])
@pytest.mark.parametrize("maker", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_score_equals_one_token_at_a_time_reference(maker: Callable[[], PreTrainedTokenizerFast], window: int) -> None:
    tokenizer = maker()
    model = tiny_llama(documents.vocabulary_size(tokenizer))
    texts = [*ALL, " ".join(ALL[:2])]
    assert max(map(len, documents.encode(tokenizer, texts))) > 64
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    expected = one_token_at_a_time(model, tokenizer, texts, start, window)
    score = bits_per_byte.score(model, tokenizer, texts, window, batch=3)
    assert score.bits_per_byte == pytest.approx(expected, abs=1e-6, rel=1e-6)
    assert score.tokens == sum(map(len, documents.encode(tokenizer, texts)))


def test_shorter_window_changes_the_score() -> None:
    """Otherwise the comparison with the reference could not detect wrong windows."""
    tokenizer = byte_level_tokenizer()
    model = tiny_llama(documents.vocabulary_size(tokenizer))
    short, long = (bits_per_byte.score(model, tokenizer, ALL, window, 4).bits_per_byte for window in (8, 64))
    assert abs(short - long) > 1e-3


def test_uniform_model_needs_log2_of_the_vocab_size_per_token() -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_llama(512)
    torch.nn.init.zeros_(model.lm_head.weight)
    score = bits_per_byte.score(model, tokenizer, ALL, 16, 4)
    size = sum(len(text.encode("utf-8")) for text in ALL)
    assert score.bits_per_byte == pytest.approx(9 * score.tokens / size, rel=1e-6)
    assert score.bytes.sum() == size


def test_splitting_logits_into_small_passes_keeps_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_llama(documents.vocabulary_size(tokenizer))
    expected = bits_per_byte.score(model, tokenizer, ALL, 32, 16).nats
    monkeypatch.setattr(bits_per_byte, "LOGITS_PER_PASS", 1)
    np.testing.assert_allclose(bits_per_byte.score(model, tokenizer, ALL, 32, 16).nats, expected, rtol=1e-5)


def test_unknown_tokens_are_counted() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.unk_token = "a"
    model = tiny_llama(documents.vocabulary_size(tokenizer))
    assert bits_per_byte.score(model, tokenizer, ["a b", "c"], 16, 4).unknown == 1


@given(tokens=st.integers(0, 200), window=st.integers(1, 40))
def test_windows_score_each_token_once_with_half_a_window_of_context(tokens: int, window: int) -> None:
    found = bits_per_byte.windows(0, tokens, window)
    scored = [place for item in found for place in range(item.end - item.scored + 1, item.end + 1)]
    assert scored == list(range(1, tokens + 1))
    for item in found:
        assert 0 < item.end - item.begin <= window
        first = item.end - item.scored + 1
        assert item.begin == 0 or first - item.begin >= window / 2


def test_size_limit_cuts_text_after_whole_documents(tmp_path: Path) -> None:
    path = tmp_path / "tr.txt"
    path.write_text("\n".join(SENTENCES["tr"]) + "\n", encoding="utf-8")
    sizes = np.cumsum([len(text.encode("utf-8")) for text in SENTENCES["tr"]])
    assert bits_per_byte.read_text(path) == SENTENCES["tr"]
    assert bits_per_byte.read_text(path, int(sizes[1])) == SENTENCES["tr"][:2]
    assert bits_per_byte.read_text(path, int(sizes[2]) - 1) == SENTENCES["tr"][:2]
    assert bits_per_byte.read_text(path, 1) == SENTENCES["tr"][:1]
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"tr\.txt holds no document"):
        bits_per_byte.read_text(path)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="NEMO_ADAPT_DATA is not there")
def test_real_model_has_known_scores_on_real_text() -> None:
    from nemo_adapt.evaluate import models

    folder = DATA / "weights/stories260K"
    candidate = models.inspect(folder, folder)
    model = models.load(candidate)
    found = {
        language: bits_per_byte.score(model, candidate.tokenizer, texts, 512, 32).bits_per_byte
        for language in ("tr", "en")
        if (texts := bits_per_byte.read_text(DATA / f"text/{language}.heldout.txt", 100_000))
    }
    assert found == pytest.approx({"tr": 12.82, "en": 3.07}, abs=0.01)
