"""Safetensors are read and written by rows; errors in a folder are named."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from nemo_adapt.errors import UserError
from nemo_adapt.hf_model.weight_files import INDEX, SINGLE, weight_bytes
from nemo_adapt.hf_model.weights import HfWeights, HfWriter

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).view(4, 3),
    "b": torch.arange(6, dtype=torch.bfloat16).view(2, 3),
    "norm": torch.ones(5, dtype=torch.float16),
}


@pytest.fixture
def folder(tmp_path):
    save_file(TENSORS, tmp_path / SINGLE, metadata={"format": "pt"})
    return tmp_path


def test_a_range_of_rows_is_read(folder):
    weights = HfWeights(folder)
    out = torch.empty(2, 3)
    weights.read("a", 1, 3, out)
    assert torch.equal(out, TENSORS["a"][1:3])
    assert weights.tensors["norm"].shape == (5,) and weights.tensors["b"].dtype == torch.bfloat16


@pytest.mark.parametrize("shard_bytes", [1 << 20, 40])
def test_written_files_can_be_read_by_safetensors(tmp_path, shard_bytes):
    writer = HfWriter(tmp_path, {name: (tuple(t.shape), t.dtype) for name, t in TENSORS.items()}, shard_bytes)
    for name, tensor in TENSORS.items():
        for row in reversed(range(len(tensor))):
            writer.write(name, row, tensor[row : row + 1])
    writer.close()
    files = sorted(tmp_path.glob("*.safetensors"))
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert (tmp_path / INDEX).is_file() == (len(files) > 1) == (shard_bytes == 40)
    if len(files) > 1:
        index = json.loads((tmp_path / INDEX).read_text())
        assert set(index["weight_map"]) == set(TENSORS)
        assert index["metadata"]["total_size"] == sum(t.nbytes for t in TENSORS.values())
    assert HfWeights(tmp_path).tensors.keys() == TENSORS.keys()


def test_a_truncated_file_is_named(folder):
    whole = (folder / SINGLE).read_bytes()
    for keep in (3, 50, len(whole) - 1):
        (folder / SINGLE).write_bytes(whole[:keep])
        with pytest.raises(UserError, match=r"model\.safetensors is cut short"):
            HfWeights(folder)


def test_a_file_of_another_format_is_named(folder):
    (folder / SINGLE).write_bytes(struct.pack("<Q", 20) + b"this is no header {{" + bytes(10))
    with pytest.raises(UserError, match="not a safetensors file"):
        HfWeights(folder)
    (folder / SINGLE).unlink()
    with pytest.raises(UserError, match="save the model with safetensors"):
        HfWeights(folder)


def test_a_missing_shard_is_named(folder):
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / SINGLE).unlink()
    with pytest.raises(UserError, match="model-00001-of-00002"):
        HfWeights(folder)


def test_an_unsupported_dtype_is_named(folder):
    save_file({"q": torch.ones(2, dtype=torch.int8)}, folder / SINGLE)
    with pytest.raises(UserError, match="tensor q is I8"):
        HfWeights(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_named(folder, content):
    (folder / SINGLE).rename(folder / "model-00001-of-00001.safetensors")
    (folder / INDEX).write_text(content)
    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json is damaged.*; download it again") as error:
        HfWeights(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ([], "its header is no list of tensors"),
        ({"a": 3}, "where tensor a is"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "where tensor a is"),
        ({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, "where tensor a is"),
        ({"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, "where tensor a is"),
        ({"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}, "where tensor a is"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, "where tensor a is"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, "where tensor a is"),
        (
            {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
            r"tensor a has 8 bytes, which are not those of",
        ),
    ],
)
def test_a_damaged_header_is_named(folder, header, says):
    text = json.dumps(header).encode()
    (folder / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    with pytest.raises(UserError, match=rf"model\.safetensors is .*{says}.*; download it again"):
        HfWeights(folder)


def test_a_header_nested_beyond_reading_is_named(folder):
    text = b"[" * 100_000
    (folder / SINGLE).write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(UserError, match=r"model\.safetensors is not a safetensors file: its header cannot be read"):
        HfWeights(folder)


def test_a_single_file_comes_before_an_index_as_in_transformers(tmp_path):
    shape = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=16, tie_word_embeddings=True))
    model.save_pretrained(tmp_path)
    older = {name: torch.zeros_like(tensor) for name, tensor in load_file(tmp_path / SINGLE).items()}
    save_file(older, tmp_path / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(older, "model-00001-of-00001.safetensors")}
    (tmp_path / INDEX).write_text(json.dumps(index))
    name = "model.embed_tokens.weight"
    theirs = LlamaForCausalLM.from_pretrained(tmp_path).state_dict()[name]
    ours = torch.empty(16, 8)
    HfWeights(tmp_path).read(name, 0, 16, ours)
    assert torch.equal(ours, theirs) and torch.equal(ours, model.state_dict()[name])


def test_the_size_of_the_weights_is_that_of_the_files_that_are_loaded(tmp_path):
    """Mistral's folders have the same weights in consolidated.safetensors, too."""
    for name, size in (("one.safetensors", 5), ("two.safetensors", 7), ("consolidated.safetensors", 12)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    assert weight_bytes(tmp_path) == 12
    (tmp_path / SINGLE).write_bytes(bytes(3))
    assert weight_bytes(tmp_path) == 3
