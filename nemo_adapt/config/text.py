"""Text, and what is made from it: new tokens, datasets, auxiliary vectors."""

from dataclasses import dataclass, field


@dataclass
class TokenizerConfig:
    base: str = "${model.path}"
    """Folder (or file) of the base tokenizer."""
    given: str = ""
    """Folder (or file) of a tokenizer that extends the base already: it is taken as it is, and nothing is learned."""
    text: list[str] = field(default_factory=list)
    """Files or globs of target-language text to learn new tokens from."""
    sample_documents: int = 0
    """Learn from this many documents of ``text``, sampled at random; 0 takes all. Copies of a document are taken or
    left out together: remove lines that are repeated very often first, as they could fill the sample."""
    sample_seed: int = 1234
    """Seed of that sample."""
    max_words: int = 500_000
    """Learn from this many distinct words of ``text``, the most frequent; ``union`` learns from all."""
    method: str = "continue"
    """How new tokens are chosen: ``continue`` or ``union``."""
    new_tokens: int = 10_000
    """Number of tokens to add; for ``union`` the size V' of the separately trained vocabulary; 0 keeps the base."""
    guard: list[str] = field(default_factory=list)
    """Files or globs of text whose tokens must not change (see ``guard_share``)."""
    guard_share: float = 0.005
    """Largest share of the guard's tokens that may change."""
    keep_marks: str = "auto"
    """Whether vowel signs and other combining marks stay with their letters in a byte-level base: ``true``, ``false``,
    or ``auto``, which measures both on the text and takes the better one."""
    parallel: dict[str, str] = field(default_factory=dict)
    """Language -> file of line-aligned sentences, on which fertility is measured."""
    reference: str = "en"
    """The language of ``parallel`` whose token count under the base is the unit of disparity (1.0)."""
    target_disparity: float = 0.0
    """Add the fewest tokens that reach this disparity on ``parallel``, at most ``new_tokens``; 0: no target."""
    sweep: list[int] = field(default_factory=list)
    """Sizes at which fertility on ``parallel`` is measured, in one learning run: sweep.json and sweep.png."""


@dataclass
class SetConfig:
    text: list[str] = field(default_factory=list)
    """Files or globs of the set's text."""
    share: float = 0.0
    """Share of the training data that comes from this set, above 0."""


@dataclass
class DataConfig:
    folder: str = ""
    """Base folder for paths in recipes, used as ``${data.folder}``."""
    text_field: str = "text"
    """Field of ``.jsonl`` lines, or column of ``.parquet`` files, that holds the text. Several between slashes where
    files differ (``text/content``): the first that a line or file has."""
    target: list[str] = field(default_factory=list)
    """Files or globs of target-language text to train on."""
    replay: list[str] = field(default_factory=list)
    """Files or globs of source-language text mixed in against forgetting."""
    replay_share: float = 0.1
    """Share of the training data that comes from the replay text, if there is any."""
    sets: dict[str, SetConfig] = field(default_factory=dict)
    """Further sets of text by name: ``data.sets.code.text=[...]``, ``data.sets.code.share=0.05``."""
    shares_in: str = "tokens"
    """Unit of shares: ``tokens``, or ``bytes``, which give the same mix of text for every tokenizer."""
    processes: int = 0
    """Processes that tokenize; 0: one per core, or one for a small text. The result does not depend on it."""


@dataclass
class AuxiliaryConfig:
    vectors: str = ""
    """A ``.npz`` or ``.safetensors`` file with one vector for each target id (``focus``, ``omp``), or the folder of
    another model, a donor: its input rows of the tokens that both have. Empty: fastText vectors are trained on
    ``data.target``."""
    dictionary: str = ""
    """The bilingual dictionary of ``wechsel``: a text file, one ``source<TAB>target`` pair of words per line."""
    source_text: list[str] = field(default_factory=list)
    """Files or globs of source-language text for the word vectors of ``wechsel``; empty: ``data.replay``."""
    sample_documents: int = 0
    """Read this many documents of each text, sampled at random with ``seed``; 0 reads all, in one process."""
    dims: int = 100
    """Dimensions of trained vectors."""
    epochs: int = 3
    """Passes over the text in training the vectors."""
    min_count: int = 10
    """Tokens and words that occur less often get no vector of their own."""
    buckets: int = 200_000
    """Rows of the hash table of character n-grams; memory grows with it and with ``dims``."""
    max_words: int = 500_000
    """Number of words of each language, the most frequent, that get their own vector (``wechsel``)."""
    seed: int = 1234
    """Seed of that sample, and for training the vectors."""
