"""The end-of-document rule and the byte counts of tokens."""

from collections.abc import Callable

import pytest
from evaluate_tiny import byte_level_tokenizer, sentencepiece_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from nemo_adapt.errors import UserError
from nemo_adapt.tokens import documents

MAKERS = {"byte-level": byte_level_tokenizer, "sentencepiece": sentencepiece_tokenizer}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_token_bytes_add_up_to_the_text_bytes(maker: Callable[[], PreTrainedTokenizerFast], texts: list[str]) -> None:
    tokenizer = maker()
    counts, added = documents.token_bytes(tokenizer), documents.added_bytes(tokenizer)
    for text, ids in zip(texts, documents.encode(tokenizer, texts), strict=True):
        spelled = text if not added else " " + text.replace(documents.SPACE, " ")
        assert counts[ids].sum() == len(spelled.encode("utf-8"))
        contents = documents.token_contents(tokenizer)
        assert b"".join(contents[number] for number in ids) == spelled.encode("utf-8")


@pytest.mark.parametrize(("maker", "added"), [(byte_level_tokenizer, 0), (sentencepiece_tokenizer, 1)])
def test_added_bytes_is_the_prepended_space(maker: Callable[[], PreTrainedTokenizerFast], added: int) -> None:
    assert documents.added_bytes(maker()) == added


def test_special_tokens_have_no_bytes_and_other_added_tokens_their_text() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens(["     ", "ğ"])
    counts = documents.token_bytes(tokenizer)
    assert counts[tokenizer.eos_token_id] == 0
    assert counts[tokenizer.convert_tokens_to_ids(["     ", "ğ"])].tolist() == [5, 2]


def test_special_token_strings_in_a_text_are_encoded_as_text() -> None:
    tokenizer = byte_level_tokenizer()
    text = f"a {tokenizer.eos_token} b"
    ids = documents.encode(tokenizer, [text])[0]
    assert tokenizer.eos_token_id not in ids
    assert documents.token_bytes(tokenizer)[ids].sum() == len(text)


def test_training_documents_start_with_bos_only_if_the_tokenizer_adds_it() -> None:
    llama_like, gpt_like = sentencepiece_tokenizer(), byte_level_tokenizer()
    bos, eos = llama_like.bos_token_id, llama_like.eos_token_id
    assert documents.training_prefix(llama_like) == [bos] and documents.end_id(llama_like) == eos
    assert documents.start_id(llama_like) == bos
    assert documents.training_prefix(gpt_like) == []
    assert documents.start_id(gpt_like) == documents.end_id(gpt_like) == gpt_like.eos_token_id
    assert documents.encode(gpt_like, []) == []
    gpt_like.bos_token = "<s>"  # as BLOOM: it has a BOS token, but does not add it
    assert documents.training_prefix(gpt_like) == []
    assert documents.start_id(gpt_like) == gpt_like.eos_token_id != gpt_like.bos_token_id


def test_bos_replaces_a_missing_eos_and_having_neither_is_an_error() -> None:
    tokenizer = byte_level_tokenizer()
    end, tokenizer.eos_token = tokenizer.eos_token_id, None
    tokenizer.bos_token = "<|end|>"
    assert documents.start_id(tokenizer) == documents.end_id(tokenizer) == end
    tokenizer.bos_token = None
    with pytest.raises(UserError, match="no BOS and no EOS"):
        documents.end_id(tokenizer)
