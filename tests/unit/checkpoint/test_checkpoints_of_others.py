"""Checkpoints as Megatron-LM, NeMo and Megatron-Bridge write them are read as data; no code in them is run."""

import json
import pickle
import re

import pytest
import torch
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map

from nemo_adapt import convert, export_command, verify
from nemo_adapt.checkpoint import writer
from nemo_adapt.checkpoint.box import Box
from nemo_adapt.checkpoint.folders import checkpoint_in
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING
from nemo_adapt.run import reads
from nemo_adapt.run.run_folder import RunFolder

PADDED = 7
"""Padded rows of the tables in such a checkpoint."""
LAYERS = "decoder.layers."


class Evil:
    """Unpickling it runs code: it prints a line."""

    def __reduce__(self):
        return (print, ("this must not be run",))


@pytest.fixture
def model(tmp_path):
    return make_llama(tmp_path / "model", TinyLlama())


@pytest.fixture
def ours(model, tmp_path):
    return converted(model, tmp_path / "convert")


def theirs(ours, place, prefix="", alone=False, padding=1.0):
    """Our checkpoint as others write it: ``prefix`` before its keys, each layer ``alone``, padded rows, an optimizer's
    state, objects, and pickles."""
    opened, chunks = Checkpoint(ours), []

    def add(key, value):
        whole = Box((0,) * value.dim(), tuple(value.shape))
        chunks.append(writer.NewChunk(key, whole.shape, whole, value.dtype, value.clone))

    for key, shape in opened.shapes.items():
        value = opened.rows(key, 0, shape[0])
        if not key.startswith(LAYERS) and len(shape) == 2:
            value = torch.cat([value, torch.full((PADDED, shape[1]), padding)])
        if key.startswith(LAYERS) and alone:
            for layer in range(shape[0]):
                add(f"{prefix}{LAYERS}{layer}.{key.removeprefix(LAYERS)}", value[layer])
        else:
            add(prefix + key, value)
        add(f"optimizer.state.exp_avg.{prefix}{key}", torch.ones_like(value))
    place.mkdir(parents=True)
    for number, some in enumerate(writer.files(chunks)):
        writer.write_file(place, number, some, lambda size: None)
    extra = {f"{prefix}{LAYERS}mlp.linear_fc1._extra_state/shard_0_2": torch.zeros(3)}
    writer.finish(place, writer.files(chunks), {"iteration": 5}, extra)
    (place / "common.pt").write_bytes(pickle.dumps(Evil()))
    return place


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("alone", [False, True], ids=["layers stacked", "layers alone"])
def test_another_tool_s_checkpoint_is_converted_without_running_its_code(model, ours, tmp_path, prefix, alone, capfd):
    source = theirs(ours, tmp_path / "all" / "iter_0000005", prefix, alone)
    out = tmp_path / "out"
    out.mkdir()
    convert.build(Config(), {"model": [model], "weights": [source]}, out)
    found = verify.compare(ours, out)
    assert not found.wrong and found.same == len(Checkpoint(ours).shapes)
    assert "must not be run" not in capfd.readouterr().out


def test_another_tool_s_checkpoint_is_exported_without_padded_rows(model, ours, tmp_path, capsys):
    theirs(ours, tmp_path / "all" / "iter_0000005", "module.", True)
    make_token_map(tmp_path / "tokenizer", 256, 0)
    words = [f"model={model}", f"tokenizer={model}", f"checkpoint={tmp_path / 'all'}"]
    for word in ("export.dir=elsewhere", "export.checkpoint=best"):
        with pytest.raises(UserError, match=r"out=FOLDER take the place of export\.checkpoint and export\.dir"):
            export_command.main([*words, f"out={tmp_path / 'out'}", word])
    export_command.main([*words, f"out={tmp_path / 'out'}"])
    assert not verify.compare(model, tmp_path / "out").wrong
    assert "tables have 263 rows, but the tokenizer needs only 256" in capsys.readouterr().out
    theirs(ours, tmp_path / "zero" / "iter_0000005", padding=0.0)
    words[-1] = f"checkpoint={tmp_path / 'zero'}"
    export_command.main([*words, f"out={tmp_path / 'again'}"])
    assert "not exported" not in capsys.readouterr().out


def test_a_checkpoint_of_another_model_is_refused(model, ours, tmp_path):
    other = make_llama(tmp_path / "other", TinyLlama(layers=1, vocab=300))
    inputs = {"model": [other], "weights": [ours]}
    with pytest.raises(UserError, match=rf"{EMBEDDING} is \(256, 32\), but the model's is \(300, 32\)"):
        convert.build(Config(), inputs, tmp_path)
    deeper = make_llama(tmp_path / "deeper", TinyLlama(layers=3))
    with pytest.raises(UserError, match=r"linear_qkv\.layer_norm_weight is \(2, 32\), but the model's is \(3, 32\)"):
        convert.build(Config(), {"model": [deeper], "weights": [ours]}, tmp_path)
    tied = converted(make_llama(tmp_path / "tied", TinyLlama(tied=True)), tmp_path / "tied_checkpoint")
    with pytest.raises(UserError, match=r"output_layer\.weight is missing; is it a checkpoint of this model"):
        convert.build(Config(), {"model": [model], "weights": [tied]}, tmp_path)


def test_a_folder_stands_for_the_tracked_or_newest_checkpoint(ours, tmp_path):
    for name in ("iter_0000004", "iter_0000010", "release"):
        theirs(ours, tmp_path / "all" / name)
    folder, tracker = tmp_path / "all", tmp_path / "all" / "latest_checkpointed_iteration.txt"
    assert checkpoint_in(folder / "release").name == "release"
    assert checkpoint_in(folder).name == "iter_0000010"
    for said, name in (("4", "iter_0000004"), ("release\n", "release")):
        tracker.write_text(said)
        assert checkpoint_in(folder).name == name == Checkpoint(folder).folder.name
    for said in ("7", "../all/release", ""):
        tracker.write_text(said)
        with pytest.raises(UserError, match=r"names .*of which .* has no complete checkpoint"):
            checkpoint_in(folder)
    with pytest.raises(UserError, match="is not a complete Megatron checkpoint"):
        checkpoint_in(tmp_path)


def test_the_checkpoints_of_a_run_or_of_its_training_are_suggested(tmp_path):
    place = tmp_path / "train" / "checkpoints"
    for folder in (tmp_path, tmp_path / "train"):
        with pytest.raises(UserError, match=r"is not a complete Megatron checkpoint \(no \.metadata in it\)$"):
            checkpoint_in(folder)
    (place / "iter_0000010").mkdir(parents=True)
    (place / "iter_0000010" / ".metadata").touch()
    for folder in (tmp_path, tmp_path / "train"):
        with pytest.raises(UserError, match=f"; give {re.escape(str(place))}, or one of those in it$"):
            checkpoint_in(folder)


def test_model_checkpoint_is_an_input_of_the_conversion(ours, tmp_path):
    config = Config()
    config.model.path, config.model.checkpoint = "base", str(ours)
    assert reads.convert(config, RunFolder(tmp_path))["weights"] == [ours]
    config.model.checkpoint = "nowhere"
    with pytest.raises(UserError, match=r"model\.checkpoint: nowhere does not exist"):
        reads.convert(config, RunFolder(tmp_path))
    assert json.loads((ours / "metadata.json").read_text())["sharded_backend"] == "torch_dist"
