"""The schema of a run: one dataclass per section. Recipes (YAML) only choose values.

A key that is not a field here is an error. ``MISSING`` fields have no default: a recipe or the command line sets them.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class RunConfig:
    name: str = MISSING
    """Name of the run; its folder is ``dir/name``."""
    dir: str = "runs"
    """Folder that holds the runs."""


@dataclass
class ModelConfig:
    path: str = MISSING
    """Hugging Face model folder: config.json, safetensors, tokenizer."""


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
    """Share of training tokens drawn from it, above 0."""


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
    """Share of training tokens drawn from the replay text, where there is any."""
    sets: dict[str, SetConfig] = field(default_factory=dict)
    """Further sets of text by name: ``data.sets.code.text=[...]``, ``data.sets.code.share=0.05``."""
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


@dataclass
class ConvertConfig:
    chunk_mib: int = 64
    """Largest piece of a tensor held at once by a process, MiB."""
    processes: int = 0
    """Processes that share the work; 0: one per core. No more than there are files of a GiB."""


@dataclass
class ResizeConfig:
    input: str = "subword_mean"
    """Strategy for new rows of the embedding table (and of the output layer where they are tied); ``probed`` takes what
    the probe chose, for both tables."""
    output: str = "subword_mean"
    """Strategy for new rows of an untied output layer."""
    seed: int = 1234
    """Seed of the strategies that draw random numbers."""
    padded_vocab_multiple: int = 128
    """The tables are padded to a multiple of this times TP."""
    omp_pieces: int = 16
    """Most base rows that ``omp`` combines into a new one. The published tool takes 64 from tables with thousands of
    columns; of fastText's 100 dimensions so many fit noise, with large weights of both signs."""
    wechsel_neighbours: int = 10
    """Nearest base rows that ``wechsel`` combines into a new one."""
    wechsel_temperature: float = 0.1
    """Temperature of the softmax over their similarities; smaller prefers the nearest."""
    learned_share: float = 0.1
    """Share of the training steps in which ``learned`` and ``warm_start`` train the tables alone (``phases``)."""
    learned_lr: float = 1e-3
    """Peak learning rate of those steps."""


PROBED_BY_DEFAULT = ("random_init", "mean", "subword_mean", "subword_weighted", "calibrated", "warm_start")


@dataclass
class ProbeConfig:
    strategies: list[str] = field(default_factory=lambda: list(PROBED_BY_DEFAULT))
    """Strategies to try; ``A+B`` takes A for the input table and B for the output layer."""
    seeds: int = 3
    """Runs of each strategy, each with its own order of the data and its own random rows."""
    steps: int = 50
    """Steps of a run: the recipe's phases, shortened in proportion."""
    at: list[int] = field(default_factory=lambda: [0, 10, 25])
    """Steps after which a run is scored; the last step always is."""
    max_bytes: int = 100_000
    """Bytes of the target language's held-out text (``evaluate.texts``) that runs are scored on; 0 takes all."""


@dataclass
class ParallelConfig:
    tp: int = 1
    """Tensor-parallel ranks."""
    pp: int = 1
    """Pipeline-parallel stages."""
    virtual: int = 1
    """Parts of the model that each pipeline rank holds, interleaved with the others' (less idle time, needs pp > 1)."""
    cp: int = 1
    """Context-parallel ranks, which share each sequence (needs Transformer Engine)."""
    dp: int = 1
    """Data-parallel copies, when the ranks are started here; under a launcher it follows from the world size."""
    sequence: bool = False
    """Sequence parallelism (needs tp > 1)."""

    @property
    def ranks(self) -> int:
        """Processes of the layout."""
        return self.tp * self.pp * self.cp * self.dp


@dataclass
class PhaseConfig:
    train: str = "all"
    """What is trained: ``new_rows`` of both tables, ``embeddings`` (both tables), ``output`` (the output layer of an
    untied model), ``layers:0-3`` (counted from 0), several joined by ``+``, or ``all``. The rest does not move."""
    steps: int = 0
    """Optimizer steps; or give ``tokens`` or ``bytes``."""
    lr: float = 1e-4
    """Peak learning rate."""
    tokens: int = 0
    """Tokens to train on, rounded up to whole steps."""
    bytes: int = 0
    """Bytes of text to train on, rounded up to whole steps: the fair budget where tokenizers differ."""


