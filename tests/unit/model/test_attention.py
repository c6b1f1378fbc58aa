"""Attention without Transformer Engine against its definition: windows in blocks, documents, more keys than queries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from megatron.core.transformer import TransformerConfig

from nemo_adapt.model import attention

HEADS, KV_HEADS, DIM = 4, 2, 8


@pytest.fixture(autouse=True, scope="module")
def alone():
    """Without ranks, there is no context parallelism."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(attention.parallel_state, "get_context_parallel_world_size", lambda: 1)
        yield


def module(window, cap=0.0):
    config = TransformerConfig(num_layers=1, hidden_size=HEADS * DIM, num_attention_heads=HEADS, attention_dropout=0.0)
    return attention.CoreAttention(config, 1, None, "self", windows=(window,), cap=cap)


def tensors(rows, columns, seed=1):
    made = torch.Generator().manual_seed(seed)
    shapes = (rows, 2, HEADS, DIM), (columns, 2, KV_HEADS, DIM), (columns, 2, KV_HEADS, DIM)
    return [torch.randn(*shape, generator=made, requires_grad=True) for shape in shapes]


def defined(query, key, value, window, cap=0.0, documents=None):
    """Return attention by its definition, [seq, batch, heads * dim]."""
    at, of = torch.arange(len(query))[:, None] + len(key) - len(query), torch.arange(len(key))
    seen = (of <= at) & ((of > at - window) if window else True)
    seen = seen.expand(query.shape[1], -1, -1)
    if documents is not None:
        seen = seen & (documents[:, -len(query) :, None] == documents[:, None, :])
    key, value = (each.repeat_interleave(HEADS // KV_HEADS, dim=2) for each in (key, value))
    scores = torch.einsum("qbhd,kbhd->bhqk", query, key) / DIM**0.5
    scores = cap * torch.tanh(scores / cap) if cap else scores
    weights = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1)
    return torch.einsum("bhqk,kbhd->qbhd", weights, value).flatten(2)


def assert_same(given, wanted, inputs):
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5)
    found, right = (torch.autograd.grad(each.square().sum(), inputs, retain_graph=True) for each in (given, wanted))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


LENGTHS = st.integers(1, 40)


@given(rows=LENGTHS, more=st.integers(0, 40), window=st.integers(0, 45), cap=st.sampled_from([0.0, 2.0]))
@settings(max_examples=150)
def test_attention_is_as_defined_for_all_lengths(rows, more, window, cap):
    """With as many queries as keys, and with fewer, as of a later chunk under context parallelism."""
    inputs = tensors(rows, rows + more)
    assert_same(module(window, cap)._attend(*inputs), defined(*inputs, window, cap), inputs)


@given(
    sizes=st.lists(st.integers(1, 15), min_size=1, max_size=6),
    share=st.floats(0, 1),
    window=st.integers(0, 12),
)
@settings(max_examples=100)
def test_documents_do_not_see_each_other(sizes, share, window):
    """Both samples have other documents; the queries begin anywhere, so that documents before them have none."""
    columns = sum(sizes)
    rows = max(1, round(share * columns))
    documents = torch.stack(
        [torch.arange(len(order)).repeat_interleave(torch.tensor(order)) for order in (sizes, sizes[::-1])]
    )
    inputs = tensors(rows, columns)
    given = module(window)._attend_apart(*inputs, documents)
    assert_same(given, defined(*inputs, window, documents=documents), inputs)


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_masks_of_a_window_do_not_grow_with_the_sequence(monkeypatch, cap):
    made = []
    plain = attention._bias.__wrapped__
    monkeypatch.setattr(attention, "_bias", lambda *what: made.append(what[:2]) or plain(*what))
    inputs = tensors(100, 100)
    module(8, cap)._attend(*inputs)
    assert made and max(columns for _, columns in made) == 16 and max(rows for rows, _ in made) == 8


def test_all_layers_share_a_mask():
    attention._bias.cache_clear()
    inputs = tensors(64, 64)
    for _ in range(3):
        module(8)._attend(*inputs)
    assert attention._bias.cache_info().misses == 1
