"""The evaluate stage, from input folders to report pages: contents, escaping, missing inputs, errors."""

import html
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from evaluate_tiny import SENTENCES, byte_level_tokenizer, save_model, sentencepiece_tokenizer

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import measure, models, render, samples
from nemo_adapt.evaluate.headline import headline
from nemo_adapt.evaluate.stage import _exported, build
from nemo_adapt.evaluate.tables import all_tables
from nemo_adapt.evaluate.tasks import load
from nemo_adapt.evaluate.tasks.scores import Result
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import NewToken, TokenMap

EVIL = "<script>alert('x')</script> & [link](http://example.org) | çok güzel bir gün"


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(models, "best_device", lambda: torch.device("cpu"))


def make_inputs(root: Path, full: bool = True) -> dict[str, list[Path]]:
    """Models, texts and, if ``full``, outputs of the tokenizer and train stages."""
    base, adapted = byte_level_tokenizer(270), byte_level_tokenizer(330)
    inputs = {
        "base": [save_model(root / "base", base)],
        "base_tokenizer": [root / "base"],
        "adapted": [save_model(root / "adapted", adapted, seed=1)],
    }
    for language, sentences in SENTENCES.items():
        (root / f"{language}.txt").write_text("\n".join([*sentences, EVIL]), encoding="utf-8")
        inputs[f"texts.{language}"] = [root / f"{language}.txt"]
    if full:
        inputs |= {"tokenizer": [_tokenizer_folder(root / "tokenizer", base, adapted)]}
        inputs |= {"train": [_train_folder(root / "train")]}
    return inputs


def _tokenizer_folder(folder: Path, base: Any, adapted: Any) -> Path:
    folder.mkdir()
    names = adapted.convert_ids_to_tokens(range(len(base), len(adapted)))
    tokens = [NewToken(number, name, name, [1], 1, 1) for number, name in enumerate(names, start=len(base))]
    TokenMap(len(base), tokens).save(folder)
    rows = [
        {"tokenizer": kind, "text": "parallel", "language": language, "sentences": 10, "words": 80, "bytes": 640}
        | {"tokens": tokens, "tokens_per_word": 1.0, "bytes_per_token": 640 / tokens, "tokens_vs_reference": 1.0}
        for language, counts in {"tr": (612, 243), "en": (200, 201)}.items()
        for kind, tokens in zip(("base", "extended"), counts, strict=True)
    ]
    (folder / "fertility.json").write_text(json.dumps(rows))
    (folder / "learn.json").write_text(
        json.dumps({"method": "continue", "learned_tokens": 1234, "guard": {"dropped": 17}, "list": [1]})
    )
    return folder