@dataclass
class TrainConfig:
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig(steps=1000)])
    """The phases, one after the other: data goes on, optimizer and learning-rate schedule begin anew."""
    seed: int = 1234
    """Seed of data order and dropout."""
    seq_length: int = 1024
    """Tokens per sample."""
    reset_positions: bool = False
    """Positions start anew in each document of a sample."""
    reset_attention: bool = False
    """A document does not see those before it in the same sample."""
    mask_document_ends: bool = False
    """No loss where the input is the end of a document, whose label is the next document's first token."""
    global_batch: int = 32
    """Samples per optimizer step, over all data-parallel ranks."""
    micro_batch: int = 1
    """Samples per forward pass on one data-parallel rank."""
    schedule: str = "cosine"
    """Learning-rate decay after the warm-up: ``cosine``, ``linear``, ``constant``, or ``wsd``, which stays at the peak
    and falls in the last steps (arXiv 2404.06395)."""
    warmup_share: float = 0.02
    """Share of a phase's steps over which the learning rate rises from 0; 0 begins at the peak (no re-warming)."""
    decay_share: float = 0.2
    """Share of a phase's steps in which ``wsd`` falls."""
    min_lr_share: float = 0.1
    """Learning rate at the end of the decay, as a share of the peak."""
    weight_decay: float = 0.1
    """Of matrices and tables; vectors (norms, biases) are not decayed."""
    no_weight_decay: list[str] = field(default_factory=list)
    """Patterns of Megatron names of further parameters without weight decay, as ``*word_embeddings*``."""
    z_loss: float = 0.0
    """Weight of the squared log of the softmax's denominator, which keeps logits from drifting (arXiv 2204.02311 takes
    1e-4); it is no part of the loss that is reported."""
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    clip_grad: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    precision: str = "fp32"
    """``fp32``, or ``bf16`` with fp32 master weights."""
    distributed_optimizer: bool = True
    """Shard optimizer state over data-parallel ranks."""
    recompute: bool = False
    """Forget each layer's activations and compute them again in the backward pass: less memory, one more forward
    pass."""
    save_every: int = 500
    """Steps between checkpoints; the end of a phase is always saved."""
    save_minutes: float = 0.0
    """Also save when so many minutes have passed since the last checkpoint; 0: do not."""
    async_save: bool = True
    """Go on training while a checkpoint is written by another process."""
    keep: int = 2
    """Newest checkpoints kept on disk."""
    keep_best: bool = False
    """Also keep the checkpoint with the fewest bits per byte on the target's held-out text (``score_every``)."""
    score_every: int = 0
    """Steps between scores of the held-out texts (``evaluate.texts``) during training; 0: none."""
    score_bytes: int = 100_000
    """Bytes of each text that are scored then; 0 takes all."""
    attempts: int = 3
    """Starts in a row without a new checkpoint, after which training is not started again; 0: no limit."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    wandb: str = ""
    """Project of Weights & Biases that gets the metrics as well (needs ``wandb``, which reads its own settings)."""


@dataclass
class ExportConfig:
    checkpoint: str = "last"
    """Which checkpoint of the training: ``last`` or ``best`` (``train.keep_best``)."""
    dir: str = ""
    """Where the Hugging Face folder is written; empty means ``export/`` of the run."""
    shard_mib: int = 4096
    """Largest safetensors file, MiB."""
    processes: int = 0
    """Processes that share the work; 0: one per core, or one for a small model."""
    pad_vocab_to: int = 1
    """Zero rows are put behind the tables up to a multiple of this (some inference engines ask for 64); the generation
    config forbids them."""


@dataclass
class EvaluateConfig:
    texts: dict[str, str] = field(default_factory=dict)
    """Language -> file of held-out text for bits per byte."""
    target: str = ""
    """The language of ``texts`` that the run adapts to (named first in the report)."""
    max_bytes: int = 0
    """Score at most this many bytes of each text; 0 scores all."""
    context: int = 0
    """Window length in tokens; 0 means the training sequence length."""
    batch: int = 16
    """Windows per forward pass."""


@dataclass
class Config:
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    recipe: str = ""
    """Name of the recipe this config was composed from (set by the command line)."""
