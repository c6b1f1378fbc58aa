"""A plan gives the same bits from a source in one process, on ranks or in a file; and each term is what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.plans import COLUMNS, KEPT, NEW, NORM_OF, PLANS, SHARES, SOURCE, mixture, nothing, source_table
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import resize_bodies
from safetensors.torch import save_file

from nemo_adapt.errors import UserError
from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.resize.engine import Resize, bias_plan
from nemo_adapt.resize.noise import square_root
from nemo_adapt.resize.plan import Noise, RowPlan
from nemo_adapt.resize.statistics import Moments, norms, weighted_norm
from nemo_adapt.resize.stored import StoredTable
from nemo_adapt.resize.table import ShardedTable

PADDED = 72
ROW = COLUMNS * 4
"""Bytes of a float32 row."""


def in_one_process(plan, dtype=torch.float32):
    return resize_bodies.resize_alone(source_table(dtype), plan, PADDED, KEPT)


def new_rows(plan):
    """Return the new rows, and the rows of the source without padding, in float64."""
    return in_one_process(plan)[KEPT : KEPT + NEW].double(), source_table()[:KEPT].double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_rows_are_bit_identical_on_any_number_of_ranks(ranks, size, dtype):
    made = ranks(size).run(
        resize_bodies.resize_sharded, source_table(dtype), list(PLANS.values()), KEPT, PADDED, 1 << 20
    )
    for number, (name, plan) in enumerate(PLANS.items()):
        gathered = torch.cat([shards[number][0] for shards in made])
        assert torch.equal(gathered, in_one_process(plan, dtype)), name


def test_rows_are_bit_identical_when_filled_in_portions_from_a_file(tmp_path):
    save_file({"table": source_table()}, tmp_path / "model.safetensors")
    weights = HfWeights(tmp_path)
    for name, plan in PLANS.items():
        resize = Resize(StoredTable(weights, "table"), plan, KEPT, resize_bodies.SEED)
        made = torch.full((PADDED, COLUMNS), torch.nan)
        for start in range(0, PADDED, 7):
            resize.fill(made[start : start + 7], start)
        assert torch.equal(made, in_one_process(plan)), name


@pytest.mark.parametrize("room", [2, 40, 1000])
def test_exchange_size_is_bounded_and_does_not_change_rows(ranks, room):
    """With room for few rows per exchange the result equals that of one large exchange, and of one process."""
    plans = [PLANS["everything"], PLANS["long rows"]]
    made = ranks(2).run(resize_bodies.resize_sharded, source_table(), plans, KEPT, PADDED, 2 * room * ROW)
    for number, plan in enumerate(plans):
        assert torch.equal(torch.cat([shards[number][0] for shards in made]), in_one_process(plan))
        assert 0 < max(shards[number][1] for shards in made) <= room


@pytest.mark.parametrize("starts", [[0, 30], [0, 34], [32, 0]])
def test_non_contiguous_ranges_of_ranks_are_rejected(ranks, starts):
    said = ranks(2).run(resize_bodies.error_of_ranges, source_table()[:60], RowPlan(nothing(60)), starts, 32)
    assert all("do not follow one another" in each for each in said)


def test_check_detects_a_wrong_owner_of_rows(ranks):
    """Negative control: ranks whose rows are off by one give other rows."""
    plan = PLANS["combination"]
    made = ranks(2).run(resize_bodies.resize_sharded, source_table(), [plan], KEPT, PADDED, 1 << 20, 1)
    assert not torch.equal(torch.cat([shards[0][0] for shards in made]), in_one_process(plan))


def test_kept_rows_do_not_change_and_padded_rows_are_zero():
    for plan in PLANS.values():
        made = in_one_process(plan)
        assert torch.equal(made[:KEPT], source_table()[:KEPT]) and not made[KEPT + NEW :].any()


def test_combinations_and_means_equal_numpys():
    made, source = new_rows(PLANS["a share of the mean for some"])
    expected = mixture().toarray() @ source.numpy() + SHARES[:, None] * source.numpy().mean(0)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    made, source = new_rows(PLANS["mean"])
    np.testing.assert_allclose(made, np.tile(source.numpy().mean(0), (NEW, 1)), rtol=1e-6)


def test_rows_are_scaled_to_the_weighted_mean_of_source_norms():
    made, source = new_rows(PLANS["norm"])
    target = np.average(np.linalg.norm(source.numpy(), axis=1), weights=NORM_OF)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), target, rtol=1e-6)
    unscaled, _ = new_rows(PLANS["combination"])
    cosine = torch.nn.functional.cosine_similarity(made, unscaled)
    np.testing.assert_allclose(cosine, 1.0, rtol=1e-6)


def test_zero_row_stays_zero_when_scaled_to_a_norm():
    assert not new_rows(RowPlan(nothing(), norm_of=NORM_OF))[0].any()


@pytest.mark.parametrize("kind", ["unit", "diagonal", "covariance"])
def test_noise_has_the_requested_covariance(kind):
    """4,000 draws: the standard error of a standard deviation is 1.2%, that of a correlation 0.016."""
    many = RowPlan(nothing(4000), mean_share=1.0, noise=Noise(kind, 0.5))
    source = source_table()
    made = resize_bodies.resize_alone(source, many, KEPT + 4000, KEPT)[KEPT:].double().numpy()
    real = source[:KEPT].double().numpy()
    cov = np.cov(real.T, bias=True)
    expected = {"unit": np.eye(COLUMNS), "diagonal": np.diag(np.diag(cov)), "covariance": cov}[kind] * 0.25
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs(np.corrcoef(real.T) - np.eye(COLUMNS)).max() > 0.5  # else the kinds would be alike
    np.testing.assert_allclose(np.cov(made.T) / scale, expected / scale, atol=0.08)
    np.testing.assert_allclose((made.mean(0) - real.mean(0)) / np.sqrt(np.diag(expected)), 0, atol=0.08)


def test_noise_of_a_row_depends_only_on_its_id():
    few, many = (RowPlan(nothing(number), noise=Noise("covariance")) for number in (3, 15))
    a, b = (resize_bodies.resize_alone(source_table(), plan, PADDED, KEPT)[KEPT : KEPT + 3] for plan in (few, many))
    assert torch.equal(a, b) and len(a.unique(dim=0)) == 3


def test_square_root_of_a_singular_covariance():
    """There are more columns than rows, and one column is constant."""
    rows = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows[:, 2] = 1.0
    cov = torch.cov(rows.T, correction=0)
    root = square_root(cov)
    torch.testing.assert_close(root @ root.T, cov, rtol=0, atol=1e-12)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(2, 60),
    power=st.integers(-30, 30),
    cuts=st.lists(st.integers(1, 59), max_size=3),
)
def test_moments_equal_numpys_in_any_order_of_blocks(seed, count, power, cuts):
    """At any magnitude; blocks of any height give the same bits."""
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed)) * 2.0**power

    class Blocks(ShardedTable):
        def local_blocks(self, count, block_bytes=0):
            ends = sorted({0, *(cut for cut in cuts if cut < count), count})
            for begin, end in zip(ends[::-1][1:], ends[::-1], strict=False):  # last block first
                yield begin, self.rows[begin:end]

    one, other = (Moments(kind(rows, (0, 60)), count) for kind in (ShardedTable, Blocks))
    real = rows[:count].double().numpy()
    np.testing.assert_allclose(one.mean, real.mean(0), rtol=0, atol=1e-9 * 2.0**power)
    np.testing.assert_allclose(one.std, real.std(0), rtol=1e-7)
    np.testing.assert_allclose(one.covariance(), np.cov(real.T, bias=True), rtol=0, atol=1e-4 * 4.0**power)
    assert torch.equal(one.mean, other.mean) and torch.equal(one.std, other.std)
    assert torch.equal(one.covariance(), other.covariance())
    weights = np.random.default_rng(seed).random(60)
    norm = weighted_norm(one.source, count, weights)
    assert norm == weighted_norm(other.source, count, weights)
    np.testing.assert_allclose(norm, np.linalg.norm(real, axis=1) @ weights[:count] / weights.sum(), rtol=1e-9)


@settings(max_examples=20)
@given(columns=st.integers(1, 70))
def test_norms_equal_numpys_and_do_not_depend_on_other_rows(columns):
    rows = torch.randn(9, columns, generator=torch.Generator().manual_seed(columns))
    np.testing.assert_allclose(norms(rows), np.linalg.norm(rows.double(), axis=1), rtol=1e-12)
    assert torch.equal(norms(rows)[4:5], norms(rows[4:5]))


def test_biases_are_combined_like_rows_and_else_the_mean():
    plan = RowPlan(mixture(), mean_share=0.0, noise=Noise("unit"), norm_of=NORM_OF)
    weights = plan.combination.toarray()
    plan.combination.data[plan.combination.indptr[3] : plan.combination.indptr[4]] = 0  # zero weights: stays zero
    weights[3] = 0
    biases = torch.linspace(-1, 1, SOURCE)[:, None]
    made = resize_bodies.resize_alone(biases, bias_plan(plan), PADDED, KEPT)[KEPT : KEPT + NEW, 0]
    np.testing.assert_allclose(made, weights @ biases[:KEPT, 0].numpy(), rtol=1e-5, atol=1e-6)
    random = resize_bodies.resize_alone(biases, bias_plan(RowPlan(nothing(), noise=Noise("unit"))), PADDED, KEPT)
    np.testing.assert_allclose(random[KEPT : KEPT + NEW, 0], biases[:KEPT].mean(), rtol=1e-5)


BAD_PLANS = {
    "source row out of range": (RowPlan(mixture(source=KEPT + 3)), "there are only rows 0 to 45"),
    "weights that are not finite": (RowPlan(nothing(), mean_share=float("nan")), "weights hold NaN or infinity"),
    "unknown noise": (RowPlan(nothing(), noise=Noise("diagnal")), "'diagnal' is none of unit, diagonal, covariance"),
    "norm weights of another table": (RowPlan(nothing(), norm_of=np.ones(3)), "norm weights must be 46 numbers"),
    "norm weights below zero": (RowPlan(nothing(), norm_of=-np.ones(KEPT)), "none below 0"),
}


@pytest.mark.parametrize(("plan", "says"), BAD_PLANS.values(), ids=list(BAD_PLANS))
def test_invalid_plan_is_rejected(plan, says):
    with pytest.raises(UserError, match=says):
        in_one_process(plan)


def test_nan_in_the_source_is_reported_on_all_ranks(ranks):
    source = source_table()
    for row in (3, 30):
        source[row, 1] = torch.nan
    plan = RowPlan(nothing(source=SOURCE))
    said = ranks(2).run(resize_bodies.error_of, source, plan)
    assert said[0] == said[1] and "2 rows hold NaN or infinity: 3, 30; repair" in said[0] and "UserError" in said[0]
    source[10:40] = torch.inf
    assert (
        "31 rows hold NaN or infinity: 3, 10, 11, 12, 13, 14, 15, 16, 17, 18, …"
        in ranks(2).run(resize_bodies.error_of, source, plan)[0]
    )


def test_nan_in_padded_source_rows_is_ignored():
    source = source_table()
    source[KEPT:] = torch.nan
    plan = PLANS["everything"]
    assert torch.equal(resize_bodies.resize_alone(source, plan, PADDED, KEPT), in_one_process(plan))


def test_another_seed_gives_other_noise():
    plan = replace(PLANS["unit noise"])
    other = torch.empty(PADDED, COLUMNS)
    Resize(ShardedTable(source_table(), (0, SOURCE)), plan, KEPT, resize_bodies.SEED + 1).fill(other, 0)
    assert torch.equal(other[:KEPT], in_one_process(plan)[:KEPT]) and not torch.equal(other, in_one_process(plan))
