"""What the report measures is read before the first stage of a run: the stages before the last can take days."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from helpers.tiny import TinyLlama, make_llama

from nemo_adapt import pipeline
from nemo_adapt.config import Config, recipes
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate.tasks import load
from nemo_adapt.launch import command
from nemo_adapt.run import preflight

EXAMPLE = {"premise": "Kedi uyudu.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 0}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    make_llama(tmp_path / "base", TinyLlama())
    text = tmp_path / "text.txt"
    text.write_text("bir iki\n" * 20, encoding="utf-8")
    config = Config()
    config.run.name, config.run.dir = "r", str(tmp_path / "runs")
    config.model.path = config.tokenizer.base = str(tmp_path / "base")
    config.tokenizer.text = config.data.target = [str(text)]
    config.evaluate.texts, config.evaluate.target, config.train.seq_length = {"tr": str(text)}, "tr", 32
    return config


@pytest.fixture
def error(config: Config, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The error of a run and of its submission as jobs, which make nothing."""
    config.launch.dry_run, config.site.ranks_per_node = True, 1
    monkeypatch.setattr(recipes, "of_words", lambda words: config)

    def said() -> str:
        found = []
        for start in (partial(pipeline.run_all, config), partial(command.main, [])):
            with pytest.raises(UserError) as caught:
                start()
            found.append(str(caught.value))
        assert not Path(config.run.dir).exists()
        assert found[0] == found[1]
        return found[0]

    return said


def test_held_out_text_that_cannot_be_read(config: Config, error: Callable[[], str], tmp_path: Path) -> None:
    held_out = tmp_path / "held_out.txt"
    config.evaluate.texts["en"] = str(held_out)
    held_out.touch()
    assert error().endswith("held_out.txt: the file is empty; give a file with at least one document")
    held_out.write_text("bir\niki\nşehir\n", encoding="iso-8859-9")
    assert "held_out.txt: line 3 is not UTF-8" in error()
    config.evaluate.max_bytes = 5  # the evaluation reads no further either
    preflight.precheck(config, pipeline.run_steps(config))


def test_tasks_that_cannot_be_used(
    config: Config, error: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "xcopa.jsonl"
    path.write_text((json.dumps(EXAMPLE) + "\n") * 20, encoding="utf-8")
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: object())
    config.evaluate.tasks = {"xcoppa": {"tr": str(path)}}
    assert "unknown kind 'xcoppa'. Did you mean 'xcopa'?" in error()
    config.evaluate.tasks = {"xcopa": {"tr": str(path)}}
    preflight.precheck(config, pipeline.run_steps(config))
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    assert "evaluate.tasks.xcopa needs lm-eval" in error()
    config.site.venv = "/environment/of/the/jobs"
    preflight.precheck(config, pipeline.run_steps(config))


def test_a_file_that_is_trained_on_and_held_out_is_said(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when a glob of the training text also matches the held-out file."""
    for name in ("a", "b.heldout"):
        (tmp_path / f"{name}.txt").write_text("bir iki\n", encoding="utf-8")
    config.data.target, config.evaluate.texts = [str(tmp_path / "*.txt")], {"tr": str(tmp_path / "b.heldout.txt")}
    preflight.precheck(config, pipeline.run_steps(config))
    assert "evaluate.texts.tr: " in (said := capsys.readouterr().out) and "b.heldout.txt is also in data.target" in said
    config.data.target = [str(tmp_path / "a.txt")]
    preflight.precheck(config, pipeline.run_steps(config))
    assert not capsys.readouterr().out
