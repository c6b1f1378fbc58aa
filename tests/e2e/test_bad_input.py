"""Mistakes are reported in one line, with exit code 2, and leave nothing that looks finished."""

import json
import os
import shutil

import pytest
from helpers.command import nemo_adapt
from helpers.trainings import Training

from nemo_adapt.checkpoint.reader import Checkpoint


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    """Return a copy of the small world with broken models and texts."""
    copy = tmp_path_factory.mktemp("broken")
    shutil.copytree(world / "runs" / "smallworld", copy / "runs" / "smallworld")
    model = copy / "runs" / "smallworld" / "base"
    config = json.loads((model / "config.json").read_text())

    shutil.copytree(model, copy / "no_config")
    (copy / "no_config" / "config.json").unlink()
    shutil.copytree(model, copy / "unsupported")
    (copy / "unsupported" / "config.json").write_text(json.dumps({**config, "architectures": ["Mamba2ForCausalLM"]}))
    shutil.copytree(model, copy / "cut_short")
    weights = copy / "cut_short" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    shutil.copytree(model, copy / "other_rope")
    scaled = {**config, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}
    (copy / "other_rope" / "config.json").write_text(json.dumps(scaled))
    (copy / "empty.txt").write_text("")
    (copy / "latin1.txt").write_bytes("güzel bir gün\n".encode("iso-8859-9"))
    return copy


CASES = {
    "missing model folder": ("run", ["model.path=nowhere"], "nowhere does not exist"),
    "no config.json": ("convert", ["model.path=no_config"], "no_config has no config.json"),
    "unsupported architecture": ("convert", ["model.path=unsupported"], "Mamba2ForCausalLM is not supported; supp"),
    "truncated safetensors": ("convert", ["model.path=cut_short"], "cut short"),
    "rope scaling that the family does not support": ("convert", ["model.path=other_rope"], "'dynamic' is not"),
    "empty text": ("tokenizer", ["tokenizer.text=[empty.txt]"], "empty.txt: the file is empty"),
    "text that is not UTF-8": ("tokenizer", ["tokenizer.text=[latin1.txt]"], "latin1.txt: line 1 is not UTF-8"),
    "missing text": ("run", ["data.target=[nothing*.txt]"], "data.target: no file matches 'nothing*.txt'"),
    "misspelt key": ("run", ["tokenizer.new_token=5"], "Did you mean 'tokenizer.new_tokens'?"),
    "misspelt recipe": ("run", ["recipe=dmo"], "Did you mean 'demo'"),
    "misspelt command": ("trian", [], "Did you mean 'train'?"),
    "argument without a value": ("run", ["tokenizer"], "not of the form key=value"),
    "unknown method": ("tokenizer", ["tokenizer.method=contnue"], "Did you mean 'continue'?"),
}  # fmt: skip


def assert_one_line(answer, says):
    assert answer.code == 2
    assert says in answer.err, answer.err
    assert answer.err.startswith("nemo-adapt: error: ") and len(answer.err.strip().splitlines()) == 1
    assert "Traceback" not in answer.out + answer.err


@pytest.mark.parametrize(("command", "words", "says"), CASES.values(), ids=list(CASES))
def test_mistake_is_reported_in_one_line(place, short, command, words, says):
    name = "run.name=mistake"
    answer = nemo_adapt(command, *short, name, *words, cwd=place)
    assert_one_line(answer, says)
    assert not list((place / "runs" / "mistake").glob("*/manifest.json"))


TRAINING_CASES = {
    "TP that does not divide the heads": (["parallel.tp=4"], "parallel.tp=4 does not divide the model's 6 att"),
    "more stages than layers": (["parallel.tp=1", "parallel.sequence=false", "parallel.pp=3"],
                                "parallel.pp=3: more stages than the model's 2 layers"),
    "sequence parallelism without TP": (["parallel.tp=1"], "parallel.sequence=true needs parallel.tp"),
    "micro batch that does not divide the batch": (["train.micro_batch=3"], "not a multiple of train.micro_batch=3"),
    "an unknown schedule": (["train.schedule=cosin"], "train.schedule='cosin' is not one of"),
    "an unknown strategy": (["resize.input=subword_men"], "Did you mean 'subword_mean'?"),
    "a strategy without its dictionary": (["resize.input=wechsel"], "needs a bilingual dictionary: give auxiliary.dic"),
    "missing vectors": (["resize.input=focus", "auxiliary.vectors=v.npz"], "auxiliary.vectors: v.npz does"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "says"), TRAINING_CASES.values(), ids=list(TRAINING_CASES))
def test_invalid_training_settings_are_reported_before_any_stage_starts(place, short, words, says):
    answer = nemo_adapt("run", *short, "run.name=late", *words, cwd=place)
    assert_one_line(answer, says)
    assert not (place / "runs" / "late").exists()


DATA_PARALLEL = ["parallel.tp=1", "parallel.sequence=false", "parallel.dp=2", "train.micro_batch=4"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("decoder.layers.mlp.linear_fc2.weight", []),
        ("decoder.layers.mlp.linear_fc2.weight", DATA_PARALLEL),
        ("embedding.word_embeddings.weight", DATA_PARALLEL),
    ],
    ids=["weight read by both ranks", "weight read by one rank", "rows read by each rank"],
)
def test_damage_found_by_ranks_is_reported_once(world, short, prepared, key, words):
    """Only ranks read the weights, in some layouts one of them for both: for damaged bytes one error line is printed,
    and nothing looks finished. A truncated file is reported before the ranks start."""
    shutil.rmtree(world / "runs" / "ranks", ignore_errors=True)
    short = [*short, *words]
    training = Training.prepared(world, "ranks", [], prepared)
    folder = training.folder.parent / "convert"
    extent = Checkpoint(folder)._tensors[key].chunks[0].extent
    with (folder / extent.file).open("r+b") as file:
        file.seek(extent.begin)
        file.write(b"not a tensor")
    answer = nemo_adapt("train", *short, "run.name=ranks", cwd=world)
    assert_one_line(answer, f"damaged at byte {extent.begin}; the checkpoint cannot be read: delete runs/ranks/convert")
    assert not (training.folder / "manifest.json").exists()
    os.truncate(folder / extent.file, extent.begin)
    answer = nemo_adapt("train", *short, "run.name=ranks", cwd=world)
    assert_one_line(answer, f"runs/ranks/convert is damaged ({extent.file} has {extent.begin} of ")
    assert "[train]" not in answer.out


def test_run_folder_of_another_recipe_is_rejected(place, short):
    assert nemo_adapt("tokenizer", *short, "run.name=taken", cwd=place).code == 0
    answer = nemo_adapt("tokenizer", "recipe=demo_base", "run.name=taken", cwd=place)
    assert_one_line(answer, "was made with recipe 'demo', not 'demo_base'")


def test_help_and_version(place):
    for words in (["--help"], ["help"]):
        answer = nemo_adapt(*words, cwd=place)
        assert answer.code == 0 and "usage: nemo-adapt" in answer.out
    assert nemo_adapt("help", "train", cwd=place).out == nemo_adapt("train", "--help", cwd=place).out
    assert nemo_adapt("help", "trian", cwd=place).code == nemo_adapt(cwd=place).code == 2
    assert nemo_adapt("--version", cwd=place).out.strip()
    assert "demo" in nemo_adapt("recipes", cwd=place).out
