"""The two base models of the small study: Llamas of 2.1M parameters, pretrained on English by this project's engine.

One has a byte-level BPE vocabulary (like GPT-2), the other a SentencePiece one with byte fallback (like Llama-2);
otherwise they are the same. They are made once in a folder and reused from there.
"""

from pathlib import Path

import sentencepiece
import torch
import yaml
from command import command
from transformers import LlamaConfig, LlamaForCausalLM

from nemo_adapt.smallworld.base import learn_tokenizer

VOCAB = 4_000
HIDDEN, LAYERS, HEADS, GROUPS, MLP = 128, 6, 4, 2, 352
CONTEXT = 512
PRETRAINING = {"bytes": 10_000_000, "lr": 3e-3}
"""Four passes over the English text."""
SEED = 7
KINDS = ("byte-level", "pieces")


def write_tokenizer(kind: str, text: Path, folder: Path) -> None:
    """Write a tokenizer of ``VOCAB`` tokens learned from ``text``."""
    folder.mkdir(parents=True)
    if kind == "byte-level":
        with text.open(encoding="utf-8") as lines:
            learn_tokenizer(lines, VOCAB).save_pretrained(folder)
        return
    with (folder / "tokenizer.model").open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_writer=out, model_type="bpe", vocab_size=VOCAB, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, num_threads=2,
            minloglevel=2,
        )  # fmt: skip


def write_untrained(kind: str, text: Path, folder: Path) -> None:
    """Write tokenizer and random weights as a Hugging Face folder."""
    write_tokenizer(kind, text, folder)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=0 if kind == "byte-level" else 1,
        eos_token_id=0 if kind == "byte-level" else 2,
        dtype=torch.float32,
    )
    torch.manual_seed(SEED)
    LlamaForCausalLM(config).save_pretrained(folder)


def pretrained(kind: str, text: Path, held_out: Path, place: Path) -> Path:
    """Return the folder of a pretrained base under ``place``; make it if it does not exist."""
    run = place / kind
    untrained = place / f"{kind}-untrained"
    if not (untrained / "model.safetensors").is_file():
        write_untrained(kind, text, untrained)
    recipe = place / f"{kind}.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "defaults": ["schema", "_self_"],
                "run": {"name": kind, "dir": str(place)},
                "model": {"path": str(untrained)},
                "data": {"target": [str(text)]},
                "tokenizer": {"new_tokens": 0, "parallel": {"en": str(held_out)}},
                "train": {
                    "seq_length": 256,
                    "global_batch": 16,
                    "micro_batch": 16,
                    "save_every": 500,
                    "phases": [{"train": "all", **PRETRAINING}],
                },
                "evaluate": {"target": "en", "generate": 4, "max_bytes": 100_000, "texts": {"en": str(held_out)}},
            }
        ),
        encoding="utf-8",
    )
    command("run", f"recipe={recipe}")
    return run / "export"
