"""Training: its phases, optimizer, checkpoints and metrics."""

from dataclasses import dataclass, field


@dataclass
class PhaseConfig:
    train: str = "all"
    """What is trained: ``new_rows`` of both tables, ``embeddings`` (both tables), ``output`` (the output layer of an
    untied model), ``layers:0-3`` (counted from 0), several joined by ``+``, or ``all``. Other weights do not change."""
    steps: int = 0
    """Optimizer steps; or give ``tokens`` or ``bytes``."""
    lr: float = 1e-4
    """Peak learning rate."""
    tokens: int = 0
    """Tokens to train on, rounded up to whole steps."""
    bytes: int = 0
    """Bytes of text to train on, rounded up to whole steps: a fair budget for comparing tokenizers."""
    lr_factors: dict[str, float] = field(default_factory=dict)
    """Factors of the learning rate for ``embeddings``, ``output`` and ``layers:0-3``, as ``{embeddings: 0.2}``. A later
    one holds where two name the same part."""


@dataclass
class TrainConfig:
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig(steps=1000)])
    """The phases in order: data continues from one to the next; optimizer state and learning-rate schedule do not."""
    seed: int = 1234
    """Seed of the data order."""
    seq_length: int = 1024
    """Tokens per sample."""
    reset_positions: bool = False
    """Count positions from the beginning of each document in a sample."""
    reset_attention: bool = False
    """A document does not attend to earlier documents in the same sample."""
    mask_document_ends: bool = False
    """No loss where the input is the end of a document: its label is the next document's first token."""
    global_batch: int = 32
    """Samples per optimizer step, over all data-parallel ranks."""
    micro_batch: int = 1
    """Samples per forward pass on one data-parallel rank."""
    schedule: str = "cosine"
    """Learning-rate decay after the warm-up: ``cosine``, ``linear``, ``constant``, or ``wsd``, which stays at the peak
    and decays in the last steps (arXiv 2404.06395)."""
    warmup_share: float = 0.02
    """Share of a phase's steps over which the learning rate rises from 0; 0 begins at the peak (no re-warming)."""
    decay_share: float = 0.2
    """Share of a phase's steps in which ``wsd`` decays."""
    min_lr_share: float = 0.1
    """Learning rate at the end of the decay, as a share of the peak."""
    weight_decay: float = 0.1
    """Weight decay of matrices and tables; vectors (norms, biases) are not decayed."""
    no_weight_decay: list[str] = field(default_factory=list)
    """Patterns of further parameters without weight decay, such as ``*word_embeddings*``: Megatron's names in the whole
    model, where new rows belong to their table, and layers are counted from 0."""
    z_loss: float = 0.0
    """Weight of the squared log of the softmax's denominator, which keeps logits from drifting (arXiv 2204.02311 uses
    1e-4); the reported loss does not include it."""
    adam_beta1: float = 0.9
    """Share of the mean of gradients that Adam keeps at each step."""
    adam_beta2: float = 0.95
    """The same of the mean of their squares."""
    clip_grad: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    max_loss_rise: float = 2.0
    """Stop when the mean loss of ten steps is this many nats above the lowest such mean in its phase; 0: never."""
    precision: str = "fp32"
    """``fp32``, or ``bf16`` with fp32 master weights."""
    distributed_optimizer: bool = True
    """Shard optimizer state over data-parallel ranks."""
    recompute: bool = False
    """Recompute each layer's activations in the backward pass: less memory, one more forward pass."""
    deterministic: bool = False
    """On GPUs, use only kernels whose results do not depend on timing, so that a resumed training has the same bits as
    an uninterrupted one. Slower. Without a GPU this is always so."""
    save_every: int = 500
    """Steps between checkpoints; the end of a phase is always saved."""
    save_minutes: float = 0.0
    """Also save when this many minutes have passed since the last checkpoint; 0: no such saves."""
    async_save: bool = True
    """Continue training while threads of each rank write the checkpoint."""
    keep: int = 2
    """Number of newest checkpoints kept on disk."""
    keep_every: int = 0
    """Also save, and never delete, a checkpoint after every so many steps; 0: none."""
    keep_best: bool = False
    """Also keep the checkpoint with the fewest bits per byte on the target's held-out text (``score_every``)."""
    score_every: int = 0
    """Steps between scores of the held-out texts (``evaluate.texts``) during training, which are also scored before its
    first and after its last step; 0: none."""
    score_bytes: int = 100_000
    """Bytes of each text that are scored each time; 0 takes all."""
    attempts: int = 3
    """Give up after this many consecutive starts that wrote no new checkpoint (probe: finished no run); 0: never."""
    log_every: int = 10
    """Steps between records in metrics.jsonl."""
    max_wait_minutes: float = 30.0
    """After the first step, end the training when a rank waits this long for another, which hangs; 0: half a day."""
    trace: list[int] = field(default_factory=list)
    """First and last step of which torch's profiler records a trace on one rank of each pipeline stage, for Perfetto or
    chrome://tracing: ``[11,12]``. The first steps of a start take longer than others."""
    wandb: str = ""
    """Weights & Biases project that also gets the metrics (needs ``wandb``, which reads its own settings)."""
