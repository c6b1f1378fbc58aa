"""Text, and what is made of it: new tokens, datasets, auxiliary vectors."""

from dataclasses import dataclass, field


@dataclass
class TokenizerConfig:
    base: str = "${model.path}"
    """Folder (or file) of the base tokenizer."""
    text: list[str] = field(default_factory=list)
    """Files or globs of target-language text to learn new tokens from."""
    sample_documents: int = 0
    """Learn from this many documents of ``text``, drawn at random; 0 takes all."""
    sample_seed: int = 1234
    """Seed of that draw."""
    max_words: int = 500_000
    """Distinct words of ``text`` that are learned from, the most frequent."""
    method: str = "continue"
    """How new tokens are chosen: ``continue`` or ``union``."""
    new_tokens: int = 10_000
    """How many tokens to add; for ``union`` the size V' of the separately trained vocabulary; 0 keeps the base."""
    guard: list[str] = field(default_factory=list)
    """Files or globs of text whose segmentation must not change."""
    guard_share: float = 0.005
    """Largest share of guard tokens that may be segmented otherwise than by the base."""
    keep_marks: str = "auto"
    """Whether vowel signs and other combining marks stay with their letters in a byte-level base: ``true``, ``false``,
    or ``auto``, which measures both on the text."""
    parallel: dict[str, str] = field(default_factory=dict)
    """Language -> file of line-aligned sentences, on which fertility is measured."""
    reference: str = "en"
    """The language of ``parallel`` whose base token count is the yardstick (1.0)."""
    target_disparity: float = 0.0
    """Stop at so many times the reference's tokens on ``parallel``, with ``new_tokens`` as the limit; 0: do not."""
    sweep: list[int] = field(default_factory=list)
    """Sizes at which fertility on ``parallel`` is measured, in one learning run: sweep.json and sweep.png."""


@dataclass
class SetConfig:
    text: list[str] = field(default_factory=list)
    """Files or globs of the set's text."""
    share: float = 0.0
    """Share of the training that is drawn from it, above 0."""


@dataclass
class DataConfig:
    folder: str = ""
    """A folder that recipes build their paths on, as ``${data.folder}``."""
    text_field: str = "text"
    """Where the text is in every corpus: the field of ``.jsonl`` lines, the column of ``.parquet`` files."""
    target: list[str] = field(default_factory=list)
    """Files or globs of target-language text to train on."""
    replay: list[str] = field(default_factory=list)
    """Files or globs of source-language text mixed in against forgetting."""
    replay_share: float = 0.1
    """Share of the training that is drawn from the replay text, where there is any."""
    sets: dict[str, SetConfig] = field(default_factory=dict)
    """Further sets of text by name: ``data.sets.code.text=[...]``, ``data.sets.code.share=0.05``."""
    shares_in: str = "tokens"
    """What shares are counted in: ``tokens``, or ``bytes`` of text, which mean the same text for every tokenizer."""
    processes: int = 0
    """Processes that tokenize; 0: one per core, or one for a little text. The result is the same for any number."""


@dataclass
class AuxiliaryConfig:
    vectors: str = ""
    """A ``.npz`` or ``.safetensors`` file with one vector for each target id (``focus``, ``omp``); empty: fastText
    vectors are trained on ``data.target``."""
    dictionary: str = ""
    """The bilingual dictionary of ``wechsel``: a text file, one ``source<TAB>target`` pair of words a line."""
    source_text: list[str] = field(default_factory=list)
    """Files or globs of source-language text for the word vectors of ``wechsel``; empty: ``data.replay``."""
    dims: int = 100
    """Length of trained vectors."""
    epochs: int = 3
    """Passes over the text when vectors are trained."""
    min_count: int = 10
    """Tokens and words that occur less often get no vector of their own."""
    buckets: int = 200_000
    """Rows of the table into which character n-grams are hashed; with ``dims`` it decides the memory."""
    max_words: int = 500_000
    """Most frequent words of each language that get a vector of their own (``wechsel``)."""
    seed: int = 1234
    """Seed of the training of vectors."""
