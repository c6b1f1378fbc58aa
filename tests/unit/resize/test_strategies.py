"""Every strategy against a plain computation of what its docstring says."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt.auxiliary.stage import KINDS
from nemo_adapt.config import ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import INPUT, OUTPUT
from nemo_adapt.resize import similarity
from nemo_adapt.resize.plan import Materials, Noise, combine_rows, strategies
from nemo_adapt.resize.strategies import omp
from nemo_adapt.resize.strategies.focus import sparsemax
from nemo_adapt.resize.strategies.wechsel import nearest
from nemo_adapt.resize.strategy_inputs import StrategyInputs
from nemo_adapt.tokens.token_map import NewToken, TokenMap

quick = settings(max_examples=25)
VOCAB = 12
SIZES = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 7], dtype=np.int32)
"""Bytes of the base's pieces; the first two are special tokens."""
CHARACTERS = " aağşकह𝕏"
PUBLISHED = [
    "align",
    "calibrated",
    "focus",
    "frequency_weighted",
    "mean",
    "multivariate_normal",
    "normal",
    "omp",
    "random_init",
    "random_token",
    "subword_mean",
    "subword_weighted",
    "subword_weighted_position",
    "wechsel",
    "zero",
]
NEEDS_NO_ROW = {"zero", "mean", "normal", "multivariate_normal", "random_init"}


@st.composite
def token_maps(draw):
    """New tokens whose text is as long in bytes as their pieces; some pieces repeat, some tokens have only one."""
    tokens = []
    for index in range(draw(st.integers(1, 5))):
        pieces = draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=5))
        left, text = int(SIZES[pieces].sum()), ""
        while left:
            text += draw(st.sampled_from([char for char in CHARACTERS if len(char.encode()) <= left]))
            left -= len(text[-1].encode())
        tokens.append(NewToken(VOCAB + index, text, text, pieces, len(text.encode()), draw(st.integers(0, 9))))
    return TokenMap(VOCAB, tokens)


