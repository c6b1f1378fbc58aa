"""Metrics that a training records, and those that it drops when it resumes from an earlier step."""

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nemo_adapt.config import PhaseConfig, TrainConfig
from nemo_adapt.config.phases import trained
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Shape
from nemo_adapt.machine import ranks
from nemo_adapt.model.flops import flops_per_token, forward_flops
from nemo_adapt.run.preflight import require_wandb
from nemo_adapt.train.metrics import Metrics, MetricsSettings


def record_steps(folder, progress, steps=4, labels=100.0, **settings):
    """Record steps of 100 tokens and 200 bytes, up to step ``steps``."""
    settings = {"steps": 4, "every": 2, "tokens": 100, "flops": [1000.0], "ranks": 2, **settings}
    with Metrics(folder, progress, MetricsSettings(**settings), quiet=False) as metrics:
        for step in range(progress["step"], steps):
            metrics.add_step(
                nats=1.3862943611198906 * labels, labels=labels, size=2 * labels, lr=0.1, grad_norm=float(step)
            )
            if step == 1:
                metrics.record_scores({"tr": 2.5, "en": None})


def fresh():
    return {"step": 0, "phase": 1, "tokens": 0, "bytes": 0, "seconds": 0.0}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_are_recorded_every_two_steps(tmp_path, capsys):
    record_steps(tmp_path, fresh(), matmul_rate=1e6)
    records = lines(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == [2, 4]
    last = records[-1]
    assert last["tokens"] == 400 and last["bytes"] == 800 and last["grad_norm"] == 3.0
    assert last["loss"] == pytest.approx(1.3862943611) and last["bits_per_byte"] == pytest.approx(1.0)
    assert last["bytes_per_second"] == pytest.approx(2 * last["tokens_per_second"])
    assert last["mfu"] == pytest.approx(last["tokens_per_second"] * 10 / 2 / 1e6)
    (scored,) = lines(tmp_path / "held_out.jsonl")
    scores = {"tr": 2.5, "en": None}
    assert scored == {"step": 2, "bytes": 400, "bits_per_byte": scores, "seconds": scored["seconds"]}
    out = capsys.readouterr().out
    assert "step 2: held-out bits/byte tr 2.5000" in out and "1.000 bits/byte" in out and "MFU" in out


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_steps_whose_labels_have_no_bytes_are_recorded(tmp_path, capsys, size):
    """All BOS, or EOS of a SentencePiece tokenizer; then without a label that counts."""
    settings = MetricsSettings(steps=3, every=1, tokens=1, flops=[1.0], ranks=1)
    with Metrics(tmp_path, fresh(), settings, quiet=False) as metrics:
        for nats, labels, of_step in ((2.0, 1.0, size), (0.0, 0.0, 0.0), (2.0, 1.0, 4.0)):
            metrics.add_step(nats=nats, labels=labels, size=of_step, lr=0.1, grad_norm=1.0)
    bits = 0.5 / math.log(2)
    found = [(record["loss"], record["bits_per_byte"]) for record in lines(tmp_path / "metrics.jsonl")]
    assert found == [(2.0, None), (None, None), (2.0, pytest.approx(bits))]
    assert capsys.readouterr().out.count("bits/byte") == 1


def test_mfu_is_of_the_operations_that_each_phase_needs(tmp_path):
    """A record over steps of two phases has the sum of both."""
    progress, settings = (
        fresh(),
        MetricsSettings(steps=4, every=4, tokens=100, flops=[1000.0, 3000.0], ranks=2, matmul_rate=1e6),
    )
    with Metrics(tmp_path, progress, settings, quiet=False) as metrics:
        for phase in (1, 2, 2, 2):
            progress["phase"] = phase
            metrics.add_step(nats=1.0, labels=100.0, size=200.0, lr=0.1, grad_norm=1.0)
    (record,) = lines(tmp_path / "metrics.jsonl")
    assert record["mfu"] == pytest.approx(record["tokens_per_second"] / 400 * 10_000 / 2 / 1e6)


def test_tokens_without_a_label_count_in_speed_and_budget_but_not_in_the_loss(tmp_path):
    """As with ``train.mask_document_ends``."""
    record_steps(tmp_path, fresh(), labels=80.0)
    last = lines(tmp_path / "metrics.jsonl")[-1]
    assert last["tokens"] == 400 and last["bytes"] == 640 and last["loss"] == pytest.approx(1.3862943611)
    assert last["bytes_per_second"] == pytest.approx(1.6 * last["tokens_per_second"])


def test_scoring_has_its_own_seconds(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("nemo_adapt.train.metrics.time", SimpleNamespace(monotonic=lambda: clock.now))
    with Metrics(tmp_path, fresh(), MetricsSettings(2, 1, 100, [1000.0], 2), quiet=False) as metrics:
        for clock.now, score in ((3.0, False), (10.0, True), (12.0, False)):
            metrics.record_scores({"tr": 2.5}) if score else metrics.add_step(1.0, 1.0, 1.0, 0.1, 1.0)
    assert [record["seconds"] for record in lines(tmp_path / "metrics.jsonl")] == [3.0, 5.0]
    assert lines(tmp_path / "held_out.jsonl")[0]["seconds"] == 7.0


def test_records_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    record_steps(tmp_path, fresh())
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 5, "cut')
    record_steps(tmp_path, {**fresh(), "step": 2, "tokens": 200, "bytes": 400})
    assert [record["step"] for record in lines(tmp_path / "metrics.jsonl")] == [2, 4]
    assert [record["step"] for record in lines(tmp_path / "held_out.jsonl")] == [2]
    record_steps(tmp_path, fresh(), steps=0)
    assert not lines(tmp_path / "metrics.jsonl") and not lines(tmp_path / "held_out.jsonl")


def test_a_start_from_the_beginning_drops_earlier_scores_of_the_first_model(tmp_path):
    settings = MetricsSettings(steps=4, every=2, tokens=100, flops=[1000.0], ranks=1)
    for score in (2.5, 2.25):
        with Metrics(tmp_path, fresh(), settings, quiet=True) as metrics:
            metrics.record_scores({"tr": score})
    (scored,) = lines(tmp_path / "held_out.jsonl")
    assert (scored["step"], scored["bytes"], scored["bits_per_byte"]) == (0, 0, {"tr": 2.25})


def test_a_line_cut_before_its_last_brace_is_dropped_on_resume(tmp_path):
    record_steps(tmp_path, fresh())
    whole = (tmp_path / "held_out.jsonl").read_text()
    (tmp_path / "held_out.jsonl").write_text(whole + '{"step": 4, "bits_per_byte": {"tr": 2.0}')
    record_steps(tmp_path, {**fresh(), "step": 4}, steps=4)
    assert (tmp_path / "held_out.jsonl").read_text() == whole


def test_a_superseded_start_writes_no_metrics(tmp_path):
    def replaced():
        raise UserError("another start")

    with pytest.raises(UserError, match="another start"):
        record_steps(tmp_path, fresh(), check=replaced)
    assert not lines(tmp_path / "metrics.jsonl")


def test_weights_and_biases_gets_the_same_metrics(tmp_path, monkeypatch):
    logged, begun, ended, defined = [], [], [], []

    def init(**words):
        begun.append(words)
        return SimpleNamespace(
            define_metric=lambda *words, **named: defined.append((words, named)),
            log=lambda values, step=None: logged.append((step, values)),
            finish=lambda exit_code: ended.append(exit_code),
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=RuntimeError))
    folder = tmp_path / "my_run" / "train"
    folder.mkdir(parents=True)
    for _ in range(2):
        record_steps(folder, fresh(), wandb="adapting", config={"train": {"seed": 3}})
    (number,) = {words["id"] for words in begun}  # the same run when training resumes
    assert begun[0]["config"] == {"train": {"seed": 3}}
    assert number and [(words["project"], words["name"]) for words in begun] == [("adapting", "my_run")] * 2
    # Scores have a step of their own: with that of the run they are ignored after those of later steps.
    assert [step for step, _ in logged[:3]] == [2, None, 4] and ended == [0, 0]
    assert logged[0][1]["bits_per_byte"] == pytest.approx(1.0)
    assert logged[1][1] == {"held_out/tr": 2.5, "held_out_step": 2}
    assert defined[0] == (("held_out/*",), {"step_metric": "held_out_step"})


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (SystemExit(ranks.MORE_TO_DO), ["preempting", ranks.MORE_TO_DO]),
        (SystemExit(1), [1]),
        (UserError("the disk is full"), [1]),
    ],
)
def test_weights_and_biases_is_told_that_a_stopped_training_goes_on(tmp_path, monkeypatch, ends, told):
    """With an exit code alone, the run would count as failed until the next start."""
    calls = []
    run = SimpleNamespace(
        define_metric=lambda *words, **named: None,
        mark_preempting=lambda: calls.append("preempting"),
        finish=lambda exit_code: calls.append(exit_code),
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **words: run, Error=RuntimeError))
    (tmp_path / "train").mkdir()
    with (
        pytest.raises(type(ends)),
        Metrics(tmp_path / "train", fresh(), MetricsSettings(4, 2, 100, [1.0], 1, wandb="p"), False),
    ):
        raise ends
    assert calls == told