def _train_folder(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        {"step": step, "tokens": step * 100, "bytes": step * 300, "loss": 3.0, "bits_per_byte": 4.0 - step / 100}
        for step in (10, 20, 30, 20, 30)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = {"steps": 30, "tokens": 3000, "bytes": 9000, "seconds": 12.5, "tokens_per_second": 240.0}
    phases = [{"train": "new_rows", "steps": 10, "lr": 1e-3}, {"train": "all", "steps": 20, "lr": 1e-4}]
    (folder / "summary.json").write_text(json.dumps({**summary, "phases": phases}))
    return folder


def make_config() -> Config:
    config = Config()
    config.run.name = "tiny <i>run</i>"
    config.evaluate.target = "tr"
    config.evaluate.batch = 4
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    (root / "out").mkdir()
    build(make_config(), make_inputs(root), root / "out")
    return root / "out"


def test_report_json_has_scores_fertility_training_and_samples(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert report["bits_per_byte"].keys() == {"base", "adapted"}
    for side, values in report["bits_per_byte"].items():
        assert list(values) == ["tr", "en"]
        for language, value in values.items():
            fact = report["scores"][side][language]
            assert fact["low"] < value < fact["high"]
    assert len(report["fertility"]) == 4
    assert report["training"]["tokens"] == 3000
    assert report["window"] == 64
    assert [sample["language"] for sample in report["samples"]] == ["tr", "tr", "tr", "en"]
    assert [item["language"] for item in report["continuations"]] == ["tr", "en"]
    assert report["headline"] == headline(report)


def test_generation_speeds_and_their_ratios_have_confidence_intervals(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    fact, change = report["generation"]["adapted"]["tr"], report["generation_changes"]["adapted"]["tr"]
    for name in ("examples_per_second", "tokens_per_second", "bytes_per_second", "tokens_per_example", "new_share"):
        low, high = fact["intervals"][name]
        assert low <= fact[name] <= high
    before = report["generation"]["base"]["tr"]["examples_per_second"]
    speed = change["examples_per_second"]
    assert speed["times"] == pytest.approx(fact["examples_per_second"] / before)
    assert speed["low"] <= speed["times"] <= speed["high"]
    text = (finished / "report.md").read_text(encoding="utf-8")
    assert f"| {speed['times']:.2f} \\[{speed['low']:.2f}, {speed['high']:.2f}] |" in text


def test_headline_has_three_lines_with_the_numbers(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    report["bits_per_byte"] = {"base": {"tr": 12.5, "en": 3.0}, "adapted": {"tr": 2.36, "en": 3.05}}
    shares = report["changes"]["adapted"]
    shares["tr"]["share"], shares["en"]["share"] = -0.811, 0.0167
    assert headline(report) == [
        "tokens per sentence in tr: 61.2 -> 24.3 (2.5 times fewer)",
        "bits per byte tr: 12.50 -> 2.36 (-81.1%)",
        "bits per byte en: 3.00 -> 3.05 (+1.7%, English gate holds)",
    ]
    shares["en"]["share"] = 0.051
    assert "English gate fails" in headline(report)[2]
    for share, shown in ((0.0501, "+5.01%"), (0.050001, "+5.0001%"), (0.06, "+6.0%")):
        shares["en"]["share"] = share
        assert headline(report)[2].endswith(f"({shown}, English gate fails, limit +5%)")
    shares["en"]["share"] = 0.04996
    assert headline(report)[2].endswith("(+5.0%, English gate holds)")
    report["reference"] = "de"
    assert headline(report)[2] == "trained on: 3,000 tokens (9.0 kB)"
    report["training"]["exported"] = {"tokens": 1200, "bytes": 3600}
    assert headline(report)[2] == "trained on: 1,200 tokens (3.6 kB)", "the best checkpoint"
    report["training"] = {}
    assert headline(report)[2].startswith("scored on: 12 documents")


@pytest.mark.parametrize(("which", "tokens"), [("best", 1200), ("last", None)])
def test_text_that_the_best_checkpoint_saw_is_that_of_its_score(tmp_path, which, tokens):
    for step, score in (
        (10, {"bits_per_byte": 3.0}),
        (20, {"bits_per_byte": 2.0, "tokens": 1200, "bytes": 3600}),
        (30, {}),
    ):
        place = tmp_path / f"checkpoints/iter_{step:07}"
        place.mkdir(parents=True)
        (place / ".metadata").touch()
        (place / "score.json").write_text(json.dumps(score))
    config = make_config()
    config.export.checkpoint = which
    assert _exported(config, tmp_path).get("exported", {}).get("tokens") == tokens
    (tmp_path / "checkpoints/iter_0000020/score.json").write_text('{"bits_per_byte": 2.0}')
    assert not _exported(config, tmp_path), "a checkpoint of an earlier version"
    assert not _exported(config, None)


def test_html_page_is_self_contained_and_escaped(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<i>run" not in page
    assert html.escape("tiny <i>run</i>") in page
    links = re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|@import""", page)
    assert links and all(target.startswith("data:image/png;base64,") for target, _ in links)
    assert page.count("data:image/png") == 3
    assert 'lang="tr" dir="ltr"' in page and 'name="viewport"' in page
    assert "fresh" in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "learned tokens" in page and "1,234" in page and "guard dropped" in page


def test_markdown_links_its_plots_and_escapes_its_tables(finished: Path) -> None:
    text = (finished / "report.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert pictures == ["plots/tokens.png", "plots/training.png", "plots/bits_per_byte.png"]
    assert all((finished / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert "<script" not in text.replace("\\<", "")
    assert text.count("```") == 2


def test_report_omits_sections_without_data(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    build(make_config(), make_inputs(tmp_path, full=False), out)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["fertility"] == [] and report["training"] == {}
    assert len(report["headline"]) == 3 and report["headline"][0].startswith("tokens per document in tr: ")
    assert [path.name for path in (out / "plots").iterdir()] == ["bits_per_byte.png"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h2>Training" not in page and "<h2>Tokenizer" not in page and "<h2>Result" in page
    assert "## Training" not in (out / "report.md").read_text(encoding="utf-8")


def test_the_curve_has_scores_and_phases_where_they_were_between_records(tmp_path, monkeypatch) -> None:
    """Steps that are no multiples of ``train.log_every`` had been put at the record before."""
    drawn: list[Any] = []
    monkeypatch.setattr(render.plots, "training_curve", lambda path, *given: drawn.extend(given))
    metrics = [{"step": step, "bytes": step * 10**6, "bits_per_byte": 3.0} for step in (10, 20)]
    metrics.insert(1, {"step": 12, "bytes": 10**7, "bits_per_byte": None})
    held_out = [
        {"step": 5, "bytes": 5_000_000, "bits_per_byte": {"tr": 3.0}},
        {"step": 16, "bytes": 15_500_000, "bits_per_byte": {"tr": 2.0, "en": None}},
    ]
    phases = [PhaseConfig("new_rows", 13), PhaseConfig("all", 7)]
    assert render._training(metrics, held_out, phases, tmp_path / "training.png")
    megabytes, _, starts, scored = drawn
    assert megabytes == [10.0, 20.0]
    assert starts == {"1. new_rows": 0.0, "2. all": pytest.approx(11.25)}
    assert scored == {"Turkish": [(5.0, 3.0), (15.5, 2.0)]}


def test_sample_pieces_spell_the_text_and_show_partial_characters_as_bytes() -> None:
    tokenizer = byte_level_tokenizer(257)
    found = samples.pieces(tokenizer, "a ğ", {documents.encode(tokenizer, ["a"])[0][0]})
    assert [(piece.text, piece.is_bytes) for piece in found] == [("a", False), (" ", False), ("C4", True), ("9F", True)]
    assert [piece.is_new for piece in found] == [True, False, False, False]
    found = samples.pieces(sentencepiece_tokenizer(), "bir bir", ())
    assert [piece.text for piece in found] == ["bir", " bir"]
    assert samples.pieces(sentencepiece_tokenizer(), "ev", ())[0].text == samples.LONE_SPACE


def test_samples_are_of_medium_length_and_prompts_their_first_words() -> None:
    texts = ["x" * length for length in (5, 90, 100, 110, 100, 2000)]
    assert samples.choose(texts, 3) == ["x" * 100, "x" * 90, "x" * 110]
    assert samples.prompt("one two three four five six seven") == "one two three"
    assert samples.prompt("word") == "word"
    thai = "แมวตัวหนึ่งกำลังนอนหลับอยู่ใต้ต้นไม้ใหญ่ในสวนหลังบ้าน"  # no spaces between words
    assert samples.prompt(thai) == thai[: len(thai) // 2]
    assert samples.prompt(20 * thai) == thai[:40]
    assert samples.prompt(f"{thai} {thai}") == thai[:40]


def test_bad_input_raises_one_line_errors(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, full=False)
    out = tmp_path / "out"

    def message(config: Config | None = None, **changed: list[Path]) -> str:
        with pytest.raises(UserError) as caught:
            build(
                config or make_config(), inputs | {key.replace("__", "."): path for key, path in changed.items()}, out
            )
        assert "\n" not in str(caught.value)
        return str(caught.value)

    empty = tmp_path / "empty.txt"
    empty.touch()
    assert "empty.txt: the file is empty" in message(texts__tr=[empty])

    big = byte_level_tokenizer(400)
    small = save_model(tmp_path / "small", big, vocabulary=300)
    found = message(adapted=[small])
    assert str(small) in found and "300 vocabulary rows" in found and f"up to {len(big) - 1}" in found

    (tmp_path / "nothing").mkdir()
    assert "config.json" in message(base=[tmp_path / "nothing"])
    (small / "model.safetensors").rename(small / "model.bin")
    assert "no safetensors" in message(adapted=[small])

    config = make_config()
    config.evaluate.target = "xx"
    assert "'xx' is not a language of evaluate.texts (tr, en)" in message(config)
    config = make_config()
    config.evaluate.context = 1000
    assert "at most 64 tokens" in message(config)
    with pytest.raises(UserError, match=r"evaluate\.texts is empty"):
        build(make_config(), {key: value for key, value in inputs.items() if "texts" not in key}, out)


@pytest.mark.skipif(importlib.util.find_spec("optimum") is not None, reason="the package is there")
def test_a_quantized_model_whose_package_is_missing_raises_a_user_error(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", byte_level_tokenizer())
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"the model cannot be loaded: .* requires optimum"):
        models.load(models.inspect(folder, folder))


def test_missing_weights_and_unknown_model_type_raise_user_errors(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_model(tmp_path / "model", byte_level_tokenizer())
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if name != "model.norm.weight"}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights for model\.norm\.weight"):
        models.load(models.inspect(folder, folder))
    (folder / "config.json").write_text('{"model_type": "unheard_of"}')
    with pytest.raises(UserError, match=r"cannot read config\.json"):
        models.inspect(folder, folder)


def test_a_single_example_has_no_interval_and_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its resamples are all the same: the interval excluded zero, and any difference was said to be clear."""
    result = lambda model, tokenizer, task, batch: Result(  # noqa: E731
        "acc_bytes", {"acc_bytes": [[float(len(tokenizer) < 300), 1.0]]}, 1.5
    )
    monkeypatch.setattr(measure.harness, "run", result)
    monkeypatch.setattr(load, "_require", lambda kind: None)
    inputs = make_inputs(tmp_path, full=False)
    row = {"premise": "It rained.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 0}
    (tmp_path / "xcopa.en.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    inputs["tasks.xcopa.en"] = [tmp_path / "xcopa.en.jsonl"]
    (tmp_path / "one.txt").write_text("One document.\n", encoding="utf-8")
    inputs["texts.en"] = [tmp_path / "one.txt"]
    config = make_config()
    config.evaluate.shots = {"xcopa": 0}
    (tmp_path / "out").mkdir()
    build(config, inputs, tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    for fact in (
        report["scores"]["base"]["en"],
        report["changes"]["adapted"]["en"],
        report["gate"]["adapted"],
        report["task_scores"]["base"]["xcopa_en"]["values"]["acc_bytes"],
        report["task_changes"]["adapted"]["xcopa_en"],
        report["generation_changes"]["adapted"]["en"]["examples_per_second"],
    ):
        assert fact["low"] is fact["high"] is None
    shown = all_tables(report)
    assert shown["lost"].rows[1] == ["xcopa English, accuracy, %", "adapted", "-100.0", "–"]
    assert shown["lost"].rows[0][2] == f"{100 * report['gate']['adapted']['share']:+.1f}"
    for name in ("bits_per_byte", "generation"):
        rows = [row for row in shown[name].rows if row[0] == "English"]
        assert rows and not any("[" in cell for row in rows for cell in row)
    assert "[" in shown["bits_per_byte"].rows[0][2], "several documents have one"


def test_task_scores_and_their_changes_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval is replaced here; test_evaluate_task_harness.py compares scores with the real one."""

    def hits(model: Any, tokenizer: Any, task: Any, batch: int) -> Result:
        right = len(tokenizer) % 7
        rows = [[float(number < right), 1.0] for number in range(len(task.items))]
        return Result("acc_bytes", {"acc_bytes": rows, "acc": rows}, 1.5, {"cut": 3 if len(tokenizer) < 300 else 0})

    monkeypatch.setattr(measure.harness, "run", hits)
    monkeypatch.setattr(load, "_require", lambda kind: None)
    inputs = make_inputs(tmp_path, full=False)
    for language, premise in {"tr": "Kedi uyudu.", "en": "It rained."}.items():
        row = {"premise": premise, "choice1": "A.", "choice2": "B.", "question": "cause", "label": 0}
        path = tmp_path / f"xcopa.{language}.jsonl"
        path.write_text((json.dumps(row) + "\n") * 20, encoding="utf-8")
        inputs[f"tasks.xcopa.{language}"] = [path]
    (tmp_path / "out").mkdir()
    build(make_config(), inputs, tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    expected = {"base": 270 % 7 / 10, "adapted": 330 % 7 / 10}
    for name, value in expected.items():
        assert report["tasks"][name] == {"xcopa_tr": pytest.approx(value), "xcopa_en": pytest.approx(value)}
    change = report["task_changes"]["adapted"]["xcopa_tr"]
    assert change["difference"] == pytest.approx(expected["adapted"] - expected["base"])
    assert change["low"] <= change["difference"] <= change["high"]
    assert report["task_list"]["xcopa_en"] == {"kind": "xcopa", "language": "en", "shots": 5, "examples": 10}
    assert (tmp_path / "out/tasks/xcopa_tr.yaml").is_file() and (tmp_path / "out/plots/tasks.png").is_file()
    for name in ("report.md", "report.html"):
        page = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "xcopa Turkish" in page and f"{100 * expected['adapted']:.1f} " in page
        assert "xcopa English, accuracy, %" in page
        said = "base: prompts that were too long for the model lost their beginning (xcopa Turkish 3 of 10, "
        assert f"{said}xcopa English 3 of 10)." in page
        assert "adapted: prompts" not in page


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_pages_say_that_the_best_checkpoint_was_chosen_by_the_text(finished: Path, tmp_path: Path, name: str) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    said = "the checkpoint that scored best on Turkish while it was trained (export.checkpoint=best)"
    for training, is_said in (({}, False), ({"exported": {"tokens": 1200, "bytes": 3600}}, True)):
        report["training"].pop("exported", None)
        report["training"] |= training
        render.render(report, [], [], [], tmp_path)
        assert (said in (tmp_path / name).read_text(encoding="utf-8")) == is_said


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_unknown_tokens_are_said_in_both_pages(finished: Path, tmp_path: Path, name: str) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    report["scores"]["base"]["tr"]["unknown"] = 7
    render.render(report, [], [], [], tmp_path)
    said = "Turkish holds text that a tokenizer cannot spell (unknown tokens: base 7). Such tokens cost fewer bits"
    assert said in (tmp_path / name).read_text(encoding="utf-8")
    assert "cannot spell" not in (finished / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_different_dtypes_are_said_where_speeds_and_costs_are(finished: Path, tmp_path: Path, name: str) -> None:
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert {fact["dtype"] for fact in report["cost"].values()} == {"float32"}, "all that the CPU measures in"
    report["cost"]["base"]["dtype"] = "bfloat16"
    render.render(report, [], [], [], tmp_path)
    assert (tmp_path / name).read_text(encoding="utf-8").count("(base bfloat16, adapted float32)") == 2
    assert "not the same" not in (finished / name).read_text(encoding="utf-8")
