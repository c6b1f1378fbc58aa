"""Mistakes get one clear line and exit code 2, and leave nothing that looks finished."""

import json
import os
import shutil

import pytest
from helpers.command import nemo_adapt
from helpers.trainings import Training

from nemo_adapt.checkpoint.reader import Checkpoint


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    """A copy of the small world to break things in."""
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
    scaled = {**config, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0}}
    (copy / "other_rope" / "config.json").write_text(json.dumps(scaled))
    (copy / "empty.txt").write_text("")
    (copy / "latin1.txt").write_bytes("güzel bir gün\n".encode("iso-8859-9"))
    return copy


CASES = {
    "missing model folder": ("run", ["model.path=nowhere"], "nowhere does not exist"),
    "no config.json": ("convert", ["model.path=no_config"], "no_config has no config.json"),
    "unsupported architecture": ("convert", ["model.path=unsupported"], "Mamba2ForCausalLM is not supported; supp"),
    "truncated safetensors": ("convert", ["model.path=cut_short"], "cut short"),
    "rope that the family does not cover": ("convert", ["model.path=other_rope"], "'yarn' is not covered"),
    "empty text": ("tokenizer", ["tokenizer.text=[empty.txt]"], "empty.txt: the file is empty"),
    "text that is not UTF-8": ("tokenizer", ["tokenizer.text=[latin1.txt]"], "latin1.txt: line 1 is not UTF-8"),
    "no such text": ("run", ["data.target=[nothing*.txt]"], "data.target: no file matches 'nothing*.txt'"),
    "misspelt key": ("run", ["tokenizer.new_token=5"], "Did you mean 'tokenizer.new_tokens'?"),
    "misspelt recipe": ("run", ["recipe=dmo"], "Did you mean 'demo'"),
    "misspelt command": ("trian", [], "Did you mean 'train'?"),
    "word without a value": ("run", ["tokenizer"], "not of the form key=value"),
    "unknown method": ("tokenizer", ["tokenizer.method=contnue"], "Did you mean 'continue'?"),
}  # fmt: skip


def assert_one_line(answer, says):
    assert answer.code == 2
    assert says in answer.err, answer.err
    assert answer.err.startswith("nemo-adapt: error: ") and len(answer.err.strip().splitlines()) == 1
    assert "Traceback" not in answer.out + answer.err


@pytest.mark.parametrize(("command", "words", "says"), CASES.values(), ids=list(CASES))
def test_mistakes_before_training(place, short, command, words, says):
    name = "run.name=mistake"
    answer = nemo_adapt(command, *short, name, *words, cwd=place)
    assert_one_line(answer, says)
    assert not list((place / "runs" / "mistake").glob("*/manifest.json"))


LATE_CASES = {
    "TP that does not divide the heads": (["parallel.tp=4"], "parallel.tp=4 does not divide the model's 6 att"),
    "PP that does not divide the layers": (["parallel.tp=1", "parallel.sequence=false", "parallel.pp=3"],
                                           "parallel.pp=3 does not divide the model's 2 layers"),
    "sequence parallelism without TP": (["parallel.tp=1"], "parallel.sequence=true needs parallel.tp"),
    "a batch that cannot be shared out": (["train.micro_batch=3"], "not a multiple of train.micro_batch=3"),
    "an unknown schedule": (["train.schedule=cosin"], "train.schedule='cosin' is not one of"),
    "an unknown strategy": (["resize.input=subword_men"], "Did you mean 'subword_mean'?"),
    "a strategy without its dictionary": (["resize.input=wechsel"], "needs a bilingual dictionary: give auxiliary.dic"),
    "vectors that are not there": (["resize.input=focus", "auxiliary.vectors=v.npz"], "auxiliary.vectors: v.npz does"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "says"), LATE_CASES.values(), ids=list(LATE_CASES))
def test_what_cannot_be_trained_is_said_before_anything_starts(place, short, words, says):
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
    ids=["weight read by both", "weight read by one", "rows read by each"],
)
def test_what_only_the_ranks_find_is_said_once(world, short, prepared, key, words):
    """Bytes of the checkpoint that are read by ranks alone, also where one of them reads for both: one line comes out,
    nothing looks finished. A file that is cut short is said before they start."""
    shutil.rmtree(world / "runs" / "ranks", ignore_errors=True)
    short = [*short, *words]
    training = Training.prepared(world, "ranks", [], prepared)
    folder = training.folder.parent / "convert"
    chunk = Checkpoint(folder)._tensors[key].chunks[0]
    with (folder / chunk.file).open("r+b") as file:
        file.seek(chunk.begin)
        file.write(b"not a tensor")
    answer = nemo_adapt("train", *short, "run.name=ranks", cwd=world)
    assert_one_line(answer, f"damaged at byte {chunk.begin}; the checkpoint cannot be read: delete runs/ranks/convert")
    assert not (training.folder / "manifest.json").exists()
    os.truncate(folder / chunk.file, chunk.begin)
    answer = nemo_adapt("train", *short, "run.name=ranks", cwd=world)
    assert_one_line(answer, f"runs/ranks/convert is damaged ({chunk.file} has {chunk.begin} of ")
    assert "[train]" not in answer.out


def test_a_run_folder_of_another_recipe(place, short):
    assert nemo_adapt("tokenizer", *short, "run.name=taken", cwd=place).code == 0
    answer = nemo_adapt("tokenizer", "recipe=demo_base", "run.name=taken", cwd=place)
    assert_one_line(answer, "was made with recipe 'demo', not 'demo_base'")


def test_help_and_version(place):
    for words in (["--help"], ["help"]):
        answer = nemo_adapt(*words, cwd=place)
        assert answer.code == 0 and "usage: nemo-adapt" in answer.out
    assert nemo_adapt(cwd=place).code == 2
    assert nemo_adapt("--version", cwd=place).out.strip()
    assert "demo" in nemo_adapt("recipes", cwd=place).out
