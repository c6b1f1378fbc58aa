"""The list of phases: a pure function of the configuration."""

import math
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.config.layout import check_phases
from nemo_adapt.config.phases import Trained, ends, phases, shortened, total, trained
from nemo_adapt.errors import UserError


def config_of(*plan, **resize):
    config = Config()
    config.train.phases = [PhaseConfig(*phase) for phase in plan]
    for key, value in resize.items():
        setattr(config.resize, key, value)
    return config


def test_most_strategies_keep_the_phases_of_the_recipe():
    config = config_of(("embeddings", 10, 1e-3), ("all", 90, 1e-4))
    assert phases(config) == config.train.phases
    assert ends(phases(config)) == [10, 100]


@pytest.mark.parametrize(("strategy", "trained"), [("learned", "new_rows"), ("warm_start", "embeddings")])
def test_learned_rows_take_their_steps_from_the_first_phase(strategy, trained):
    config = config_of(("all", 90, 1e-4), ("all", 10, 1e-5), input=strategy, learned_share=0.2, learned_lr=2e-3)
    assert phases(config) == [
        PhaseConfig(trained, 20, 2e-3),
        PhaseConfig("all", 70, 1e-4),
        PhaseConfig("all", 10, 1e-5),
    ]
    assert len(config.train.phases) == 2  # the recipe's own list is not changed


MISTAKES = {
    "unknown kind": (config_of(("new_row", 5)), "Did you mean 'new_rows'"),
    "no phase": (config_of(), "train.phases is empty"),
    "no budget": (config_of(("all", 0)), "needs one of steps, tokens and bytes, of at least 1: it has none"),
    "below 1": (config_of(("all", -5)), "it has steps=-5"),
    "two budgets": (config_of(("all", 5, 1e-4, 100)), "it has steps=5, tokens=100"),
    "no lr": (config_of(("all", 5, 0.0)), "lr=0.0 must be above 0"),
    "an lr that is no number": (config_of(("all", 5, float("nan"))), "lr=nan must be above 0"),
    "an infinite lr": (config_of(("all", 5, float("inf"))), "lr=inf must be above 0"),
    "part twice": (config_of(("all+layers:1", 5)), "names a part twice"),
    "rows twice": (config_of(("new_rows+output", 5)), "the output layer's new rows are part of it"),
    "reversed layers": (config_of(("layers:4-1", 5)), "goes from layer 4 to 1"),
    "two first phases": (config_of(("all", 50), input="learned", output="warm_start"), "train different rows first"),
    "no step left": (config_of(("all", 5), ("all", 95), input="learned"), "leaves no step of the first phase: 5"),
}


@pytest.mark.parametrize(("config", "says"), MISTAKES.values(), ids=list(MISTAKES))
def test_invalid_phases_are_refused(config, says):
    with pytest.raises(UserError, match=says):
        phases(config)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=4), st.integers(1, 200))
def test_shortened_phases_have_the_wanted_total_and_the_same_order(steps, wanted):
    plan = [PhaseConfig("all", count, lr) for lr, count in enumerate(steps, start=1)]
    short = shortened(plan, wanted)
    assert total(short) == wanted and all(phase.steps > 0 for phase in short)
    assert [phase.lr for phase in short] == sorted(phase.lr for phase in short)
    if wanted == total(plan):
        assert short == plan


@pytest.mark.parametrize(
    ("said", "kinds", "layers"),
    [
        ("all", {"all"}, set()),
        ("layers:2", set(), {2}),
        ("embeddings+layers:0-1+layers:5", {"embeddings"}, {0, 1, 5}),
        ("output+layers:3", {"output"}, {3}),
    ],
)
def test_trained_parts_are_parsed(said, kinds, layers):
    assert trained(PhaseConfig(said, 1)) == Trained(frozenset(kinds), frozenset(layers))


@pytest.mark.parametrize(
    ("train", "factors", "said"),
    [
        ("all", {"new_rows": 2.0}, "unknown lr_factors='new_rows'. Known: embeddings, output, layers"),
        ("all", {"embedings": 2.0}, "unknown lr_factors='embedings'. Did you mean 'embeddings'"),
        ("all", {"output": 0.0}, "lr_factors: output: 0.0 must be above 0; train names what"),
        ("all", {"output": math.nan}, "must be above 0"),
        ("layers:0-1", {"embeddings": 2.0}, "embeddings is not trained by train=layers:0-1"),
        ("embeddings+layers:2", {"layers:0-1": 2.0}, "layers:0-1 is not trained by train=embeddings"),
    ],
)
def test_factors_of_the_learning_rate_that_cannot_hold_are_refused(train, factors, said):
    with pytest.raises(UserError, match=re.escape(said)):
        phases(config_of((train, 1, 1e-4, 0, 0, factors)))


@pytest.mark.parametrize(
    ("factors", "said"), [({"layers:4-5": 2.0}, "the model has layers 0 to 4"), ({"output": 2.0}, "name embeddings")]
)
def test_factors_name_parts_of_the_model(factors, said):
    with pytest.raises(UserError, match=f"lr_factors=.*{said}"):
        check_phases(config_of(("all", 1, 1e-4, 0, 0, factors)), SimpleNamespace(layers=5, tied=True))


def test_an_endless_range_of_layers_is_refused_without_listing_them():
    phase = ("layers:0-3000000", 1)
    assert len(trained(PhaseConfig(*phase)).layers) < 20_000
    with pytest.raises(UserError, match="layers:0-3000000: the model has layers 0 to 4"):
        check_phases(config_of(phase), SimpleNamespace(layers=5, tied=False))


@given(st.integers(1, 10**9), st.floats(0.5, 8.0))
def test_budgets_are_rounded_up_to_steps(budget, bytes_per_token):
    config = config_of(("all", 0, 1e-4, budget), ("all", 0, 1e-4, 0, budget))
    step = config.train.global_batch * config.train.seq_length
    by_tokens, by_bytes = phases(config, bytes_per_token)
    assert (by_tokens.steps - 1) * step < budget <= by_tokens.steps * step
    assert (by_bytes.steps - 1) * step * bytes_per_token < budget * (1 + 1e-9)
    assert budget <= by_bytes.steps * step * bytes_per_token * (1 + 1e-9)
    assert phases(config)[1].steps == 1  # as long as the bytes per token are unknown
