"""The base models of arXiv 2406.14670, and Pythia, scaled down, with tokenizers of the same kinds."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import sentencepiece
import torch
from helpers import zoo
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from nemo_adapt import hf_tokenizer

FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>"]
"""XGLM's first ids; its SentencePiece model has three of these tokens, in another order."""
END = "<|endoftext|>"
MADE_UP = [f"<madeupword{number}>" for number in range(7)]
BLOOM_WORDS = r" ?[^(\s|[.,!?…。，、।۔،])]+"
"""BLOOM's pre-tokenizer."""


def byte_level(lines: Sequence[str], tokens: int, first: Sequence[str], split: str = "") -> Tokenizer:
    """Train byte-level BPE with the special tokens ``first`` at id 0, pre-tokenized by ``split`` or as in GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)
    words = [pre_tokenizers.Split(Regex(split), "isolated")] if split else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, by_bytes]) if words else by_bytes
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, special_tokens=list(first), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def pieces(folder: Path, lines: Sequence[str], tokens: int, **options: object) -> dict[str, object]:
    """Train a SentencePiece model and return it as the content of a ``tokenizer.json``."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, vocab_size=tokens, num_threads=1,
        character_coverage=1.0, **options,
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    content = json.loads(hf_tokenizer.load(folder).backend_tokenizer.to_str())
    (folder / "tokenizer.model").unlink()
    return content


def bloom(folder: Path, lines: Sequence[str]) -> tuple[Tokenizer, dict[str, str]]:
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return byte_level(lines, 500, list(names.values()), BLOOM_WORDS), names


def phi(folder: Path, lines: Sequence[str]) -> tuple[Tokenizer, dict[str, str]]:
    """Make a tokenizer like GPT-2's, with runs of spaces and tabs as added tokens after the vocabulary."""
    tokenizer = byte_level(lines, 500, [END])
    runs = [" " * length for length in range(31, 1, -1)] + ["\t" * length for length in range(9, 1, -1)]
    tokenizer.add_tokens([AddedToken(run, normalized=True) for run in runs])
    return tokenizer, {"unk_token": END, "bos_token": END, "eos_token": END}


def gpt_neox(folder: Path, lines: Sequence[str]) -> tuple[Tokenizer, dict[str, str]]:
    """Make a tokenizer like Pythia's: NFC, runs of spaces as added tokens, transformers' own class for it."""
    tokenizer = byte_level(lines, 500, [END, "<|padding|>"])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(" " * length, normalized=True) for length in range(24, 1, -1)])
    names = {"unk_token": END, "bos_token": END, "eos_token": END, "pad_token": "<|padding|>"}
    return tokenizer, {**names, "tokenizer_class": "GPTNeoXTokenizer"}


def xglm(folder: Path, lines: Sequence[str]) -> tuple[Tokenizer, dict[str, str]]:
    """Make a Unigram tokenizer whose own pieces begin at id 4 and are followed by made-up words."""
    content = pieces(folder, lines, 200, model_type="unigram")
    own = content["model"]["vocab"][3:]
    content["model"] |= {"vocab": [[name, 0.0] for name in FAIRSEQ] + own + [[name, 0.0] for name in MADE_UP]}
    content["model"]["unk_id"] = FAIRSEQ.index("<unk>")
    blank = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    numbered = [*enumerate(FAIRSEQ), *enumerate(MADE_UP, start=len(FAIRSEQ) + len(own))]
    content["added_tokens"] = [{"id": number, "content": name, **blank} for number, name in numbered]
    content["post_processor"] = None
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.post_processor = processors.TemplateProcessing("</s> $A", special_tokens=[("</s>", 2)])
    return tokenizer, names


def gemma(folder: Path, lines: Sequence[str]) -> tuple[Tokenizer, dict[str, str]]:
    """Make a SentencePiece-like BPE as a tokenizer.json only, with byte fallback and runs of spaces as tokens."""
    content = pieces(
        folder, lines, 600, model_type="bpe", byte_fallback=True, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2,
        unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", remove_extra_whitespaces=False,
        normalization_rule_name="identity", user_defined_symbols=["<mask>", "<unused0>", "▁▁"],
    )  # fmt: skip
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return Tokenizer.from_str(json.dumps(content)), names


BASES: dict[str, tuple[Callable[[Path, Sequence[str]], tuple[Tokenizer, dict[str, str]]], int]] = {
    "bloom": (bloom, 200),
    "xglm": (xglm, 0),
    "phi": (phi, 90),
    "gpt_neox": (gpt_neox, 27),
    "gemma": (gemma, 0),
    "gemma 7B's heads": (gemma, 0),
}
"""Name in the zoo -> its tokenizer, and rows of the model beyond it (real BLOOM has 200, Phi-2 905, Pythia 27,
others none)."""


def make(folder: Path, name: str, lines: Sequence[str]) -> PreTrainedTokenizerFast:
    """Write a Hugging Face folder with a random model and a tokenizer trained on ``lines``; return the tokenizer."""
    kind, spare = BASES[name]
    backend, names = kind(folder, lines)
    own_class = names.pop("tokenizer_class", "")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    tokenizer.save_pretrained(folder)
    if own_class:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": own_class}))
    config = zoo.ZOO[name]()
    config.vocab_size = len(tokenizer) + spare
    for role in ("bos", "eos", "pad"):
        setattr(config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return tokenizer
