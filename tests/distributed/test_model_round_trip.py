"""Hugging Face -> Megatron -> Hugging Face: the same bits and the same logits in every layout."""

import pytest
import torch
from helpers.folders import Folders, assert_same, exported, folders_of
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map, tiny_config
from ranks import model_bodies
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from nemo_adapt import devices

# 256 is divisible by every TP and padding multiple; 250 is not.
MODELS = [TinyLlama(tied, kv, vocab) for tied in (False, True) for kv, vocab in ((2, 256), (4, 250))]


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_round_trip_is_bit_identical(tmp_path, ranks, tiny, tp):
    folders = folders_of(tmp_path, tiny)
    saved = tmp_path / "saved"
    saved.mkdir()
    ranks(tp).run(model_bodies.save, tiny_config(tp=tp), folders, saved)
    assert_same(load_file(folders.model / "model.safetensors"), exported(folders, saved, tmp_path / "out"))


@pytest.mark.parametrize("layout", [{}, {"tp": 2}, {"pp": 2}], ids=str)
@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_logits_equal_transformers(tmp_path, ranks, tiny, layout):
    folders = folders_of(tmp_path, tiny)
    ids = torch.randint(0, tiny.vocab, (2, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        reference = LlamaForCausalLM.from_pretrained(folders.model, dtype=torch.float32)(ids).logits
    size = layout.get("tp", 1) * layout.get("pp", 1)
    ours = ranks(size).run(model_bodies.logits, tiny_config(**layout), folders, ids)[-1]
    torch.testing.assert_close(ours[..., : tiny.vocab], reference, rtol=0, atol=1e-5)
    assert (ours[..., tiny.vocab :] == float("-inf")).all()


@pytest.mark.skipif(devices.has_transformer_engine(), reason="its layers are Transformer Engine's")
def test_layers_use_our_mlp_attention_and_norm(tmp_path, ranks):
    """Versions of Megatron read layer specs differently, and ignore what they do not know."""
    found = ranks(1).run(model_bodies.parts, tiny_config(), folders_of(tmp_path, TinyLlama()))
    assert found == [{("GatedMLP", "CoreAttention", "Norm")}]


def test_check_detects_swapped_shards(tmp_path, ranks):
    """Negative control: with the two halves of one projection swapped in the checkpoint, the logits differ."""
    tiny = TinyLlama()
    folders = folders_of(tmp_path, tiny)
    ids = torch.arange(20)[None]
    model = LlamaForCausalLM.from_pretrained(folders.model, dtype=torch.float32)
    with torch.no_grad():
        reference = model(ids).logits
        weight = model.model.layers[0].self_attn.o_proj.weight
        weight.copy_(weight.roll(weight.shape[1] // 2, dims=1))
    model.save_pretrained(folders.model)
    broken = Folders(folders.model, converted(folders.model, tmp_path / "broken"), folders.tokenizer)
    ours = ranks(2).run(model_bodies.logits, tiny_config(tp=2), broken, ids)[-1]
    assert (ours[..., : tiny.vocab] - reference).abs().max() > 1e-3


def test_bf16_round_trip_keeps_dtype_and_bits(tmp_path):
    model = make_llama(tmp_path / "model", TinyLlama(), torch.bfloat16)
    make_token_map(tmp_path / "tokenizer", 256, 0)
    folders = Folders(model, converted(model, tmp_path / "convert"), tmp_path / "tokenizer")
    after = exported(folders, folders.checkpoint, tmp_path / "out")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert_same(load_file(model / "model.safetensors"), after)
