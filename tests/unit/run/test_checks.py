"""Checks of the settings against the model, before anything is started."""

import contextlib
import json
import subprocess
import sys

import pytest
from helpers.tiny import TinyLlama, make_llama

from nemo_adapt import pipeline
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.run import preflight
from nemo_adapt.run.checks import check


@pytest.mark.parametrize(
    "pattern", ["*word_embeddings*", "*.layers.1.*", "*layernorm*", "*layer_norm*", "output_layer.weight"]
)
def test_a_pattern_of_parameters_without_decay_may_match_any(tmp_path, pattern):
    check(config_of(tmp_path, pattern))


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("embedding.word_embedings.weight", r" Did you mean 'embedding\.word_embeddings\.weight'\?"),
        ("*.layers.2.*", ""),
        ("word_embeddings", ""),
        ("*bias*", ""),
    ],
)
def test_a_pattern_that_matches_no_parameter_is_one_line(tmp_path, pattern, hint):
    """With one misspelt, weights would be decayed all the same."""
    with pytest.raises(UserError, match=r"no_weight_decay: '.*' matches no parameter of this model\." + hint) as error:
        check(config_of(tmp_path, "*output_layer*", pattern))
    assert repr(pattern) in str(error.value) and "decoder.layers.0." in str(error.value)


def test_a_mistake_is_said_without_waiting_for_torch(tmp_path):
    code = (
        "import sys\n"
        "from nemo_adapt import cli\n"
        "try:\n"
        "    cli.command('train', sys.argv[1:])\n"
        "except cli.UserError as error:\n"
        "    print(error, 'torch' in sys.modules)"
    )
    words = ["recipe=blank", f"model.path={make_llama(tmp_path, TinyLlama())}", "parallel.tp=3", "run.name=a"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    assert "parallel.tp=3 does not divide" in done.stdout and done.stdout.endswith("False\n"), done.stderr


def test_windows_longer_than_the_model_reads_are_said_first(tmp_path):
    """Its report refuses them, after all else is done."""
    config = config_of(tmp_path)
    config.evaluate.context = 64
    check(config)
    config.evaluate.context = 65
    with pytest.raises(UserError, match=r"^evaluate\.context=65: the model reads at most 64 tokens at once .*lower it"):
        check(config)
    described = json.loads((tmp_path / "config.json").read_text())
    del described["max_position_embeddings"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    check(config)


def config_of(place, *patterns):
    config = Config()
    config.model.path = str(make_llama(place, TinyLlama()))
    config.train.no_weight_decay, config.train.seq_length = list(patterns), 64
    return config


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        (3, r"3 ranks do not divide into parallel\.tp=2 x parallel\.pp=1 x parallel\.cp=1"),
        (6, "train.global_batch=8 is not a multiple of train.micro_batch=2 x"),
        (4, ""),
    ],
)
def test_ranks_of_a_launcher_that_do_not_fit_are_said_before_the_first_stage(monkeypatch, ranks, said):
    """Hours of tokenizing later, on GPUs that waited for it, it was said by the training."""
    config = Config()
    config.parallel.tp, config.train.global_batch, config.train.micro_batch = 2, 8, 2
    monkeypatch.setattr(preflight, "_is_finished", lambda config, step: config.run.name == "finished")
    for name in ("check_steps", "check_export", "precheck", "check_recipe", "check_begun"):
        monkeypatch.setattr(preflight, name, lambda *given, **named: None)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    steps = [step for step in pipeline.STEPS if step.name == "train"]
    with pytest.raises(UserError, match=said) if said else contextlib.nullcontext():
        preflight.check(config, steps, steps)
    config.run.name = "finished"
    preflight.check(config, steps, steps)