@pytest.mark.parametrize("lost", ["log", "finish"])
def test_training_goes_on_without_weights_and_biases(tmp_path, monkeypatch, capsys, lost):
    """TERM to all processes of a rank ends its process: the connection is lost."""
    calls = []

    def called(name):
        calls.append(name)
        if name == lost:
            raise ConnectionResetError("Connection lost")

    run = SimpleNamespace(
        define_metric=lambda *words, **named: None,
        log=lambda values, step=None: called("log"),
        finish=lambda exit_code: called("finish"),
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **words: run, Error=RuntimeError))
    (tmp_path / "train").mkdir()
    record_steps(tmp_path / "train", fresh(), wandb="adapting")
    assert [record["step"] for record in lines(tmp_path / "train" / "metrics.jsonl")] == [2, 4]
    assert calls == (["log"] if lost == "log" else ["log", "log", "log", "finish"])
    said = "no more metrics for train.wandb=adapting until the next start: ConnectionResetError('Connection lost')"
    assert capsys.readouterr().out.count(said) == 1


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_weights_and_biases_that_cannot_start_is_one_line(tmp_path, monkeypatch, error):
    def init(**words):
        raise error("No API key configured.\nmore")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=RuntimeError))
    with pytest.raises(
        UserError, match=r"^train\.wandb=adapting: No API key configured\. Log in .*WANDB_MODE=offline"
    ) as found:
        record_steps(tmp_path, fresh(), wandb="adapting")
    assert "\n" not in str(found.value)


