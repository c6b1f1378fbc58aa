"""Means, intervals and differences of a study, against independent computations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nemo_adapt.study.compare import (
    against_base,
    by_value,
    differences,
    differences_within,
    effect,
    holm,
    p_value,
    summary,
)
from nemo_adapt.study.results import TARGET, Row


def made(effects, spread=0.01, seeds=4, languages=(0.0, 1.0, 3.0)):
    """Rows in which each strategy adds its effect, each language its level, and each run some noise."""
    draw = np.random.default_rng(3)
    return [
        Row(
            {"language": f"l{place}", "strategy": name},
            seed,
            {TARGET: level + added + spread * draw.standard_normal()},
        )
        for (place, level), (name, added), seed in itertools.product(
            enumerate(languages), effects.items(), range(seeds)
        )
    ]


def test_one_group_has_students_t_interval():
    values = [1.0, 1.2, 0.9, 1.4]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    mean = effect([values])
    assert mean.value == pytest.approx(np.mean(values)) and mean.runs == 4
    assert (mean.value - mean.half, mean.value + mean.half) == pytest.approx((low, high))
    assert p_value([values]) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


def test_several_groups_agree_with_a_linear_model():
    """Least squares with one level per group gives the same standard error of the mean level."""
    groups = [[0.1, 0.3, 0.2], [1.1, 1.0], [2.0, 2.3, 2.2, 2.4]]
    levels = np.repeat(np.eye(3), [3, 2, 4], axis=0)
    values = np.concatenate(groups)
    found, squares, *_ = np.linalg.lstsq(levels, values)
    variance = squares[0] / (9 - 3) * np.linalg.inv(levels.T @ levels)
    weights = np.full(3, 1 / 3)
    error = math.sqrt(weights @ variance @ weights)
    mean = effect(groups)
    assert mean.value == pytest.approx(weights @ found)
    assert mean.half == pytest.approx(stats.t.ppf(0.975, 6) * error)


def test_differences_are_computed_within_pairs():
    rows = made({"mean": 0.0, "better": -0.05, "same": 0.0})
    better, same = differences(rows, "strategy", ["mean", "better", "same"], TARGET)
    assert (better.value, same.value) == ("better", "same")
    assert better.mean.value == pytest.approx(-0.05, abs=0.01) and better.is_larger_than_noise
    assert not same.is_larger_than_noise  # although the languages differ by far more
    assert better.mean.runs == 12
    unpaired = [row for row in rows if (row.values["language"], row.values["strategy"]) != ("l0", "mean")]
    assert differences(unpaired, "strategy", ["mean", "better", "same"], TARGET)[0].mean.runs == 8


def test_rounding_error_is_not_a_difference():
    assert p_value([[0.3 - (0.1 + 0.2)] * 3]) == 1.0 and p_value([[0.5] * 3]) == 0.0


def test_one_seed_gives_no_interval_and_no_p_value():
    (found,) = differences(made({"mean": 0.0, "better": -1.0}, seeds=1), "strategy", ["mean", "better"], TARGET)
    assert found.mean.value == pytest.approx(-1.0, abs=0.05)
    assert math.isnan(found.p) and math.isnan(found.mean.half) and not found.is_larger_than_noise


def test_holm_correction():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([0.03, math.nan, 0.04]) == pytest.approx([0.06, math.nan, 0.06], nan_ok=True), "two comparisons"


def test_means_by_value_and_by_cell():
    rows = made({"mean": 0.0, "better": -0.5}, spread=0.0)
    assert by_value(rows, "strategy", TARGET)["better",].value == pytest.approx(4 / 3 - 0.5)
    assert by_value(rows, "language", TARGET, "strategy")["l2", "mean"].value == pytest.approx(3.0)
    cells = summary(rows, TARGET)
    assert len(cells) == 6 and cells["l1", "better"].value == pytest.approx(0.5)
    assert cells["l1", "better"].half == pytest.approx(0.0)


def test_means_use_only_combinations_that_all_values_have():
    rows = [row for row in made({"mean": 0.0, "better": -0.5}, spread=0.0) if row.others() != ("l2", "better")]
    means = by_value(rows, "strategy", TARGET)
    assert means["better",].value == pytest.approx(0.0) and means["mean",].value == pytest.approx(0.5)


def test_differences_within_values_of_another_axis_are_corrected_together():
    """A strategy that helps in one language only is found, corrected for all differences of the table."""
    rows = made({"mean": 0.0, "other": 0.0, "third": 0.0})
    here = [row for row in rows if (row.values["language"], row.values["strategy"]) == ("l1", "other")]
    for row in here:
        row.measures[TARGET] -= 0.5
    found = differences_within(rows, "strategy", ["mean", "other", "third"], TARGET, "language")
    assert list(found) == [(f"l{place}", value) for place in range(3) for value in ("other", "third")]
    assert [key for key, each in found.items() if each.is_larger_than_noise] == [("l1", "other")]
    assert found["l1", "other"].mean.value == pytest.approx(-0.5, abs=0.03) and found["l1", "other"].value == "other"
    own = [row for row in rows if row.values["language"] == "l1"]
    alone = differences(own, "strategy", ["mean", "other", "third"], TARGET)[0]
    assert found["l1", "other"].p == pytest.approx(3 * alone.p)  # corrected for six differences here, for two there


def test_changes_from_the_base_use_combinations_that_all_values_have():
    rows = [
        Row(row.values, row.seed, row.measures, base={TARGET: 2.0})
        for row in made({"mean": 0.0, "better": -0.5}, spread=0.0)
        if row.others() != ("l2", "better")
    ]
    found = against_base(rows, "strategy", ["mean", "better"], TARGET)
    assert found["mean"].mean.value == pytest.approx(0.5 - 2.0)
    assert found["better"].mean.value == pytest.approx(0.0 - 2.0) and found["better"].is_larger_than_noise
    assert against_base([Row(row.values, 0, row.measures) for row in rows], "strategy", ["mean"], TARGET) == {}
