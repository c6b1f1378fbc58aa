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
    group = dict(enumerate(values))
    mean = effect([group])
    assert mean.value == pytest.approx(np.mean(values)) and mean.runs == 4
    assert (mean.value - mean.half, mean.value + mean.half) == pytest.approx((low, high))
    assert p_value([group]) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


def test_a_seed_is_the_unit_of_several_combinations():
    """They share its order of the text and its draws: of more combinations the interval gets no narrower by itself."""
    groups = [{0: 0.1, 1: 0.3, 2: 0.2}, {0: 1.0, 1: 1.1, 2: 1.3}, {0: 2.0, 1: 2.3, 2: 2.2}]
    by_seed = [np.mean([group[seed] for group in groups]) for seed in range(3)]
    mean = effect(groups)
    assert mean.value == pytest.approx(np.mean(by_seed)) and mean.runs == 9
    assert mean.half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(by_seed))
    assert p_value(groups) == pytest.approx(stats.ttest_1samp(by_seed, 0.0).pvalue)
    assert effect(4 * groups).half == pytest.approx(mean.half)


def test_a_seed_of_an_unfinished_study_counts_as_often_as_it_enters_the_mean():
    mean = effect([{0: 1.0, 1: 3.0}, {0: 5.0}])
    assert mean.value == 3.5
    variance = 2.0  # of the two seeds of the first combination
    assert mean.half == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(variance * (0.75**2 + 0.25**2)))


@pytest.mark.parametrize("runs", [(6, 6, 6), (12, 12, 5), (12, 3)], ids=str)
def test_chance_is_found_larger_than_noise_in_one_of_twenty_tables(runs):
    """Also where seeds have effects of their own, and of an unfinished study: ``runs`` of each seed."""
    draw = np.random.default_rng(0)

    def table():
        of_seed = draw.standard_normal(len(runs))
        return [
            {seed: of_seed[seed] + draw.standard_normal() for seed, count in enumerate(runs) if place < count}
            for place in range(runs[0])
        ]

    found = np.mean([p_value(table()) < 0.05 for _ in range(500)])
    assert 0.01 < found < 0.08  # three standard errors above 0.05


def test_seeds_that_agree_on_a_task_are_no_certainty():
    """Two seeds that gain the same two of 50 examples are chance often enough."""
    rows = [
        Row({"strategy": name}, seed, {TARGET: level, "XNLI, accuracy": 50 + level})
        for (name, level), seed in itertools.product({"mean": 0.0, "better": 2.0}.items(), range(2))
    ]
    (of_task,) = differences(rows, "strategy", ["mean", "better"], "XNLI, accuracy")
    assert of_task.mean.value == 2.0 and math.isnan(of_task.p) and math.isnan(of_task.mean.half)
    (certain,) = differences(rows, "strategy", ["mean", "better"], TARGET)
    assert certain.p == 0 and certain.mean.half == 0


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
    assert p_value([dict.fromkeys(range(3), 0.3 - (0.1 + 0.2))]) == 1.0
    assert p_value([{0: 0.5, 1: 0.5 + 1e-16, 2: 0.5}]) == 0.0


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
