"""``nemo-adapt compare``: several model folders, cached results of unchanged models, one-line errors."""

import functools
import json
import re
import shlex
import weakref
from pathlib import Path
from typing import Any

import pytest
from evaluate_tiny import SENTENCES, byte_level_tokenizer, save_model, sentencepiece_tokenizer
from safetensors.torch import load_file, save_file

from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import command, measure, models

TRANSLATED = {
    "en": "A cat sleeps.\nIt is fine today.\n",
    "tr": "Kedi uyuyor.\nBugün hava güzel.\n",
}


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(models, "best_device", lambda: torch.device("cpu"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    save_model(root / "base", byte_level_tokenizer(270))
    save_model(root / "adapted", byte_level_tokenizer(330), seed=1)
    save_model(root / "other", sentencepiece_tokenizer(), seed=2)
    (root / "parallel").mkdir()
    for language, sentences in SENTENCES.items():
        (root / f"{language}.txt").write_text("\n".join(sentences), encoding="utf-8")
        (root / "parallel" / f"{language}.txt").write_text(TRANSLATED[language], encoding="utf-8")
    return root


def words(place: Path, *names: str) -> list[str]:
    named = ", ".join(f"{name}: {place / name}" for name in names)
    texts = [f"evaluate.texts.{language}={place / language}.txt" for language in ("en", "tr")]
    return [
        f"models={{{named}}}", *texts, "evaluate.generate=2", f"parallel={place / 'parallel'}", f"out={place / 'out'}",
    ]  # fmt: skip


def read(place: Path) -> dict[str, Any]:
    return json.loads((place / "out/report.json").read_text(encoding="utf-8"))


def test_other_models_are_compared_with_the_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(words(place, "base", "adapted", "other"))
    report = read(place)
    assert report["models"] == list(report["bits_per_byte"]) == ["base", "adapted", "other"]
    assert list(report["changes"]) == list(report["gate"]) == ["adapted", "other"]
    for name, changes in report["changes"].items():
        for language, change in changes.items():
            values = report["bits_per_byte"]
            difference = values[name][language] - values["base"][language]
            assert change["bits_per_byte"] == pytest.approx(difference)
            assert change["low"] <= difference <= change["high"]
    fertility = {(row["tokenizer"], row["language"]): row["tokens"] for row in report["fertility"]}
    assert len(fertility) == 6 and fertility["adapted", "tr"] < fertility["base", "tr"]
    assert report["generation"]["base"]["tr"]["new_share"] == 0 < report["generation"]["adapted"]["tr"]["new_share"]
    assert report["generation"]["other"]["tr"]["new_share"] == 0  # its tokenizer does not extend the base's
    assert report["generation"]["adapted"]["tr"]["examples"] == 2
    assert report["headline"][1].startswith("bits per byte tr: ")
    out = capsys.readouterr().out
    assert f"report: {place / 'out/report.html'}" in out
    assert "\nadapted after base (the others are in the report):\n  tokens per" in out
    page = (place / "out/report.html").read_text(encoding="utf-8")
    assert "What was lost in English" in page and "Speed of writing" in page and "<h2>Training" not in page


def test_only_changed_texts_and_models_are_measured_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command.main(words(place, "base", "adapted"))
    before = read(place)
    loaded = []
    load = models.load
    monkeypatch.setattr(
        measure.models, "load", lambda candidate: loaded.append(candidate.folder.name) or load(candidate)
    )
    command.main(words(place, "base", "adapted"))
    assert loaded == [] and read(place)["scores"] == before["scores"]
    command.main([*words(place, "base", "adapted"), f"evaluate.texts.en={place / 'parallel/en.txt'}"])
    assert loaded == ["base", "adapted"]
    assert read(place)["bits_per_byte"]["base"]["tr"] == before["bits_per_byte"]["base"]["tr"]
    assert read(place)["bits_per_byte"]["base"]["en"] != before["bits_per_byte"]["base"]["en"]
    save_model(place / "adapted", byte_level_tokenizer(330), seed=5)
    loaded.clear()
    command.main(words(place, "base", "adapted"))
    assert loaded == ["adapted"]
    assert read(place)["bits_per_byte"]["adapted"]["tr"] != before["bits_per_byte"]["adapted"]["tr"]


def test_a_model_is_freed_before_the_next_is_loaded(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that refers to itself, as a model does that is spread over GPUs: two may not fit."""
    alive, load = [], models.load

    def loaded(candidate: models.Candidate) -> Any:
        assert all(model() is None for model in alive)
        model = load(candidate)
        model.forward = functools.partial(type(model).forward, model)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(measure.models, "load", loaded)
    command.main([*words(place, "base", "adapted", "other"), f"out={tmp_path / 'out'}"])
    assert len(alive) == 3


def test_single_model_is_reported_without_changes(place: Path) -> None:
    command.main(words(place, "other"))
    assert read(place)["changes"] == {} and "->" not in "".join(read(place)["headline"])


def test_texts_that_are_no_translations_are_not_divided_by_each_other(place: Path, tmp_path: Path) -> None:
    good = words(place, "base", "adapted")
    for parallel, there in ((f"parallel={place / 'parallel'}", True), ("parallel=", False)):
        command.main([*good, parallel])
        rows = read(place)["fertility"]
        assert all((row["tokens_vs_reference"] is not None) == there for row in rows)
        assert all((row["disparity"] is not None) == there for row in rows)
        for name in ("report.md", "report.html"):
            page = (place / "out" / name).read_text(encoding="utf-8")
            assert ("Over its own English" in page) == ("Over base" in page) == ("the disparity" in page) == there
            assert "Tokens per sentence" in page


def test_bad_input_raises_one_line_errors(place: Path, tmp_path: Path) -> None:
    good = words(place, "base", "adapted")

    def message(*changed: str) -> str:
        with pytest.raises(UserError) as caught:
            command.main([*good, *changed, f"out={tmp_path / 'out'}"])
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
        return str(caught.value)

    with pytest.raises(UserError, match="no value for models: give it names and folders"):
        command.main(good[1:])
    assert "unknown key 'modles'. Did you mean 'models'?" in message("modles={}")
    assert "'some' is not in models" in message("tokenizers={some: x}")
    assert "evaluate.tasks.xcopa.tr: nowhere does not exist" in message("evaluate.tasks.xcopa.tr=nowhere")
    assert "parallel: nowhere does not exist" in message("parallel=nowhere")
    assert "evaluate.texts.tr" in message("evaluate.texts.tr=nowhere")
    assert "at most 64 tokens" in message("evaluate.context=100")
    assert message("evaluate.context=-1") == "evaluate.context=-1 must be at least 0"
    assert message("evaluate.batch=0") == "evaluate.batch=0 must be at least 1"
    assert message("evaluate.shots.xcopa=-1") == "evaluate.shots.xcopa=-1 must be at least 0"
    (tmp_path / "de.txt").write_text("Eine Katze.\n")
    assert f"parallel: {tmp_path} has no text of en, tr" in message(f"parallel={tmp_path}")
    (tmp_path / "de.dev.txt").write_text("Ein Hund.\n")
    assert "has de.dev.txt and de.txt for 'de'; keep one" in message(f"parallel={tmp_path}")
    assert "parallel: " in (said := message(f"parallel={place / 'en.txt'}")) and "en.txt is not a folder" in said
    big = byte_level_tokenizer(400)
    save_model(tmp_path / "small", big, vocabulary=300)
    assert "they do not belong together" in message(f"models={{base: {tmp_path / 'small'}}}")
    (tmp_path / "empty.txt").touch()
    assert "the file is empty" in message(f"evaluate.texts.tr={tmp_path / 'empty.txt'}")
    (tmp_path / "task.jsonl").write_text('{"premise": "a."}\n')
    said = message(f"evaluate.tasks.xcopa.tr={tmp_path / 'task.jsonl'}", "evaluate.shots.xcopa=0")
    assert "task.jsonl: line 1 has no field" in said


def test_a_model_that_predicts_no_numbers_is_one_line(place: Path, tmp_path: Path) -> None:
    """Its report had no number on text, and a plausible one on tasks, where the first answer counts then."""
    folder = save_model(tmp_path / "broken", byte_level_tokenizer(270))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    named = f"models={{base: {place / 'base'}, broken: {folder}}}"
    with pytest.raises(UserError, match=r"^scoring broken, tr: the model's predictions are not finite") as error:
        command.main([*words(place, "base"), named, f"out={tmp_path / 'out'}"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out/report.json").exists()


def test_docs_command_writes_the_documented_report_keys(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs/evaluate.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [line for line in page.splitlines() if line.startswith("nemo-adapt compare")]
    monkeypatch.chdir(place)
    command.main([*shlex.split(line)[2:], "evaluate.generate=1"])
    report = json.loads((place / "comparison/report.json").read_text(encoding="utf-8"))
    keys = re.findall(r"^\| (`[^|]*`) \|", page, re.MULTILINE)
    named = [name.split(".")[0] for key in keys for name in re.findall(r"`([\w.]+)`", key)]
    assert len(named) > 10 and set(named) <= report.keys()


def test_a_config_that_transformers_refuses_is_one_line(place, tmp_path):
    config = json.loads((place / "base/config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "initializer_range": "0.02"}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"transformers cannot read config\.json: .*'initializer_range'") as error:
        models.inspect(tmp_path, place / "base")
    assert "\n" not in str(error.value)