def auxiliary(token_map, seed=0):
    """Random auxiliary data of every kind: some tokens have no vector and no meeting."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((token_map.target_vocab, 6)).astype(np.float32)
    vectors[random.random(token_map.target_vocab) < 0.2] = 0.0
    met = random.integers(0, 5, (len(token_map.tokens), VOCAB)) * (random.random(len(token_map.tokens)) < 0.7)[:, None]
    new, piece = np.nonzero(met)
    counts = met[new, piece]
    return {
        "piece_bytes": {"bytes": SIZES},
        "vectors": {"vectors": vectors},
        "bilingual": {"source": vectors[:VOCAB], "target": vectors[VOCAB:]},
        "overlaps": {"new": new, "piece": piece, "count": counts, "bytes": counts * (1 + piece)},
    }


def plan_of(name, token_map, table=INPUT, given=None, **changed):
    chosen = ResizeConfig(**changed)
    given = auxiliary(token_map) if given is None else given
    return strategies.get(name).plan(Materials(token_map, table, 7, 0.05, chosen, given))


def dense(plan):
    return plan.combination.toarray()


def weighted(token, weights):
    """One expected row."""
    row = np.zeros(VOCAB)
    for piece, weight in zip(token.source_ids, weights, strict=True):
        row[piece] += weight / sum(weights)
    return row


def uniform(token):
    return weighted(token, [1] * len(token.source_ids))


def test_published_strategies_are_registered_and_documented():
    assert set(PUBLISHED) <= set(strategies.names())
    for name in strategies.names():
        strategy = strategies.get(name)
        assert strategy.plan.__doc__ and set(strategy.needs) <= set(KINDS), name
    with pytest.raises(UserError, match="Did you mean 'subword_weighted'"):
        strategies.get("subword_weihgted")


@pytest.mark.parametrize("name", PUBLISHED)
@quick
@given(token_map=token_maps(), table=st.sampled_from([INPUT, OUTPUT]))
def test_plans_are_complete_finite_and_deterministic(name, token_map, table):
    plan, again = plan_of(name, token_map, table), plan_of(name, token_map, table)
    combination = plan.combination
    assert combination.shape == (len(token_map.tokens), VOCAB) and combination.dtype == np.float32
    assert np.isfinite(combination.data).all()
    for part in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(combination, part), getattr(again.combination, part))
    filled = np.diff(combination.indptr)
    if name in NEEDS_NO_ROW:
        assert not filled.any()
    else:
        assert filled.all()
    if name not in {*NEEDS_NO_ROW, "omp"}:
        np.testing.assert_allclose(combination.toarray().sum(1), 1.0, rtol=1e-6)
        assert (combination.data >= 0).all()


def test_missing_auxiliary_data_is_a_user_error(tmp_path):
    token_map = TokenMap(VOCAB, [NewToken(VOCAB, "a", "a", [1], 1, 1)])
    for folders in ({}, {"vectors": tmp_path}):
        with pytest.raises(UserError, match=r"resize\.input=focus needs auxiliary/vectors: run the auxiliary stage"):
            StrategyInputs(tmp_path, folders).plan(ResizeConfig(input="focus"), INPUT, token_map)


@pytest.mark.parametrize("said", ["", ', "initializer_range": null'])
def test_a_spread_that_config_json_does_not_say_is_llama_s(tmp_path, said):
    token_map = TokenMap(VOCAB, [NewToken(VOCAB, "a", "a", [1, 3], 1, 1)])
    (tmp_path / "config.json").write_text(f'{{"architectures": ["LlamaForCausalLM"]{said}}}')
    plan = StrategyInputs(tmp_path).plan(ResizeConfig(output="random_init"), OUTPUT, token_map)
    assert plan.noise == Noise("unit", 0.02)


def test_strategy_inputs_are_read_from_the_model_and_auxiliary_folders(tmp_path):
    token_map = TokenMap(VOCAB, [NewToken(VOCAB, "a", "a", [1, 3], 1, 1)])
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "initializer_range": 0.3}')
    plan = StrategyInputs(tmp_path).plan(ResizeConfig(input="zero", output="random_init"), OUTPUT, token_map)
    assert plan.noise == Noise("unit", 0.3)
    np.savez(tmp_path / "piece_bytes.npz", bytes=SIZES)
    plan = StrategyInputs(tmp_path, {"piece_bytes": tmp_path}).plan(
        ResizeConfig(input="subword_weighted"), INPUT, token_map
    )
    assert plan.combination.nnz == 2


def test_a_plan_that_serves_all_tables_and_seeds_is_made_once(tmp_path, monkeypatch):
    """Others are made anew, and so is it where anything that it is made of has changed."""
    token_map = TokenMap(VOCAB, [NewToken(VOCAB, "a", "a", [1, 3], 1, 1)])
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    vectors = np.random.default_rng(0).normal(size=(VOCAB + 2, 4)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", vectors=vectors[:-1])
    given, calls = StrategyInputs(tmp_path, {"vectors": tmp_path}), []
    monkeypatch.setattr(omp, "pursue", lambda *what, pursue=omp.pursue: calls.append(1) or pursue(*what))

    def plan(table=INPUT, token_map=token_map, **settings):
        return given.plan(
            ResizeConfig(**{"input": "omp", "output": "omp", "omp_pieces": 2, **settings}), table, token_map
        )

    first = plan()
    for again in (plan(OUTPUT), plan(seed=5), plan(input="zero", table=OUTPUT)):
        assert again is first and len(calls) == 1
    assert plan(omp_pieces=3).combination.nnz == 3 and len(calls) == 2
    other = TokenMap(VOCAB, [NewToken(VOCAB, "b", "b", [2], 1, 1)])
    assert plan(token_map=other, omp_pieces=3).combination.nnz == 3 and len(calls) == 3
    np.savez(tmp_path / "vectors.npz", vectors=np.roll(vectors, 1, axis=0)[:-1])
    assert plan(token_map=other, omp_pieces=3).combination.nnz == 3 and len(calls) == 4


@pytest.mark.parametrize("name", ["focus", "omp", "wechsel"])
@quick
@given(token_map=token_maps())
def test_some_plans_depend_neither_on_the_table_nor_on_the_seed(name, token_map):
    chosen = strategies.get(name)
    given, settings = auxiliary(token_map), ResizeConfig()
    one = chosen.plan(Materials(token_map, INPUT, 1, 0.02, settings, given))
    other = chosen.plan(Materials(token_map, OUTPUT, 2, 0.05, settings, given))
    assert chosen.make_rows and (one.mean_share, one.noise, one.norm_of) == (0.0, None, None)
    assert (other.mean_share, other.noise, other.norm_of) == (0.0, None, None)
    assert np.array_equal(dense(one), dense(other))


@quick
@given(token_map=token_maps())
def test_subword_mean_equals_the_mean_of_the_pieces(token_map):
    expected = [uniform(token) for token in token_map.tokens]
    np.testing.assert_allclose(dense(plan_of("subword_mean", token_map)), expected, rtol=1e-6, atol=1e-7)


def character_shares(token):
    """By walking over the bytes of the text: each is a share of its character, and belongs to one piece."""
    owners = [place for place, piece in enumerate(token.source_ids) for _ in range(SIZES[piece])]
    shares = [0.0] * len(token.source_ids)
    at = 0
    for character in token.text:
        for _ in character.encode():
            shares[owners[at]] += 1 / len(character.encode())
            at += 1
    return shares if any(shares) else [1.0] * len(shares)


@quick
@given(token_map=token_maps())
def test_subword_weighted_counts_characters(token_map):
    expected = [weighted(token, character_shares(token)) for token in token_map.tokens]
    np.testing.assert_allclose(dense(plan_of("subword_weighted", token_map)), expected, rtol=1e-5, atol=1e-7)


def test_subword_weighted_counts_bytes_of_a_partial_character():
    """``text`` of such a token is the replacement character, whose bytes are not the token's."""
    token_map = TokenMap(VOCAB, [NewToken(VOCAB, "x", "�", [2, 5, 2, 2], 5, 1)])
    np.testing.assert_allclose(dense(plan_of("subword_weighted", token_map))[0, [2, 5]], [3 / 5, 2 / 5], rtol=1e-6)


