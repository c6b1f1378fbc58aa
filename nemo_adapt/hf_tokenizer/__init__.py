"""Any base tokenizer as a fast Hugging Face tokenizer, always from local files.

``load`` reads them all; the other modules turn the files that are no ``tokenizer.json`` into one.
"""

from nemo_adapt.hf_tokenizer.bpe import merges, splits
from nemo_adapt.hf_tokenizer.files import FAIRSEQ, TokenizerFiles, find, one_line, read_json
from nemo_adapt.hf_tokenizer.load import SPECIAL_NAMES, adds_bos, load, wrapper_settings
from nemo_adapt.hf_tokenizer.sentencepiece_proto import (
    BPE,
    CONTROL,
    NORMAL,
    SPACE,
    UNIGRAM,
    USER_DEFINED,
    read_sentencepiece,
)

__all__ = [
    "BPE",
    "CONTROL",
    "FAIRSEQ",
    "NORMAL",
    "SPACE",
    "SPECIAL_NAMES",
    "UNIGRAM",
    "USER_DEFINED",
    "TokenizerFiles",
    "adds_bos",
    "find",
    "load",
    "merges",
    "one_line",
    "read_json",
    "read_sentencepiece",
    "splits",
    "wrapper_settings",
]
