"""Multiple-choice tasks: the files written for lm-eval, and lm-eval run directly on the same folder."""

import ast
import json
import math
import os
import re
import runpy
from pathlib import Path

import pytest
import torch
import yaml
from evaluate_tiny import byte_level_tokenizer, save_model

from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import bits_per_byte, models
from nemo_adapt.evaluate.tasks import harness, prompts
from nemo_adapt.evaluate.tasks.kinds import MultipleChoice
from nemo_adapt.evaluate.tasks.load import Task

ITEMS = [
    MultipleChoice(f"Soru {number} çünkü", ("evet, güzel bir gün.", "hayır.", f"belki {number * number}"), number % 3)
    for number in range(30)
]


def task(shots: int) -> Task:
    return Task("xcopa", "tr", "xcopa_tr", ITEMS[5:], ITEMS[:shots])


def test_harness_files_refer_to_each_other_and_hold_the_questions(tmp_path: Path) -> None:
    config = json.loads(harness.write(task(2), tmp_path).read_text(encoding="utf-8"))
    assert config["dataset_kwargs"]["data_files"] == {"test": "xcopa_tr.jsonl", "shots": "xcopa_tr.shots.jsonl"}
    assert config["num_fewshot"] == 2 and config["metric_list"][0] == {"metric": "acc_bytes"}
    rows = [json.loads(line) for line in (tmp_path / "xcopa_tr.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[1] == {"query": ITEMS[6].query, "choices": list(ITEMS[6].choices), "gold": 0}
    assert len((tmp_path / "xcopa_tr.shots.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    (tmp_path / "none").mkdir()
    assert "fewshot_split" not in harness.write(task(0), tmp_path / "none").read_text(encoding="utf-8")
    assert not (tmp_path / "none/xcopa_tr.shots.jsonl").exists()


@pytest.mark.parametrize("shots", [0, 3])
def test_lm_eval_on_the_written_files_gives_the_same_scores(
    shots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    pytest.importorskip("accelerate")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = save_model(tmp_path / "model", byte_level_tokenizer(), seed=3)
    candidate = models.inspect(folder, folder)
    monkeypatch.chdir(tmp_path)  # outside any git repository
    ours = harness.run(models.load(candidate), candidate.tokenizer, task(shots), 4)
    assert "not a git repository" not in capfd.readouterr().err
    assert ours.metric == "acc_bytes" and len(ours.rows["acc_bytes"]) == 25

    harness.write(task(shots), tmp_path / "tasks")
    monkeypatch.chdir(tmp_path / "tasks")
    with harness._quiet():
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args=f"pretrained={folder},softmax_dtype={harness.SOFTMAX}",
            tasks=["xcopa_tr"],
            task_manager=lm_eval.tasks.TaskManager(include_path=os.fspath(tmp_path / "tasks"), include_defaults=False),
            batch_size=4,
            device=str(candidate_device()),
            bootstrap_iters=0,
        )
    for metric in harness.METRICS:
        mean = sum(hit for hit, _ in ours.rows[metric]) / 25
        assert found["results"]["xcopa_tr"][f"{metric},none"] == pytest.approx(mean, abs=1e-12)
    # The model reads 64 tokens: three examples and a question do not fit, a question by itself does.
    assert ours.facts == {"cut": 25 if shots else 0}
    # Normalising by byte length must change scores here, or the task's main metric would not be tested.
    assert ours.rows["acc"] != ours.rows["acc_bytes"]


@pytest.mark.parametrize("shots", [0, 1])
def test_answers_that_are_all_dates_are_texts(shots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` would read them as points in time. Quotes, line ends and letters beyond ASCII survive too."""
    pytest.importorskip("lm_eval")
    pytest.importorskip("accelerate")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = save_model(tmp_path / "model", byte_level_tokenizer(), seed=3)
    candidate = models.inspect(folder, folder)
    monkeypatch.chdir(tmp_path)
    dates = MultipleChoice("Ada was born on", ("1815-12-10", "1852-11-27"), 0)
    odd = MultipleChoice("Ada was born on", ("1815-12-10", "\"o'n\\\n{{ gün }} 😀"), 1)
    model = models.load(candidate)
    for items in ([dates] * 3, [dates, odd, odd]):
        asked = Task("mlama", "tr", "mlama_tr", items[shots:], items[:shots])
        found = harness.run(model, candidate.tokenizer, asked, 4)
        assert len(found.rows["acc"]) == 3 - shots
    (line, *_) = harness.write(asked, tmp_path / "tasks").with_suffix(".jsonl").read_text("utf-8").splitlines()
    assert ast.literal_eval(json.loads(line)["choices"]) == list(items[shots].choices)


def test_log_probabilities_of_a_model_in_bf16_are_summed_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As models are loaded on a GPU. Rounded to bf16, different answers would have equal scores."""
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = save_model(tmp_path / "model", byte_level_tokenizer(), seed=3)
    candidate = models.inspect(folder, folder)
    monkeypatch.chdir(tmp_path)
    found: list[float] = []
    original = huggingface.HFLM._loglikelihood_tokens

    def expected(context: list[int], answer: list[int]) -> float:
        ids = torch.tensor([context + answer])
        with torch.no_grad():
            logits = model(ids[:, :-1].to(model.device)).logits[0, -len(answer) :]
        return logits.float().cpu().log_softmax(-1).gather(1, ids[0, -len(answer) :, None]).sum().item()

    def compared(self, requests, **others):
        sums = original(self, requests, **others)
        found.extend(abs(got - expected(*ids)) for (_, *ids), (got, _) in zip(requests, sums, strict=True))
        return sums

    model = models.load(candidate).bfloat16()
    monkeypatch.setattr(huggingface.HFLM, "_loglikelihood_tokens", compared)
    harness.run(model, candidate.tokenizer, task(0), 1)
    assert len(found) == 75 and max(found) < 1e-4


@pytest.mark.parametrize("shots", [0, 3])
def test_a_pass_has_as_few_answers_as_the_limit_on_logits_asks(
    shots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    pytest.importorskip("accelerate")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tokenizer = byte_level_tokenizer()
    folder = save_model(tmp_path / "model", tokenizer, seed=3)
    candidate = models.inspect(folder, folder)
    monkeypatch.chdir(tmp_path)
    model, shapes = models.load(candidate), []
    model.register_forward_hook(lambda module, inputs, out: shapes.append(tuple(out.logits.shape)))
    found = []
    for limit in (bits_per_byte.LOGITS_PER_PASS, 130 * len(tokenizer), 1):
        monkeypatch.setattr(bits_per_byte, "LOGITS_PER_PASS", limit)
        shapes.clear()
        found.append(harness.run(model, candidate.tokenizer, task(shots), 16).rows)
        rows = max(each[0] for each in shapes)
        if limit == 1:
            assert rows == 1, "one answer is not divided"
        else:
            assert max(math.prod(each) for each in shapes) <= limit
            # A prompt with three examples is cut to the 64 tokens that the model reads: twice that is below 130.
            assert rows == 16 if limit > 10**6 else 2 <= rows < 16
    assert found[0] == found[1] == found[2]


def test_prompts_equal_those_of_lm_eval() -> None:
    lm_eval = pytest.importorskip("lm_eval")
    tasks = Path(lm_eval.__file__).parent / "tasks"
    for language, (question, *answers) in prompts.XNLI.items():
        if language == "ta":  # lm-eval has no Tamil XNLI; ours is IndicXNLI's
            continue
        choices = yaml.safe_load((tasks / f"xnli/xnli_{language}.yaml").read_text(encoding="utf-8"))["doc_to_choice"]
        theirs = re.findall(r'premise\+", (.*?), "\+hypothesis', choices)
        ours = [f"{question} {answer}" for answer in answers]
        same = 2 if language == "ar" else 3  # the Arabic "no" of the harness says "number"
        assert len(theirs) == 3 and theirs[:same] == ours[:same], language
    theirs_of = runpy.run_path(str(tasks / "xcopa/utils.py"))
    for language in ("sw", "ta", "tr"):
        assert theirs_of[f"doc_to_text_{language}"].keywords["connector"] == prompts.XCOPA[language]


def test_answer_longer_than_the_context_is_named(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    pytest.importorskip("accelerate")
    folder = save_model(tmp_path / "model", byte_level_tokenizer(), seed=3)
    candidate = models.inspect(folder, folder)
    items = [ITEMS[0], MultipleChoice("", ("q" * 63, "hayır"), 0), MultipleChoice("", ("evet", "q" * 64), 0)]
    with pytest.raises(
        UserError, match=r"xnli\.tr: an answer of example 3, 'q+'…, has more tokens .* at once \(64\): "
    ):
        harness.run(models.load(candidate), candidate.tokenizer, Task("xnli", "tr", "xnli_tr", items, []), 4)


def candidate_device() -> str:
    from nemo_adapt.devices import best_device

    return best_device().type
