"""NaN and infinity are found anywhere in a table, and no finite number is reported."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemo_adapt.errors import UserError
from nemo_adapt.resize import finite
from nemo_adapt.resize.finite import BITS, check_finite
from nemo_adapt.resize.table import ShardedTable

ROWS, COLUMNS = 40, 7


def of_bits(dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Random finite numbers, with zeros, the smallest and the largest among them."""
    info = np.iinfo(BITS[dtype].unsigned.dtype)
    bits = np.random.default_rng(seed).integers(info.min, info.max, (ROWS, COLUMNS), endpoint=True, dtype=info.dtype)
    table = torch.from_numpy(bits).view(dtype)
    table[~torch.isfinite(table)] = torch.finfo(dtype).max
    table[0, :4] = torch.tensor([0.0, -0.0, torch.finfo(dtype).min, torch.finfo(dtype).smallest_normal])
    return table


@pytest.mark.parametrize("dtype", [*BITS, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@given(places=st.sets(st.integers(0, ROWS * COLUMNS - 1), max_size=30), seed=st.integers(0, 2**32 - 1))
def test_rows_that_are_not_finite_are_named(dtype, value, places, seed):
    table = of_bits(dtype, seed) if dtype in BITS else torch.zeros(ROWS, COLUMNS, dtype=dtype)
    table.view(-1)[list(places)] = value
    bad = sorted({place // COLUMNS for place in places})
    source = ShardedTable(table, (0, ROWS))
    if not bad:
        return check_finite(source, ROWS, "table")
    with pytest.raises(UserError) as caught:
        check_finite(source, ROWS, "table")
    noun = "row holds" if len(bad) == 1 else "rows hold"
    assert f"table: {len(bad)} {noun} NaN or infinity: {', '.join(map(str, bad[:10]))}" in str(caught.value)
    assert (", …" in str(caught.value)) == (len(bad) > 10)


@pytest.mark.parametrize("threads", [1, 2])
def test_last_element_is_checked_with_many_blocks(monkeypatch, threads):
    monkeypatch.setattr(finite, "BLOCK_BYTES", 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    table = torch.zeros(ROWS, COLUMNS, dtype=torch.bfloat16)
    check_finite(ShardedTable(table, (0, ROWS)), ROWS, "table")
    table[-1, -1] = float("nan")
    with pytest.raises(UserError, match=f"1 row holds NaN or infinity: {ROWS - 1};"):
        check_finite(ShardedTable(table, (0, ROWS)), ROWS, "table")


def test_rows_after_the_given_count_are_not_checked():
    table = torch.zeros(ROWS, COLUMNS)
    table[30:] = float("inf")
    check_finite(ShardedTable(table, (0, ROWS)), 30, "table")
