"""Tiny tokenizers and models for the tests of this folder, built in the test process."""

import functools
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = {
    "tr": [
        "Bugün hava çok güzel, yarın da güzel olacak.",
        "Kedi ağacın altında uyuyor ve güneş yavaş yavaş batıyor.",
        "Çocuklar bahçede oynarken yağmur yağmaya başladı, herkes eve koştu.",
        "Kitap okumayı seven insanlar her zaman yeni şeyler öğrenir.",
        "Su.",
    ],
    "en": [
        "The weather is fine today and it will be fine tomorrow.",
        "A cat sleeps under the tree while the sun goes down.",
        "People who like to read always learn something new.",
        "When it began to rain, the children ran home.",
        "Water.",
    ],
}
ALL = [sentence for sentences in SENTENCES.values() for sentence in sentences]


def byte_level_tokenizer(size: int = 300) -> PreTrainedTokenizerFast:
    """Byte-level BPE like GPT-2's, without a BOS token."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_byte_level(size)), eos_token="<|end|>")


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece-like BPE as Llama's: a leading ``▁``, byte fallback, BOS before every text."""
    tokenizer = Tokenizer.from_str(_sentencepiece())
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True
    )


def tiny_llama(vocabulary: int, positions: int = 64, seed: int = 0) -> LlamaForCausalLM:
    """Two layers of width 32, with initial weights large enough that predictions depend on the context."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, vocabulary: int = 0, seed: int = 0) -> Path:
    """A Hugging Face folder with a tokenizer and a tiny model of ``vocabulary`` rows (default: one per token)."""
    tiny_llama(vocabulary or len(tokenizer), seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def _byte_level(size: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(ALL, trainer)
    return tokenizer.to_str()


@functools.cache
def _sentencepiece() -> str:
    letters = sorted(set("".join(ALL).replace(" ", "▁")) - {"ğ"})  # this letter needs byte fallback
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "▁b", "ir", "▁bir"]
    merges = [("▁", "b"), ("i", "r"), ("▁b", "ir")]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    special = [AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>")]
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer.to_str()
