"""Means, spreads, order and choice of a probe's runs; names of strategies for two tables."""

import csv
import json
import re

import pytest

from nemo_adapt.config import Config, PhaseConfig, ProbeConfig, ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.pipeline import STEPS
from nemo_adapt.probe import report, stage
from nemo_adapt.probe.stage import points
from nemo_adapt.run import steps
from nemo_adapt.run.artifact import Stage
from nemo_adapt.run.checks import check_probe
from nemo_adapt.strategy_choice import StrategyChoice, with_choice


def run(strategy, seed, *bits):
    return {"strategy": strategy, "seed": seed, "bits_per_byte": dict(zip(("0", "50"), bits, strict=True))}


RUNS = [
    run("mean", 0, 5.0, 3.0),
    run("mean", 1, 5.0, 3.2),
    run("zero+mean", 0, 6.0, 2.0),
    run("zero+mean", 1, 6.0, 2.4),
    run("bad", 0, 4.0, None),
    run("bad", 1, 4.0, 1.0),
]


def test_strategy_with_the_lowest_final_mean_is_chosen(tmp_path):
    result = report.collect(RUNS, [0, 50], "tr", 1000)
    assert [row["strategy"] for row in result["rows"]] == ["zero+mean", "mean", "bad"]
    assert result["chosen"] == "zero+mean"
    best = result["rows"][0]
    assert best["mean"]["50"] == pytest.approx(2.2) and best["spread"]["50"] == pytest.approx(0.2 * 2**0.5)
    assert result["rows"][2]["mean"] == {"0": 4.0, "50": None}
    report.write(result, tmp_path)
    assert json.loads((tmp_path / "probe.json").read_text()) == result
    rows = list(csv.reader((tmp_path / "probe.csv").open()))
    assert rows[0] == ["strategy", "seed", "step 0", "step 50"] and rows[1] == ["mean", "0", "5.0", "3.0"]
    assert "| zero+mean | 6.000 | 2.200 ± 0.283 |" in (tmp_path / "probe.md").read_text()
    assert (tmp_path / "probe.png").stat().st_size > 5000


def test_no_finished_run_is_a_user_error():
    with pytest.raises(UserError, match="lower the learning rate"):
        report.collect(RUNS[4:5], [0, 50], "tr", 1000)


def test_scored_steps_are_sorted_and_include_the_last():
    assert points(ProbeConfig(steps=50, at=[0, 10, 25])) == [0, 10, 25, 50]
    assert points(ProbeConfig(steps=4, at=[10, 2, 0, 4])) == [0, 2, 4]


def test_strategies_that_do_not_fit_the_steps_are_refused_before_the_first_run(monkeypatch):
    monkeypatch.setattr(stage, "bytes_per_token", lambda config, inputs: 4.0)
    config = Config()
    config.train.phases = [PhaseConfig("new_rows", steps=200), PhaseConfig("all", steps=3000)]
    config.probe.strategies = ["mean", "subword_mean"]
    stage.check_strategies(config, {})
    for name, says in {
        "warm_start": "is 5 of 50 steps, .* first phase: 3",
        "learned+warm_start": "different rows",
    }.items():
        config.probe.strategies = ["mean", name]
        with pytest.raises(UserError, match=f"probe.strategies: {re.escape(name)}, in 50 steps: .*{says}") as error:
            stage.check_strategies(config, {})
        assert "\n" not in str(error.value)


def test_a_strategy_that_is_named_twice_is_refused():
    """Its runs would enter mean and spread twice, as if there were more seeds."""
    check_probe(ProbeConfig(strategies=["mean", "zero", "mean+zero"]))
    for twice in (["mean", "zero", "mean"], ["mean+mean", "mean"]):
        with pytest.raises(UserError, match="names mean twice"):
            check_probe(ProbeConfig(strategies=twice))


def test_training_reads_the_strategies_that_the_probe_chose(tmp_path):
    assert StrategyChoice.of("mean").name == "mean" and StrategyChoice.of("a+b") == StrategyChoice("a", "b")
    assert StrategyChoice("a", "b").name == "a+b"
    StrategyChoice.of("zero+mean").save(tmp_path)
    config = Config()
    assert with_choice(config, None) is config
    config.resize.input = "probed"
    found = with_choice(config, tmp_path)
    assert (found.resize.input, found.resize.output) == ("zero", "mean") and config.resize.input == "probed"
    with pytest.raises(UserError, match="run the probe stage first"):
        with_choice(config, tmp_path / "nowhere")


def test_probe_may_add_strategies_but_not_change_settings(tmp_path):
    step = next(step for step in STEPS if step.name == "probe")
    config = Config()

    def stage():
        return Stage(step.name, tmp_path / "probe", steps._deciding(config, step), {}, step.restart)

    first = stage()
    first.prepare()
    first.finish(1.0, {})
    assert stage().finished
    config.probe.strategies = ["mean"]
    assert not stage().finished
    stage().prepare()
    assert not first.finished  # its manifest is removed until the new strategies are done
    config.probe.steps = 7
    with pytest.raises(UserError, match=r"other settings \(probe.steps\)"):
        stage().prepare()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"input": "mean", "output": "zero", "seed": 1}'])
def test_a_damaged_choice_is_one_line(tmp_path, content):
    (tmp_path / "choice.json").write_text(content)
    config = Config(resize=ResizeConfig(input="probed"))
    with pytest.raises(UserError, match=r"choice\.json is damaged: .*; run the probe stage again"):
        with_choice(config, tmp_path)