def test_a_missing_wandb_package_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    require_wandb(TrainConfig())
    with pytest.raises(UserError, match=r"train\.wandb=adapting needs the package wandb"):
        require_wandb(TrainConfig(wandb="adapting"))


def test_flops_per_token_equal_those_computed_by_hand():
    """One layer, hidden 8, 2 heads of 4, one key-value head, gated FFN of 16, vocabulary 32, 10 tokens in a sample."""
    shape = Shape(1, 8, 2, 1, 4, 16, 32, 64, True, 1e-5, transformer={"gated_linear_unit": True})
    weights = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16 + 8 * 32  # query, key and value, projection, MLP, output
    attention = 2 * 2 * 8 * 10 / 2  # scores and their use, two operations each, half of them masked
    assert flops_per_token(shape, 10) == 3 * (2 * weights + attention)
    # A quarter of the rows is new: their weight gradient, and the input's gradient through all that is frozen.
    tables = flops_per_token(shape, 10, trained(PhaseConfig("new_rows")), 0.25)
    assert tables == 2 * 2 * weights + 3 * attention + 2 * 8 * 32 / 4
    assert flops_per_token(shape, 10, trained(PhaseConfig("output"))) == 2 * weights + attention + 2 * 2 * 8 * 32


@pytest.mark.parametrize("window", [0, 1, 7, 64, 200])
def test_attention_counts_the_keys_that_a_token_sees(window):
    """Four operations for each and each row of the query: the score, and its share of the result."""
    shape = Shape(2, 8, 2, 1, 4, 16, 32, 64, True, 1e-5, windows=(window, 0))
    positions = np.arange(64)
    apart = positions[:, None] - positions
    seen = ((apart >= 0) & (apart < (window or 64))).sum()
    _, scores, _ = forward_flops(shape, 64)
    assert scores[0] == pytest.approx(4 * 8 * seen / 64, abs=4 * 8 / 2)  # half a key: papers count no diagonal
    assert scores[1] == forward_flops(replace(shape, windows=()), 64)[1][0]
