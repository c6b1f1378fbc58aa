"""What is loaded for evaluation: padded rows have no probability; results are cached by all of a model's weights."""

import json
from pathlib import Path

import pytest
import torch
from evaluate_tiny import byte_level_tokenizer, save_model
from safetensors.torch import load_file, save_file

from nemo_adapt.config import EvaluateConfig
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import measure, models
from nemo_adapt.evaluate.cache import Cache
from nemo_adapt.evaluate.tasks.kinds import MultipleChoice
from nemo_adapt.evaluate.tasks.load import Task
from nemo_adapt.evaluate.tasks.scores import Result
from nemo_adapt.files import WHOLE_FILE_BYTES
from nemo_adapt.tokens import documents


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "best_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(models, "gpu_memory", list)


def test_padded_rows_have_no_probability(tmp_path: Path) -> None:
    """All other logits are below those of the padded rows, 0, as in GPT-2."""
    tokenizer = byte_level_tokenizer(300)
    plain, padded = (
        save_model(tmp_path / name, tokenizer, len(tokenizer) + more) for name, more in (("a", 0), ("b", 8))
    )
    tensors = load_file(plain / "model.safetensors")
    tensors["lm_head.weight"] = -tensors["lm_head.weight"].abs()
    tensors["model.norm.weight"] = tensors["model.norm.weight"].abs()
    save_file(tensors, plain / "model.safetensors", {"format": "pt"})
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        tensors[name] = torch.nn.functional.pad(tensors[name], (0, 0, 0, 8))
    save_file(tensors, padded / "model.safetensors", {"format": "pt"})
    suppressed = [3, *range(len(tokenizer), len(tokenizer) + 8)]  # the first is a setting of the base
    (padded / "generation_config.json").write_text(json.dumps({"suppress_tokens": suppressed}))
    ids = torch.arange(2, 12)[None]
    logits = []
    for folder in (plain, padded):
        model = models.load(models.inspect(folder, folder))
        with torch.no_grad():
            logits.append(model(input_ids=ids).logits.log_softmax(-1)[..., : len(tokenizer)])
        assert (model.generate(ids, max_new_tokens=4) < len(tokenizer)).all()
    torch.testing.assert_close(logits[0], logits[1])


def test_a_special_token_without_a_row_is_no_mismatch(tmp_path: Path) -> None:
    """As in Gemma 3 1B; one that ends documents, or is text, is needed."""
    tokenizer = byte_level_tokenizer(300)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    folder = save_model(tmp_path / "model", tokenizer, rows)
    assert documents.rows_of_text(models.inspect(folder, folder).tokenizer) == rows
    for changed in ({"eos_token": "<end>"}, {}):
        tokenizer.add_special_tokens(changed) if changed else tokenizer.add_tokens(["word"])
        other = save_model(tmp_path / f"{len(tokenizer)}", tokenizer, rows)
        with pytest.raises(UserError, match="do not belong together"):
            models.inspect(other, other)


@pytest.mark.parametrize("name", ["tokenizer.model.v3", "a.spm", "tokenizer", "manifest.json"])
def test_a_tokenizer_file_counts_whatever_its_name_is(tmp_path: Path, name: str) -> None:
    found = []
    for content in ("one", "two"):
        (tmp_path / name).write_text(content)
        found.append(Cache(tmp_path / "cache", (tmp_path / name,)).model)
    assert found[0] != found[1]


def test_models_that_differ_in_a_few_rows_share_no_results(tmp_path: Path) -> None:
    """Of a large file, samples alone would miss them."""
    folders = [tmp_path / name for name in "ab"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        with (folder / "model.safetensors").open("wb") as stream:
            stream.seek(2 * WHOLE_FILE_BYTES)
            stream.write(b"end")
            stream.seek(WHOLE_FILE_BYTES + 1_500_000)
            stream.write(bytes([number]))
    assert Cache(tmp_path, (folders[0],)).model != Cache(tmp_path, (folders[1],)).model


def test_choices_scored_with_another_dtype_are_not_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = models.inspect(folder := save_model(tmp_path / "model", byte_level_tokenizer()), folder)
    settings = EvaluateConfig(generate=0, batch=2)
    task = Task("xcopa", "tr", "xcopa_tr", [MultipleChoice("", (), 0)], [])
    plan = measure.Plan({"tr": ["Su."]}, 8, [task], settings)
    scored = []
    monkeypatch.setattr(
        measure.harness, "run", lambda *given: scored.append(given) or Result("acc", {"acc": [[1.0, 1.0]]})
    )
    for times, dtype in ((1, "bfloat16"), (1, "bfloat16"), (2, "float32"), (2, "float32")):
        monkeypatch.setattr(measure.harness, "SOFTMAX", dtype)
        measure.measure("model", candidate, frozenset(), plan, tmp_path / "cache")
        assert len(scored) == times


def test_the_dtype_of_a_model_is_recorded_also_when_its_results_are_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU it is that of the model's files."""
    candidate = models.inspect(folder := save_model(tmp_path / "model", byte_level_tokenizer()), folder)
    plan = measure.Plan({"tr": ["Su."]}, 8, [], EvaluateConfig(generate=0, batch=2))
    model = models.load(candidate).bfloat16()
    for loaded in ([model], []):
        monkeypatch.setattr(measure.models, "load", lambda _, loaded=loaded: loaded.pop())
        found = measure.measure("model", candidate, frozenset(), plan, tmp_path / "cache")
        assert found.cost["dtype"] == "bfloat16"