@quick
@given(token_map=token_maps(), table=st.sampled_from([INPUT, OUTPUT]))
def test_subword_weighted_position_is_exponential(token_map, table):
    sign = 2 if table == INPUT else -2
    expected = [
        weighted(token, [math.exp(sign * (place + 1)) for place in range(len(token.source_ids))])
        for token in token_map.tokens
    ]
    got = dense(plan_of("subword_weighted_position", token_map, table))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


@quick
@given(token_map=token_maps())
def test_calibrated_is_the_subword_mean_at_the_norm_of_target_text(token_map):
    """Norms as the engine would use them: weighted by how often a piece spells target text."""
    plan = plan_of("calibrated", token_map)
    assert np.array_equal(dense(plan), dense(plan_of("subword_mean", token_map)))
    norms = torch.arange(1.0, VOCAB + 1)
    spelled = [
        norms[piece].item() for token in token_map.tokens for _ in range(token.count) for piece in token.source_ids
    ] or [norms[piece].item() for token in token_map.tokens for piece in token.source_ids]
    expected = sum(spelled) / len(spelled)
    assert plan.norm_of.shape == (VOCAB,)
    assert float(plan.norm_of @ norms.numpy() / plan.norm_of.sum()) == pytest.approx(expected)
    output = plan_of("calibrated", token_map, OUTPUT)
    assert output.norm_of is None
    assert np.array_equal(dense(output), dense(plan_of("subword_weighted", token_map, OUTPUT)))


