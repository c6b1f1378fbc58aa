"""Strategies that make each row for itself: ranks share the work, and all get the plan of a process without others."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.auxiliary import make_auxiliary
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, tiny_config
from ranks import model_bodies, resize_bodies

from nemo_adapt.tokens.token_map import TokenMap

NEW = 9
NAMES = ["focus", "omp", "wechsel"]


@pytest.fixture
def folders(tmp_path):
    """Folders of their own for each test: a rank keeps its latest plan."""
    made = folders_of(tmp_path, TinyLlama(vocab=256, layers=4), NEW)
    return replace(made, auxiliary=make_auxiliary(tmp_path / "auxiliary", TokenMap.load(made.tokenizer)))


def same(one, other):
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("indptr", "indices", "data"))


@pytest.mark.parametrize("new", [NEW, 2, 1])
@pytest.mark.parametrize("name", NAMES)
def test_each_rank_makes_its_part_once_and_gets_the_whole_plan(ranks, folders, name, new):
    """Four ranks, with fewer tokens too."""
    token_map = TokenMap.load(folders.tokenizer)
    token_map = TokenMap(token_map.source_vocab, token_map.tokens[:new])
    ((alone, alone_again), everything) = ranks(1).run(resize_bodies.plan_parts, folders, token_map, name)[0]
    assert alone.shape == (new, 256) and same(alone, alone_again) and len(set(everything)) == len(everything) > 0
    for rank, (plans, made) in enumerate(ranks(4).run(resize_bodies.plan_parts, folders, token_map, name)):
        assert all(same(plan, alone) and plan.dtype == alone.dtype for plan in plans)
        assert made == [index for index in everything if index % 4 == rank]


def test_a_plan_is_made_anew_where_one_rank_alone_has_none(ranks, folders):
    """A rank that made its part alone would wait for the others without end."""
    token_map = TokenMap.load(folders.tokenizer)
    found = ranks(2).run(resize_bodies.plan_parts, folders, token_map, "omp", (1,))
    for (first, second), made in found:
        assert same(first, second) and made[: len(made) // 2] == made[len(made) // 2 :] != []


@pytest.mark.parametrize("name", NAMES)
def test_ranks_without_a_table_make_their_part_too(ranks, folders, name):
    """Stages in the middle have none, and the last has one alone."""
    config = tiny_config(pp=4)
    config.resize.output = name
    tables = ranks(4).run(model_bodies.tables, config, folders)
    alone = ranks(1).run(model_bodies.tables, replace(config, parallel=tiny_config().parallel), folders)[0]
    assert list(tables[0]) == ["input"] and list(tables[3]) == ["output"] and not tables[1] and not tables[2]
    assert torch.equal(tables[0]["input"], alone["input"]) and torch.equal(tables[3]["output"], alone["output"])
