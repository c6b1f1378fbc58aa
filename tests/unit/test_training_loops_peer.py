"""The plain loop that benchmarks/train.py compares with: how its attention compiles, and that its losses are equal."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))
import training_loops
from training_loops import Contestant, Size

SIZE = Size("tiny", 1, 64, 4, 2, 128, 500, True, seq=32, global_batch=4, micro_batch=2)
STEPS = 2


def losses(place, monkeypatch, on_gpu):
    """Losses of the peer's steps on a CPU, by its code for a GPU or for a CPU."""
    where = SimpleNamespace(on_gpu=lambda: on_gpu, best_device=lambda: torch.device("cpu"))
    monkeypatch.setattr(training_loops, "devices", where)
    return list(training_loops.transformers(SIZE, place, Contestant("transformers", torch.get_num_threads()), STEPS))


def test_compiled_attention_uses_is_causal_and_gqa_without_a_mask(tmp_path, monkeypatch):
    graphs = []

    def record(graph, inputs):
        graphs.append(graph.graph)
        return graph.forward

    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SIZE.vocab, hidden_size=SIZE.hidden, intermediate_size=SIZE.ffn, num_hidden_layers=SIZE.layers,
            num_attention_heads=SIZE.heads, num_key_value_heads=SIZE.kv_heads, tie_word_embeddings=SIZE.tied,
            use_cache=False,
        )
    ).save_pretrained(tmp_path / "model")  # fmt: skip
    plain = losses(tmp_path, monkeypatch, on_gpu=False)
    # Not `torch.compile`: without a GPU nemo_adapt may have replaced it by a function that compiles nothing.
    monkeypatch.setattr(torch, "compile", torch._dynamo.optimize(record))
    compiled = losses(tmp_path, monkeypatch, on_gpu=True)

    (graph,) = graphs
    calls = [node.kwargs for node in graph.nodes if node.target is scaled_dot_product_attention]
    assert len(calls) == SIZE.layers
    for call in calls:
        assert (call["attn_mask"], call["is_causal"], call["enable_gqa"]) == (None, True, True)
    assert compiled == pytest.approx(plain, abs=1e-5)
    assert plain[1] < plain[0]
