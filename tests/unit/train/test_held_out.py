"""How the windows of held-out text are divided among data-parallel ranks and the micro batches of a pipeline."""

from unittest import mock

import numpy as np
import pytest
import torch
from helpers import zoo
from helpers.bytes_tokenizer import save_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from nemo_adapt.config import Config
from nemo_adapt.evaluate import models
from nemo_adapt.evaluate.bits_per_byte import batches
from nemo_adapt.train import held_out
from nemo_adapt.train.schedule import parallel_state

WINDOW = 12


def scored_by(lengths: list[int], dp: int, pp: int, interleaved: bool) -> list[list[list[held_out.Batch]]]:
    """Return the micro batches of each data-parallel rank's schedules."""
    sequences = [np.arange(1, length + 1) for length in lengths]
    chunks, ranks = [mock.Mock()] * (2 if interleaved else 1), []
    sizes = {"data": dp, "pipeline_model": pp, "tensor_model": 2, "context": 1}
    answers = {f"get_{name}_parallel_world_size": mock.Mock(return_value=size) for name, size in sizes.items()}

    def score(chunks: object, found: list[held_out.Batch]) -> float:
        assert not torch.is_grad_enabled(), "the graph of every pass would stay in memory"
        calls.append(found)
        return 0.0

    for rank in range(dp):
        calls: list[list[held_out.Batch]] = []
        with (
            mock.patch.multiple(parallel_state, **answers, get_data_parallel_rank=lambda rank=rank: rank),
            mock.patch.object(held_out, "_score", score),
            mock.patch.object(held_out, "sum_over_ranks", lambda sums: sums),
        ):
            held_out.nats(chunks, sequences, WINDOW, 3, 100)
        ranks.append(calls)
    return ranks


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=60),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([(1, False), (2, False), (2, True), (4, False), (4, True)]),
)
def test_each_token_is_scored_once_in_micro_batches_of_one_shape(lengths, dp, pipeline):
    pp, interleaved = pipeline
    ranks = scored_by(lengths, dp, pp, interleaved)
    labels = [
        int(label) for calls in ranks for call in calls for batch in call for label in batch.labels[batch.counted]
    ]
    assert sorted(labels) == sorted(number for length in lengths for number in range(2, length + 1))
    for call in (call for calls in ranks for call in calls):
        (shape,) = {batch.tokens.shape for batch in call}
        assert len(call) <= (held_out.MICRO_BATCHES_PER_STAGE * pp if pp > 1 else 1)
        assert shape[0] * shape[1] <= max(3 * WINDOW, shape[1]) + shape[0]  # one position more: a multiple of TP
        assert len(call) % pp == 0 or not interleaved
        assert interleaved or all(batch.counted.any() for batch in call)  # no pass for nothing


@pytest.mark.parametrize(("pp", "expected"), [(1, [3, 3, 2]), (2, [8])])
def test_a_pipeline_gets_many_micro_batches_at_once(pp, expected):
    (calls,) = scored_by([WINDOW + 1] * 8, 1, pp, False)
    assert [sum(batch.tokens.shape[0] for batch in call) for call in calls] == expected
    assert [len(call) for call in calls] == ([1, 1, 1] if pp == 1 else [8])


def test_data_parallel_ranks_take_equal_parts():
    ranks = scored_by([WINDOW + 1] * 10, 4, 1, False)
    assert [[batch.tokens.shape[0] for (batch,) in calls] for calls in ranks] == [[3], [3], [2], [2]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "xglm"])
def test_windows_are_those_of_the_report(tmp_path, name):
    """Also where samples are longer than the model reads at once, which rotary positions allow."""
    folder = tmp_path / "model"
    zoo.make(folder, name, vocab=257)
    save_tokenizer(folder)
    (tmp_path / "text.txt").write_text("Bir gün.\n", encoding="utf-8")
    config = Config()
    candidate = models.inspect(folder, folder)
    for config.train.seq_length, config.evaluate.context in ((16, 0), (5000, 0), (5000, 8)):
        found = held_out.HeldOut.of(config, tmp_path / "text.txt", folder, 0, folder).window
        assert found == models.context_window(config.evaluate.context, config.train.seq_length, [candidate, candidate])


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 8))
def test_windows_of_a_batch_are_of_similar_length(lengths, passes):
    sequences = [np.zeros(length + 1, dtype=np.int64) for length in lengths]
    found = list(batches(sequences, 24, 2, 100, passes))
    for group in found:
        sizes = [item.end - item.begin for item in group]
        assert sizes == sorted(sizes, reverse=True) and 2 * sizes[-1] >= sizes[0]
        assert len(sizes) <= passes * max(1, 48 // sizes[0])
    assert sum(item.scored for group in found for item in group) == sum(lengths)


def test_another_held_out_text_than_before_is_said(tmp_path, monkeypatch, capsys):
    """Its curve would be of two texts, without a word."""
    monkeypatch.setattr(held_out, "first_rank_does", lambda action: action())
    monkeypatch.setattr(held_out.dist, "get_rank", lambda: 0)
    texts = {name: tmp_path / f"{name}.txt" for name in ("tr", "en")}
    for path in texts.values():
        path.write_text("one")
    progress = {"step": 20}
    for _ in range(2):
        held_out.note_texts(progress, texts)
    held_out.note_texts(progress, {})
    assert not capsys.readouterr().out
    texts["tr"].write_text("another")
    held_out.note_texts(progress, {**texts, "hi": texts["en"]})
    said = "evaluate.texts.tr: another text than until step 20: held_out.jsonl has scores of both\n"
    assert capsys.readouterr().out == said
    held_out.note_texts(progress, texts)
    assert not capsys.readouterr().out
