"""Confidence intervals: they contain the value, narrow with more examples, and detect only real differences."""

import math

import numpy as np
import pytest
from scipy import stats

from nemo_adapt import bootstrap


def rows(count: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(20, 200, size=count)
    return np.stack([sizes * math.log(2) * generator.uniform(1, 3, size=count), sizes], axis=1)


def test_interval_contains_the_value_and_narrows_with_more_examples() -> None:
    many = rows(2000)
    value = many[:, 0].sum() / math.log(2) / many[:, 1].sum()
    assert bootstrap.value(many, bootstrap.bits) == pytest.approx(value)
    wide, narrow = (bootstrap.interval(many[:count], bootstrap.bits) for count in (50, 2000))
    assert narrow[0] < value < narrow[1]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert bootstrap.interval(many, bootstrap.bits) == narrow


def test_interval_has_the_width_of_the_normal_approximation() -> None:
    hits = np.array([[1.0, 1.0]] * 300 + [[0.0, 1.0]] * 700)
    low, high = bootstrap.interval(hits)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.004)


def test_pairing_detects_a_difference_smaller_than_the_spread_of_examples() -> None:
    first = rows(200)
    second = first.copy()
    second[:, 0] *= 0.99
    low, high = bootstrap.paired(first, second, bootstrap.bits)
    assert low < high < 0 and high - low < 0.01
    alone = [bootstrap.interval(each, bootstrap.bits) for each in (first, second)]
    assert alone[1][1] > alone[0][0]
    assert bootstrap.paired(first, first, bootstrap.bits) == (0.0, 0.0)


def test_a_measure_need_not_be_a_ratio() -> None:
    low, high = bootstrap.interval(np.ones((50, 3)), lambda sums: float(np.prod(sums)))
    assert low == high == 50.0**3


def test_different_numbers_of_examples_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="3 and 2 examples"):
        bootstrap.paired(np.ones((3, 2)), np.ones((2, 2)))


def test_ratios_are_paired_like_differences() -> None:
    one = rows(400)
    twice = one * np.array([2.0, 1.0])
    assert bootstrap.paired(one, twice, bootstrap.bits, bootstrap.quotient) == pytest.approx((2.0, 2.0))
    low, high = bootstrap.paired(one, rows(400, seed=2), bootstrap.bits, bootstrap.quotient)
    assert low < 1.0 < high and high - low < 0.2
    assert bootstrap.quotient(3.0, 0.0) == 0.0


def test_blocks_keep_the_sums_and_about_the_interval_width() -> None:
    many = rows(2000)
    blocks = bootstrap.in_blocks(many, 300)
    assert blocks.shape == (300, 2) and blocks.sum(axis=0) == pytest.approx(many.sum(axis=0))
    assert np.array_equal(bootstrap.in_blocks(many, 5000), many)
    (low, high), (blocks_low, blocks_high) = (bootstrap.interval(of, bootstrap.bits) for of in (many, blocks))
    assert blocks_high - blocks_low == pytest.approx(high - low, rel=0.2)


def test_few_examples_have_no_interval():
    """It would exclude the truth, and any difference be called clear, far too often: resamples do not reach further."""
    few = rows(bootstrap.LEAST)
    assert bootstrap.interval(few[:-1]) is None and bootstrap.paired(few[:-1], few[1:]) is None
    assert bootstrap.interval(few) is not None and bootstrap.paired(few, few[::-1]) is not None


def test_an_interval_of_few_pairs_is_that_of_their_differences():
    few = rows(6)
    nothing = few * np.array([0.0, 1.0])
    assert bootstrap.paired(nothing, few, bootstrap.bits) == bootstrap.interval(few, bootstrap.bits)


@pytest.mark.parametrize("count", [5, 10, 50])
def test_intervals_of_few_documents_of_unlike_lengths_hold_the_truth(count):
    draw, held = np.random.default_rng(0), 0
    for _ in range(400):
        sizes = draw.lognormal(8, 1, count)
        low, high = bootstrap.interval(np.stack([sizes * draw.normal(1, 0.15, count), sizes], axis=1))
        held += low <= 1 <= high
    assert 0.89 < held / 400 < 0.98


def test_few_examples_get_percentiles_further_out():
    """Those of Student's t and of the spread that resamples lack: 0.1 and 99.9 of five."""
    few = rows(5)
    values = np.sort([bootstrap.ratio(sums) for sums in bootstrap._resampled(few)])
    reach = stats.t.ppf(0.975, 4) * math.sqrt(5 / 4)
    expected = np.percentile(values, [100 * stats.norm.cdf(-reach), 100 * stats.norm.cdf(reach)])
    assert bootstrap.interval(few) == pytest.approx(expected) and 0.0005 < stats.norm.cdf(-reach) < 0.0015