@pytest.mark.parametrize(("name", "counted"), [("frequency_weighted", "count"), ("align", "bytes")])
@quick
@given(token_map=token_maps())
def test_weights_are_proportional_to_overlaps(name, counted, token_map):
    given_ = auxiliary(token_map)
    met = given_["overlaps"]
    counts = np.zeros((len(token_map.tokens), VOCAB))
    for new, piece, count in zip(met["new"], met["piece"], met[counted], strict=True):
        counts[new, piece] += count
    expected = [
        row / row.sum() if row.any() else uniform(token) for token, row in zip(token_map.tokens, counts, strict=True)
    ]
    np.testing.assert_allclose(dense(plan_of(name, token_map, given=given_)), expected, rtol=1e-6, atol=1e-7)


def test_fallback_is_the_subword_mean_without_overlaps_or_vectors():
    tokens = [NewToken(VOCAB, "a", "a", [3, 3, 5], 4, 1), NewToken(VOCAB + 1, "b", "b", [9], 4, 0)]
    token_map = TokenMap(VOCAB, tokens)
    nothing = np.zeros((VOCAB + 2, 4), dtype=np.float32)
    none = np.empty(0, dtype=np.int64)
    given_ = {
        "vectors": {"vectors": nothing},
        "bilingual": {"source": nothing[:VOCAB], "target": nothing[VOCAB:]},
        "overlaps": {"new": none, "piece": none, "count": none, "bytes": none},
    }
    for name in ("align", "frequency_weighted", "focus", "wechsel", "omp"):
        np.testing.assert_allclose(dense(plan_of(name, token_map, given=given_)), [*map(uniform, tokens)], rtol=1e-6)


def project(scores):
    """Sparsemax by bisection for its threshold."""
    low, high = scores.max() - 1.0, scores.max()
    for _ in range(100):
        middle = (low + high) / 2
        if np.maximum(scores - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(scores - high, 0)


@quick
@given(scores=st.lists(st.floats(-1, 1), min_size=1, max_size=300), seed=st.integers(0, 9))
def test_sparsemax_is_the_projection_onto_the_simplex(scores, seed):
    scores = np.random.default_rng(seed).permutation(np.array(scores))
    places, weights = sparsemax(scores)
    got = np.zeros(len(scores))
    got[places] = weights
    np.testing.assert_allclose(got, project(scores), atol=1e-9)


@quick
@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=1000), count=st.integers(1, 20))
def test_nearest_are_the_largest_and_the_first_of_equal_ones(values, count):
    places = sorted(range(len(values)), key=lambda place: (-values[place], place))[:count]
    assert nearest(np.array(values, dtype=np.float64), count).tolist() == places


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(torch.tensor(a).double(), torch.tensor(b).double(), dim=0))


@quick
@given(token_map=token_maps(), seed=st.integers(0, 50))
def test_focus_weights_are_sparsemax_of_cosines(token_map, seed):
    given_ = auxiliary(token_map, seed)
    vectors = given_["vectors"]["vectors"]
    overlap = [piece for piece in range(VOCAB) if vectors[piece].any()]
    for token, row in zip(token_map.tokens, dense(plan_of("focus", token_map, given=given_)), strict=True):
        expected = uniform(token)
        if vectors[token.id].any() and overlap:
            expected = np.zeros(VOCAB)
            expected[overlap] = project(np.array([cosine(vectors[token.id], vectors[piece]) for piece in overlap]))
        np.testing.assert_allclose(row, expected, atol=1e-5)


@quick
@given(token_map=token_maps(), seed=st.integers(0, 50), neighbours=st.integers(1, 15))
def test_wechsel_weights_are_softmax_of_nearest_cosines(token_map, seed, neighbours):
    given_ = auxiliary(token_map, seed)
    source, target = given_["bilingual"]["source"], given_["bilingual"]["target"]
    plan = plan_of("wechsel", token_map, given=given_, wechsel_neighbours=neighbours, wechsel_temperature=0.3)
    there = [piece for piece in range(VOCAB) if source[piece].any()]
    for index, (token, row) in enumerate(zip(token_map.tokens, dense(plan), strict=True)):
        expected = uniform(token)
        if target[index].any() and there:
            near = sorted(there, key=lambda piece: -cosine(target[index], source[piece]))[:neighbours]
            weights = torch.softmax(torch.tensor([cosine(target[index], source[piece]) / 0.3 for piece in near]), 0)
            expected = np.zeros(VOCAB)
            expected[near] = weights.numpy()
        np.testing.assert_allclose(row, expected, atol=1e-5)


