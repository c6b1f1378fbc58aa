"""A byte-level tokenizer of 257 tokens, optionally extended by words."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END = "<|end|>"


def bytes_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Return a tokenizer with all bytes, the end token, and ``words`` (ASCII) with the prefixes that merges need."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), END]
    merges = []
    for word in words:
        for length in range(2, len(word) + 1):
            if word[:length] not in tokens:
                tokens.append(word[:length])
                merges.append((word[: length - 1], word[length - 1]))
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END)


def save_tokenizer(folder: Path, words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Make the same tokenizer and save it in ``folder``."""
    tokenizer = bytes_tokenizer(words)
    tokenizer.save_pretrained(folder)
    return tokenizer
