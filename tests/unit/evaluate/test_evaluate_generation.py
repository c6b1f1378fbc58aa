"""Batched generation against a loop that runs the model on the whole text for each token."""

from collections.abc import Callable

import pytest
import torch
from evaluate_tiny import ALL, byte_level_tokenizer, sentencepiece_tokenizer, tiny_llama
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nemo_adapt.evaluate import generation
from nemo_adapt.evaluate.generation import Limits
from nemo_adapt.tokens import documents

PROMPTS = ["Bugün", "A cat sleeps under", "Kitap okumayı seven insanlar", "Su."]
Maker = Callable[[], PreTrainedTokenizerFast]


def ready(maker: Maker, positions: int = 256) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    from transformers import GenerationConfig

    tokenizer = maker()
    model = tiny_llama(documents.vocabulary_size(tokenizer), positions)
    end = documents.end_id(tokenizer)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)
    return model, tokenizer


@torch.inference_mode()
def reference(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: str, count: int) -> list[int]:
    ids = [documents.start_id(tokenizer), *documents.encode(tokenizer, [prompt])[0]]
    found: list[int] = []
    while len(found) < count:
        token = int(model(torch.tensor([ids + found])).logits[0, -1].argmax())
        if token == documents.end_id(tokenizer):
            break
        found.append(token)
    return found


@pytest.mark.parametrize("maker", [byte_level_tokenizer, sentencepiece_tokenizer])
@pytest.mark.parametrize("batch", [1, 3])
def test_batched_generation_equals_reference_loop(maker: Maker, batch: int) -> None:
    model, tokenizer = ready(maker)
    contents = documents.token_contents(tokenizer)
    found = generation.write(model, tokenizer, PROMPTS, Limits(12), batch)
    for prompt, written in zip(PROMPTS, found.written, strict=True):
        ids = reference(model, tokenizer, prompt, 12)
        content = b"".join(contents[number] for number in ids)
        assert (written.tokens, written.bytes) == (len(ids), len(content))
        assert written.text == content.decode("utf-8", errors="replace")
    assert found.seconds > 0 and found.cut == 0


def test_generation_stops_at_the_byte_limit() -> None:
    model, tokenizer = ready(byte_level_tokenizer)
    contents = documents.token_contents(tokenizer)
    for prompt, written in zip(
        PROMPTS, generation.write(model, tokenizer, PROMPTS, Limits(40, 10), 4).written, strict=True
    ):
        ids = reference(model, tokenizer, prompt, 40)
        sizes = torch.tensor([len(contents[number]) for number in ids]).cumsum(0)
        needed = int((sizes < 10).sum()) + 1
        assert written.tokens == needed and written.bytes == int(sizes[needed - 1]) >= 10


def test_one_line_stops_before_the_first_newline() -> None:
    model, tokenizer = ready(byte_level_tokenizer)
    line_end = documents.encode(tokenizer, ["\n"])[0][0]
    ids = reference(model, tokenizer, "Bugün", 12)
    with torch.no_grad():
        weight = model.lm_head.weight
        weight[line_end] = weight[ids[4]] * 1.5  # the fifth token becomes a line end
    (written,) = generation.write(model, tokenizer, ["Bugün"], Limits(12, one_line=True), 4).written
    assert written.tokens <= 5 and "\n" not in written.text
    (longer,) = generation.write(model, tokenizer, ["Bugün"], Limits(12), 4).written
    assert "\n" in longer.text


def test_generated_tokens_that_are_new_in_the_vocab_are_counted() -> None:
    model, tokenizer = ready(byte_level_tokenizer)
    ids = reference(model, tokenizer, PROMPTS[0], 12)
    (written,) = generation.write(model, tokenizer, PROMPTS[:1], Limits(12), 4, new_ids={ids[0], ids[1]}).written
    assert written.new == sum(number in ids[:2] for number in ids)


def test_too_long_prompt_loses_its_beginning_and_is_counted() -> None:
    model, tokenizer = ready(byte_level_tokenizer, positions=32)
    long = " ".join(ALL)
    found = generation.write(model, tokenizer, [long, "Su."], Limits(16), 2, positions=32)
    assert found.cut == 1 and found.written[0].tokens <= 16
    kept = documents.encode(tokenizer, [long])[0][-15:]
    expected = reference_of_ids(model, [documents.start_id(tokenizer), *kept], 16)
    contents = documents.token_contents(tokenizer)
    assert found.written[0].tokens == len(expected)
    assert found.written[0].text == b"".join(contents[number] for number in expected).decode("utf-8", errors="replace")


@torch.inference_mode()
def reference_of_ids(model: PreTrainedModel, ids: list[int], count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        token = int(model(torch.tensor([ids + found])).logits[0, -1].argmax())
        if token == model.generation_config.eos_token_id:
            break
        found.append(token)
    return found


def test_no_prompts_give_no_texts_and_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = ready(byte_level_tokenizer)
    assert generation.write(model, tokenizer, [], Limits(4), 4).written == []
    assert not capsys.readouterr().out


def test_batch_time_is_divided_among_unfinished_texts() -> None:
    assert generation.shares([3, 3], 4.0) == pytest.approx([2.0, 2.0])
    # four steps of one second: the first (the prompt) divided among three texts, two among two, the last for one
    assert generation.shares([0, 2, 3], 4.0) == pytest.approx([1 / 3, 1 / 3 + 1, 1 / 3 + 2])
    model, tokenizer = ready(byte_level_tokenizer)
    found = generation.write(model, tokenizer, PROMPTS, Limits(12), 3)
    assert 0.5 * found.seconds < sum(one.seconds for one in found.written) <= found.seconds
    assert all(one.seconds > 0 for one in found.written)
