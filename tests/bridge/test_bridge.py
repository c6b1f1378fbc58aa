"""Our checkpoints and recipes in Megatron-Bridge, and its checkpoints here: the same bits and losses."""

import json

import pytest
import torch
from bridge.conftest import RUN, ours
from helpers import zoo
from helpers.bytes_tokenizer import save_tokenizer
from helpers.tiny import converted
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nemo_adapt.bridge import export_command

WORDS = ("model=runs/smallworld/base", "tokenizer=runs/r/tokenizer")
VOCAB, BASE = 501, 400


def tensors_of(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def assert_same(first, second):
    assert first.keys() == second.keys() and len(first) > 10
    unlike = [name for name in first if not torch.equal(first[name], second[name])]
    assert not unlike


@pytest.fixture(scope="module")
def for_bridge(place):
    ours(place, "export-bridge", "checkpoint=runs/r/train/checkpoints", *WORDS, "out=for_bridge")
    return place / "for_bridge"


def test_bridge_export_of_our_checkpoint_equals_ours(place, bridge, for_bridge):
    bridge("export", for_bridge, place / "runs/r/export", place / "by_bridge")
    theirs, mine = tensors_of(place / "by_bridge"), tensors_of(place / "runs/r/export")
    assert_same(theirs, mine)
    base = tensors_of(place / "runs/smallworld/base")
    for table in ("model.embed_tokens.weight", "lm_head.weight"):
        assert theirs[table].shape[0] == VOCAB and base[table].shape[0] == BASE
        assert theirs[table][BASE:].count_nonzero() and not torch.equal(theirs[table][:BASE], base[table])


def test_bridge_pads_exported_tables_at_tp2(place, bridge, for_bridge):
    bridge("export", for_bridge, place / "runs/r/export", place / "at_tp2", 2)
    theirs, mine = tensors_of(place / "at_tp2"), tensors_of(place / "runs/r/export")
    for table in ("model.embed_tokens.weight", "lm_head.weight"):
        padded = theirs.pop(table)
        assert padded.shape[0] == VOCAB + 1 and not padded[VOCAB:].count_nonzero()
        assert torch.equal(padded[:VOCAB], mine.pop(table))
    assert_same(theirs, mine)


def test_bridge_training_with_our_recipe_has_our_losses(place, trained_by_bridge):
    lines = (place / "runs/r/train/metrics.jsonl").read_text().splitlines()
    mine, theirs = [json.loads(line)["loss"] for line in lines], json.loads(trained_by_bridge.read_text())
    assert len(mine) == 4 and theirs == pytest.approx(mine, abs=1e-4)
    assert abs(mine[0] - mine[-1]) > 0.1  # it has learned


def test_our_export_of_a_bridge_checkpoint_equals_that_of_bridge(place, bridge, trained_by_bridge):
    checkpoints = place / "runs/r/nemo/checkpoints"
    bridge("export", checkpoints, place / "runs/r/export", place / "theirs_by_bridge")
    ours(place, "export-hf", f"checkpoint={checkpoints}", *WORDS, "out=theirs_by_us")
    assert_same(tensors_of(place / "theirs_by_us"), tensors_of(place / "theirs_by_bridge"))


def test_training_starts_from_a_bridge_checkpoint(place, trained_by_bridge):
    words = [*RUN, "run.name=on", "model.path=runs/r/export", "tokenizer.new_tokens=0", "train.phases=[{steps: 2}]"]
    given = "model.checkpoint=runs/r/nemo/checkpoints"
    for command in ("tokenizer", "data", "convert", "train"):
        ours(place, command, *words, given)
    mine = json.loads((place / "runs/on/train/metrics.jsonl").read_text().splitlines()[0])["loss"]
    last = json.loads(trained_by_bridge.read_text())[-1]
    assert mine < last + 0.2  # it continues from there; an untrained table would start near log(501)


FAMILIES = ("llama with one key-value head", "llama, rope stretched", "mistral", "qwen2", "qwen3")


@pytest.fixture(scope="module")
def families(tmp_path_factory, bridge):
    """Return name -> logits of ids 3, 4, … 18 by transformers, and by Bridge with our checkpoint."""
    place, expected, checkpoints = tmp_path_factory.mktemp("families"), [], []
    save_tokenizer(place / "tokenizer")
    for number, name in enumerate(FAMILIES):
        model = zoo.make(place / str(number), name)
        if name == "mistral":  # megatron-core's own attention has no windows
            config = json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps({**config, "sliding_window": None}))
        checkpoint = converted(model, place / f"{number}_converted")
        words = (f"checkpoint={checkpoint}", f"model={model}", f"tokenizer={place / 'tokenizer'}")
        export_command.main([*words, f"out={place / f'{number}_out'}"])
        checkpoints.append(place / f"{number}_out" / "iter_0000000")
        with torch.no_grad():
            ids = torch.arange(3, 19)[None]
            expected.append(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)(ids).logits)
    bridge("logits", place / "logits.pt", *checkpoints)
    found = torch.load(place / "logits.pt", weights_only=True)
    return dict(zip(FAMILIES, zip(expected, found, strict=True), strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_bridge_logits_equal_those_of_transformers(families, name):
    expected, found = families[name]
    assert found.shape == expected.shape and expected.std() > 0.01
    assert (found - expected).abs().max() < 1e-5
