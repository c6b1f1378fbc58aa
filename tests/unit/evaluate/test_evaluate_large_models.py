"""Models that are too large for one GPU are spread over several; those that are too large for all are refused."""

import gc
import weakref
from pathlib import Path

import pytest
from evaluate_tiny import SENTENCES, byte_level_tokenizer, save_model

from nemo_adapt import devices
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import bits_per_byte, generation, models
from nemo_adapt.evaluate.generation import Limits
from nemo_adapt.evaluate.tasks import harness
from nemo_adapt.evaluate.tasks.kinds import MultipleChoice
from nemo_adapt.evaluate.tasks.load import Task

GIB = 1 << 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", byte_level_tokenizer())


@pytest.mark.parametrize(
    ("size", "memory", "is_spread"),
    [
        (70, [], False),
        (7, [80], False),
        (70, [80], False),
        (7, [80] * 8, False),
        (140, [80] * 4, True),
        (70, [80] * 2, True),
    ],
)
def test_weights_are_spread_where_one_gpu_does_not_hold_them(tmp_path, monkeypatch, size, memory, is_spread):
    monkeypatch.setattr(models, "weight_bytes", lambda folder: size * GIB)
    found = models._spread(tmp_path, [each * GIB for each in memory])
    assert bool(found) == is_spread
    if is_spread:
        assert sum(found["max_memory"].values()) >= size * GIB
        assert list(found["max_memory"].values()) == [int(0.8 * each * GIB) for each in memory]


@pytest.mark.parametrize(("size", "memory"), [(90, [80]), (140, [80, 80])])
def test_weights_that_do_not_fit_are_refused_before_they_are_loaded(tmp_path, monkeypatch, size, memory):
    monkeypatch.setattr(models, "weight_bytes", lambda folder: size * GIB)
    said = (
        rf"{size} GiB of weights do not fit into .* {len(memory)} x 80 GiB: take one with more, or set CUDA_VISIBLE_DEV"
    )
    with pytest.raises(UserError, match=said):
        models._spread(tmp_path, [each * GIB for each in memory])


@pytest.mark.skipif(devices.gpu_count() < 2, reason="needs two GPUs")
def test_a_model_on_several_gpus_scores_and_writes_as_on_one(folder, monkeypatch):
    candidate = models.inspect(folder, folder)

    def results(model):
        score = bits_per_byte.score(model, candidate.tokenizer, SENTENCES["tr"], 16, 2)
        text = generation.write(model, candidate.tokenizer, ["Kedi", "Su"], Limits(20, 20), 2)
        return score.bits_per_byte, [row.text for row in text.written]

    expected = results(models.load(candidate))
    size = models.weight_bytes(folder)
    monkeypatch.setattr(models, "gpu_memory", lambda: [size] * 3)  # the last layer's rest needs some room too
    model = models.load(candidate)
    assert len({weight.device for weight in model.parameters()}) > 1
    found = results(model)
    assert found[0] == pytest.approx(expected[0], rel=1e-6) and found[1] == expected[1]
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(devices.gpu_count() < 2, reason="needs two GPUs")
def test_a_model_on_several_gpus_does_tasks_as_on_one(folder, monkeypatch, tmp_path):
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # outside any git repository
    items = [MultipleChoice(sentence, (" Su.", " Ev."), 0) for sentence in SENTENCES["tr"]]
    task = Task("xcopa", "tr", "xcopa_tr", items, [])
    candidate = models.inspect(folder, folder)
    expected = harness.run(models.load(candidate), candidate.tokenizer, task, 2)
    size = models.weight_bytes(folder)
    monkeypatch.setattr(models, "gpu_memory", lambda: [size] * 3)
    assert harness.run(models.load(candidate), candidate.tokenizer, task, 2).rows == expected.rows


@pytest.mark.skipif(devices.gpu_count() < 2, reason="needs two GPUs")
def test_layers_that_no_gpu_has_room_for_are_refused(folder, monkeypatch):
    """accelerate would keep them in main memory or on the disk."""
    largest = max(weight.nbytes for weight in models.load(models.inspect(folder, folder)).parameters())
    count = models.weight_bytes(folder) // largest + 2
    monkeypatch.setattr(models, "gpu_memory", lambda: [largest] * count)
    with pytest.raises(UserError, match="of weights do not fit into"):
        models.load(models.inspect(folder, folder))
