"""Weight gradients added to their sum within the product: all rows or some, in the sum's precision or another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemo_adapt.patches.weight_gradients import adder, sums_of_rows

TOKENS, IN, OUT = 12, 5, 9


def drawn(dtype):
    torch.manual_seed(0)
    return torch.randn(TOKENS, IN).to(dtype), torch.randn(TOKENS, OUT).to(dtype), torch.randn(OUT, IN)


def forbidden(*tensors):
    raise AssertionError("called")


def test_a_gradient_is_added_to_the_sum_of_earlier_ones():
    inputs, gradients, sums = drawn(torch.float32)
    expected = sums + gradients.t() @ inputs
    adder(forbidden)(inputs, gradients, sums)
    torch.testing.assert_close(sums, expected)


@given(st.integers(0, OUT), st.integers(0, OUT), st.sampled_from([torch.float32, torch.bfloat16]))
def test_only_the_trained_rows_are_changed(first, count, dtype):
    inputs, gradients, sums = drawn(dtype)
    stop = min(OUT, first + count)
    expected = sums.clone()
    expected[first:stop] += gradients[:, first:stop].t() @ inputs
    adder(None)(inputs, gradients, sums_of_rows(sums[first:stop], first))
    torch.testing.assert_close(sums, expected)


@pytest.mark.parametrize("first", [None, 2])
def test_the_kernel_gets_gradients_of_another_precision(first):
    """As apex's kernel needs them: contiguous matrices."""
    inputs, gradients, sums = drawn(torch.bfloat16)
    seen = []
    adder(lambda *tensors: seen.extend(tensors))(
        inputs, gradients, sums if first is None else sums_of_rows(sums[2:], 2)
    )
    assert torch.equal(seen[1], gradients[:, first:]) and all(each.is_contiguous() for each in seen)
    assert seen[2].data_ptr() == sums[first:].data_ptr()


def test_a_shard_without_new_rows_computes_nothing():
    inputs, gradients, _ = drawn(torch.bfloat16)
    adder(forbidden)(inputs, gradients, sums_of_rows(torch.empty(0), 40))