def matching_pursuit(target, atoms, most):
    """Orthogonal matching pursuit with a least-squares fit at every step."""
    chosen, left, weights = [], target, np.empty(0)
    for _ in range(most):
        if np.linalg.norm(left) <= 1e-9 * np.linalg.norm(target):
            break
        scores = np.abs(atoms @ left)
        scores[chosen] = -1
        chosen.append(int(scores.argmax()))
        weights = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
        left = target - atoms[chosen].T @ weights
    row = np.zeros(len(atoms))
    row[chosen] = weights
    return row


@quick
@given(token_map=token_maps(), seed=st.integers(0, 50), most=st.integers(1, 8))
def test_omp_equals_plain_orthogonal_matching_pursuit(token_map, seed, most):
    given_ = auxiliary(token_map, seed)
    vectors = given_["vectors"]["vectors"].astype(np.float64)
    plan = plan_of("omp", token_map, given=given_, omp_pieces=most)
    there = [piece for piece in range(VOCAB) if vectors[piece].any()]
    for token, row in zip(token_map.tokens, dense(plan), strict=True):
        expected = uniform(token)
        if vectors[token.id].any() and there:
            expected = np.zeros(VOCAB)
            expected[there] = matching_pursuit(vectors[token.id], vectors[there], min(most, 6, len(there)))
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_omp_recovers_an_exact_combination():
    """A combination of two base vectors is reproduced although two others are parallel."""
    base = np.random.default_rng(0).standard_normal((VOCAB, 8)).astype(np.float32)
    base[5] = 2 * base[3]
    vectors = np.concatenate([base, (3 * base[4] - base[9])[None]])
    token_map = TokenMap(VOCAB, [NewToken(VOCAB, "a", "a", [1], 1, 1)])
    row = dense(plan_of("omp", token_map, given={"vectors": {"vectors": vectors}}, omp_pieces=8))[0]
    np.testing.assert_allclose(row @ base, vectors[-1], atol=1e-5)
    alone = dense(plan_of("omp", token_map, given={"vectors": {"vectors": vectors}}, omp_pieces=1))[0]
    assert np.flatnonzero(alone).tolist() == [np.abs(base @ vectors[-1]).argmax()]


def many_tokens(count=300, dims=50):
    """Vectors of base and new tokens, some of the latter without one, and the token map."""
    random = np.random.default_rng(3)
    base = random.standard_normal((VOCAB, dims)).astype(np.float32)
    new = random.standard_normal((count, dims)).astype(np.float32)
    new[random.random(count) < 0.1] = 0.0
    given_ = {"vectors": {"vectors": np.concatenate([base, new])}, "bilingual": {"source": base, "target": new}}
    return given_, TokenMap(VOCAB, [NewToken(VOCAB + i, "a", "a", [i % VOCAB], 1, 1) for i in range(count)])


@pytest.mark.parametrize("name", ["focus", "wechsel", "omp"])
@settings(max_examples=25, deadline=None)
@given(wanted=st.sets(st.integers(0, 39)), dims=st.sampled_from([7, 64, 300]))
def test_a_row_is_the_same_bits_whichever_others_are_made(name, wanted, dims):
    given_, token_map = many_tokens(40, dims)
    whole = plan_of(name, token_map, given=given_).combination
    materials = Materials(token_map, settings=ResizeConfig(), auxiliary=given_)
    part = combine_rows(strategies.get(name).make_rows, materials, np.array(sorted(wanted), dtype=np.int64))
    assert part.shape == (len(wanted), VOCAB) and part.dtype == whole.dtype
    for row, index in enumerate(sorted(wanted)):
        assert np.array_equal(part[row].indices, whole[index].indices)
        assert np.array_equal(part[row].data, whole[index].data)


