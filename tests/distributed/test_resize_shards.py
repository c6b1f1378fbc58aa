"""New rows are the same bits however the tables are cut; kept rows do not change; padded rows are zero."""

import numpy as np
import pytest
import torch
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import model_bodies, resize_bodies
from safetensors.torch import load_file

from nemo_adapt.resize.plan import strategies
from nemo_adapt.token_map import TokenMap

NEW = 45
MODELS = {"tied": TinyLlama(tied=True, vocab=250), "untied": TinyLlama(vocab=256)}
STRATEGIES = ["subword_mean", "mean", "normal"]


def whole_tables(ranks, folders, strategy, **layout):
    """The tables put together from the shards of all ranks."""
    config = tiny_config(**layout)
    config.resize.input = config.resize.output = strategy
    shards = ranks(config.parallel.tp * config.parallel.pp).run(model_bodies.tables, config, folders)
    return {name: torch.cat([shard[name] for shard in shards if name in shard]) for name in ("input", "output")}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("tiny", MODELS.values(), ids=list(MODELS))
def test_same_bits_at_every_layout(tmp_path, ranks, tiny, strategy):
    folders = folders_of(tmp_path, tiny, NEW)
    rows = tiny.vocab + NEW
    one = whole_tables(ranks, folders, strategy)
    source = load_file(folders.model / "model.safetensors")
    sources = {"input": source["model.embed_tokens.weight"]}
    sources["output"] = sources["input"] if tiny.tied else source["lm_head.weight"]
    for name, table in one.items():
        assert torch.equal(table[: tiny.vocab], sources[name])
        new = table[tiny.vocab : rows]
        assert torch.isfinite(new).all() and new.any(1).all()
        assert len(new.unique(dim=0)) == (1 if strategy == "mean" else NEW)
        assert table.shape[0] % 16 == 0 and not table[rows:].any()
    for layout in ({"tp": 2}, {"pp": 2}):
        other = whole_tables(ranks, folders, strategy, **layout)
        for name, table in one.items():
            assert torch.equal(other[name][:rows], table[:rows]), (layout, name)
            assert not other[name][rows:].any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_equal_a_plain_computation(tmp_path, ranks, strategy):
    tiny = MODELS["untied"]
    folders = folders_of(tmp_path, tiny, NEW)
    token_map = TokenMap.load(folders.tokenizer)
    table = whole_tables(ranks, folders, strategy)["input"]
    source = table[: tiny.vocab].double()
    new = table[tiny.vocab : tiny.vocab + NEW].double()
    if strategy == "subword_mean":
        expected = torch.stack([source[token.source_ids].mean(0) for token in token_map.tokens])
        torch.testing.assert_close(new, expected, rtol=0, atol=1e-6)
    elif strategy == "mean":
        torch.testing.assert_close(new, source.mean(0).expand(NEW, -1), rtol=0, atol=1e-6)
    else:
        # 45 x 32 draws: their standardized mean and spread are known to a few hundredths.
        standard = (new - source.mean(0)) / source.std(0, correction=0)
        assert abs(float(standard.mean())) < 0.1 and abs(float(standard.std()) - 1) < 0.1


def test_another_seed_gives_other_rows(tmp_path, ranks):
    tiny = MODELS["untied"]
    folders = folders_of(tmp_path, tiny, NEW)
    config = tiny_config()
    config.resize.input = "normal"
    first = ranks(1).run(model_bodies.tables, config, folders)[0]["input"]
    config.resize.seed += 1
    second = ranks(1).run(model_bodies.tables, config, folders)[0]["input"]
    assert torch.equal(first[: tiny.vocab], second[: tiny.vocab])
    assert not torch.equal(first[tiny.vocab :], second[tiny.vocab :])


@pytest.mark.parametrize("chunk", [160, 1 << 20])
def test_exchanges_are_bounded_and_change_nothing(ranks, chunk):
    """With room for few rows in an exchange the result is that of one big exchange, and of one process."""
    source = torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
    counts = np.random.default_rng(0).integers(1, 6, 30)
    spelled = [[int(piece) for piece in np.random.default_rng(i).integers(0, 50, n)] for i, n in enumerate(counts)]
    plan_of = resize_bodies.plan_for(spelled, 50)
    together = resize_bodies.resize_alone(source, plan_of, 96)
    shards = ranks(2).run(resize_bodies.resize_sharded, source, spelled, 96, chunk)
    assert torch.equal(torch.cat([shard for shard, _ in shards]), together)
    assert all(largest <= max(chunk // 32, 1) for _, largest in shards)


def test_a_wrong_owner_would_be_seen(ranks):
    """Sabotage: ranks that believe their rows begin one later give other rows."""
    source = torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
    spelled = [[0, 30], [49]]
    right = resize_bodies.resize_alone(source, resize_bodies.plan_for(spelled, 50), 64)
    shards = ranks(2).run(resize_bodies.resize_sharded, source, spelled, 64, 1 << 20, 1)
    assert not torch.equal(torch.cat([shard for shard, _ in shards]), right)


def test_strategies_are_registered_by_name():
    assert {"subword_mean", "mean", "normal"} <= set(strategies.names())
