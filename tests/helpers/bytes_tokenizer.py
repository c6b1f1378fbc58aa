"""A byte-level tokenizer of 257 tokens, and the same one with longer words behind them."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END = "<|end|>"


def bytes_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """All bytes, the end of a document, then ``words`` (ASCII) as tokens, each with the beginnings that it needs."""
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
    """The same, saved in ``folder``."""
    tokenizer = bytes_tokenizer(words)
    tokenizer.save_pretrained(folder)
    return tokenizer