@pytest.mark.parametrize("name", ["focus", "wechsel", "omp"])
def test_plans_are_the_same_bits_for_any_block_size(monkeypatch, name):
    """Another block size changes the matrix products, as another number of threads does."""
    given_, token_map = many_tokens()
    whole = plan_of(name, token_map, given=given_).combination
    monkeypatch.setattr(similarity, "BLOCK_BYTES", 8 * VOCAB * 7)
    parts = plan_of(name, token_map, given=given_).combination
    for part in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(whole, part), getattr(parts, part))


@pytest.mark.parametrize("name", ["focus", "omp"])
def test_memory_is_one_wide_copy_of_the_base_vectors(name):
    """Every rank has the vectors: 12 bytes beside each float32 of the vectors, for a copy without zeros and a wide one,
    and blocks of bounded size."""
    random = np.random.default_rng(0)
    vocab, dims = 40_000, 200
    vectors = random.standard_normal((vocab + 2, dims)).astype(np.float32)
    token_map = TokenMap(vocab, [NewToken(vocab + i, "a", "a", [1], 1, 1) for i in range(2)])
    tracemalloc.start()
    plan_of(name, token_map, given={"vectors": {"vectors": vectors}}, omp_pieces=2)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 14 * vectors.size


def test_similarities_do_not_depend_on_the_order_of_dimensions():
    """They are exact sums; float32 or float64 sums would differ in their last bits."""
    random = np.random.default_rng(0)
    new, base = random.standard_normal((20, 300)), random.standard_normal((30, 300))
    order = random.permutation(300)
    one = similarity.fixed_point(new) @ similarity.fixed_point(base).T
    other = similarity.fixed_point(new)[:, order] @ similarity.fixed_point(base)[:, order].T
    assert np.array_equal(one, other)
    expected = (
        torch.nn.functional.normalize(torch.from_numpy(new)) @ torch.nn.functional.normalize(torch.from_numpy(base)).T
    )
    ((_, got),) = similarity.cosines(new, base)
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-6)


def test_random_token_depends_only_on_seed_and_id():
    tokens = [NewToken(5000 + i, "a", "a", [1], 1, 1) for i in range(3000)]

    def drawn(tokens, seed):
        combination = strategies.get("random_token").plan(Materials(TokenMap(5000, tokens), seed=seed)).combination
        assert np.array_equal(combination.data, np.ones(len(tokens), dtype=np.float32))
        return combination.indices

    all_of_them = drawn(tokens, 1)
    assert np.array_equal(drawn(tokens[1000:1100], 1), all_of_them[1000:1100])
    assert (drawn(tokens, 2) != all_of_them).mean() > 0.99
    # 3,000 draws of 5,000 rows: 1 - e^-0.6 = 45% of the rows are expected to be drawn, their mean is 2,500 +- 26.
    assert 0.40 < len(set(all_of_them)) / 5000 < 0.50 and abs(all_of_them.mean() - 2499.5) < 130


@pytest.mark.parametrize(
    ("name", "mean_share", "noise"),
    [
        ("zero", 0.0, None),
        ("mean", 1.0, None),
        ("normal", 1.0, Noise("diagonal")),
        ("multivariate_normal", 1.0, Noise("covariance", math.sqrt(1e-9))),
        ("random_init", 0.0, Noise("unit", 0.05)),
    ],
)
def test_strategies_that_need_no_single_source_row(name, mean_share, noise):
    plan = plan_of(name, TokenMap(VOCAB, [NewToken(VOCAB, "a", "a", [1], 1, 1)]))
    assert plan.combination.nnz == 0 and plan.mean_share == mean_share and plan.noise == noise
    assert plan.norm_of is None
