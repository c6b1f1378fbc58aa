"""Load any base tokenizer, from local files only, as a fast Hugging Face tokenizer.

``load`` is the entry point; the other modules convert SentencePiece models and tiktoken rank files to a
``tokenizer.json``.
"""

from nemo_adapt.hf_tokenizer.added import DECODER
from nemo_adapt.hf_tokenizer.bpe import merges, splits
from nemo_adapt.hf_tokenizer.files import FAIRSEQ, TokenizerFiles, find
from nemo_adapt.hf_tokenizer.load import SPECIAL_NAMES, adds_bos, load, wrapper_settings
from nemo_adapt.hf_tokenizer.sentencepiece_proto import BPE, CONTROL, NORMAL, UNIGRAM, USER_DEFINED, read_sentencepiece

__all__ = [
    "BPE",
    "CONTROL",
    "DECODER",
    "FAIRSEQ",
    "NORMAL",
    "SPECIAL_NAMES",
    "UNIGRAM",
    "USER_DEFINED",
    "TokenizerFiles",
    "adds_bos",
    "find",
    "load",
    "merges",
    "read_sentencepiece",
    "splits",
    "wrapper_settings",
]
