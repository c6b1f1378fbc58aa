"""A plan is cut into portions that fit; all implementations of the sums give the same bits."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from nemo_adapt.resize import portions
from nemo_adapt.resize.sums import STRETCH, Terms


def plan_of(lengths, source, seed):
    draw = np.random.default_rng(seed)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    weights = draw.standard_normal(ends[-1]).astype(np.float32)
    return csr_matrix((weights, draw.integers(0, source, ends[-1]), ends), shape=(len(lengths), source))


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 12), st.integers(1, 20), st.data())
def test_portions_hold_all_terms_in_order_and_fit(lengths, room, source, data):
    plan = plan_of(lengths, source, 0)
    first = data.draw(st.integers(0, len(lengths)))
    last = data.draw(st.integers(first, len(lengths)))
    found = portions.cut(plan, first, last, room)
    assert [row for one in found for row in range(one.first, one.last)] == list(range(first, last))
    for one in found:
        assert 0 < one.last - one.first <= room
        assert len(one.parts) == 1 or one.last == one.first + 1
        edges = [plan.indptr[one.first], *(end for _, end in one.parts)]
        assert [begin for begin, _ in one.parts] == edges[:-1] and edges[-1] == plan.indptr[one.last]
        for begin, end in one.parts:
            assert len(np.unique(plan.indices[begin:end])) <= room
            assert end - begin <= portions.TERMS_PER_ROW * room
        assert one.part(len(one.parts)) == (0, 0)
    for one, following in itertools.pairwise(found):  # none could have been longer
        more = slice(plan.indptr[one.first], plan.indptr[following.first + 1])
        terms, names = more.stop - more.start, len(np.unique(plan.indices[more]))
        rows = following.first + 1 - one.first
        assert max(rows, names) > room or terms > portions.TERMS_PER_ROW * room or len(one.parts) > 1


COLUMNS = st.integers(1, 40) | st.integers(STRETCH - 1, STRETCH + 1) | st.integers(2 * STRETCH, 2 * STRETCH + 40)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 20), COLUMNS, st.integers(0, 99))
def test_compiled_sums_equal_those_of_torch_and_numpy(lengths, far, columns, seed):
    for dtype in (torch.float32, torch.bfloat16):
        draw = torch.Generator().manual_seed(seed)
        tables = [torch.randn(rows, columns, generator=draw).mul(1e3).to(dtype) for rows in (7, far)]
        plan = plan_of(lengths, 7 + far, seed)
        terms = Terms(*tables, plan.indices.astype(np.int64), plan.data)
        begun = torch.randn(len(lengths), columns, generator=draw)
        compiled, by_torch, expected = begun.clone(), begun.clone(), begun.numpy().copy()
        terms.add_to(compiled, plan.indptr.astype(np.int64))
        terms._add_by_torch(by_torch, plan.indptr.astype(np.int64))
        rows = torch.cat(tables).float().numpy()
        for row, (begin, end) in enumerate(zip(plan.indptr, plan.indptr[1:], strict=False)):
            for term in range(begin, end):
                expected[row] += plan.data[term] * rows[plan.indices[term]]  # float32: rounded twice
        assert torch.equal(compiled, by_torch) and torch.equal(compiled, torch.from_numpy(expected))


def test_products_are_rounded_before_they_are_added():
    """(1 + e)^2 - 1 - 2e is e^2 with fused multiply-add, and 0 if the product is rounded."""
    e = 2.0**-12
    rows = torch.full((1, 16), 1 + e)
    for name in ("add_to", "_add_by_torch"):
        made = torch.full((1, 16), -(1 + 2 * e))
        getattr(Terms(rows, rows[:0], np.array([0]), np.array([1 + e], dtype=np.float32)), name)(made, np.array([0, 1]))
        assert not made.any(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_are_summed_by_torch(dtype):
    rows = torch.arange(6, dtype=dtype).view(3, 2)
    made = torch.zeros(1, 2)
    Terms(rows[:2], rows[2:], np.array([0, 2]), np.array([1, 0.5], dtype=np.float32)).add_to(made, np.array([0, 2]))
    assert made.tolist() == [[2.0, 3.5]]
