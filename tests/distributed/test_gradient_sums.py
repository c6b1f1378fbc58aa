"""Gradients accumulated inside matrix products (fused) equal those computed separately and then added."""

import pytest
import torch
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import product_bodies, training_bodies

from nemo_adapt import devices

NEW = 6
LAYOUTS = {
    "alone": {},
    "tp2-sequence": {"tp": 2, "sequence": True},
    "pp2": {"pp": 2},
    "pp2-interleaved": {"pp": 2, "virtual": 2},
    "dp2": {"dp": 2},
    "tp2-pp2": {"tp": 2, "pp": 2},
}
# 245 + 6 rows, padded to 256: at TP=2 the first rank has no new row.
MODELS = {"untied": TinyLlama(vocab=245, layers=4), "tied": TinyLlama(tied=True, vocab=245, layers=4)}


@pytest.fixture(scope="module", params=MODELS, ids=list(MODELS))
def folders(request, tmp_path_factory):
    return folders_of(tmp_path_factory.mktemp("model"), MODELS[request.param], new=NEW)


def config_of(precision="fp32", **parallel):
    config = tiny_config(**parallel)
    config.train.global_batch, config.train.micro_batch, config.train.seq_length = 8, 2, training_bodies.SEQ
    config.train.distributed_optimizer, config.train.precision = False, precision  # every rank keeps complete sums
    return config


def both(ranks, config, folders, kinds):
    """Return fused and separate gradient sums, each by rank and phase."""
    words = config, folders, 245 + NEW, kinds
    size = config.parallel.ranks
    return (ranks(size).run(product_bodies.sums, *words, fuses) for fuses in (True, False))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_fused_gradient_sums_equal_separate_ones(folders, ranks, layout):
    """In three phases: attributes that one phase leaves on the weights must not affect the next."""
    kinds = ["all", "new_rows", "all"]
    for fused, separate in zip(*both(ranks, config_of(**layout), folders, kinds), strict=True):
        for ours, theirs in zip(fused, separate, strict=True):
            assert all(each.any() for each in ours.values())
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_check_detects_products_that_are_too_large(folders, ranks):
    """Negative control."""
    words = config_of(), folders, 245 + NEW, ["all"]
    ((fused,),) = ranks(1).run(product_bodies.sums_of_doubled_products, *words)
    ((separate,),) = ranks(1).run(product_bodies.sums, *words, False)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(fused, separate, rtol=1e-4, atol=1e-7)


@pytest.mark.skipif(devices.on_gpu() or devices.has_apex(), reason="products are not rounded there")
def test_fused_gradient_sums_are_bit_identical_in_bf16(folders, ranks):
    """Except for a tied table, whose two separate gradients are rounded when they are added to each other."""
    for fused, separate in zip(*both(ranks, config_of("bf16"), folders, ["all", "new_rows"]), strict=True):
        tied = not any("output_layer" in name for name in fused[0])
        for ours, theirs in zip(fused, separate, strict=True):
            for name in ours:
                rounds = tied and "layers" not in name
                torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-3 if rounds else 0)


@pytest.mark.parametrize("tp", [1, 2])
def test_gradients_of_new_rows_are_a_slice_of_those_of_the_tables(folders, ranks, tp):
    for rank, (new_rows, tables) in enumerate(
        ranks(tp).run(product_bodies.sums, config_of(tp=tp), folders, 245 + NEW, ["new_rows", "embeddings"], True)
    ):
        assert len(new_rows) == (len(tables) if rank == tp - 1 else 0)
        first = 245 - rank * 256 // tp
        for ours, whole in zip(new_rows.values(), tables.values(), strict=bool(new_rows)):
            torch.testing.assert_close(ours, whole[first : first + NEW], rtol=1e-4, atol=1e-7)
