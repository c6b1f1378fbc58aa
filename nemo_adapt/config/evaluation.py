"""What the base and adapted models of a run, or any other models, are compared on."""

from dataclasses import dataclass, field


@dataclass
class EvaluateConfig:
    texts: dict[str, str] = field(default_factory=dict)
    """Language -> file of held-out text for bits per byte."""
    target: str = ""
    """The language of ``texts`` that the run adapts to; the report lists it first."""
    max_bytes: int = 0
    """Score at most this many bytes of each text; 0 scores all."""
    context: int = 0
    """Window length in tokens; 0 means the training sequence length (1,024 in ``compare``), or the model's
    context if that is shorter."""
    batch: int = 16
    """Full windows per forward pass, and texts per batch in generation."""
    generate: int = 16
    """Prompts per language (beginnings of held-out documents) for measuring generation speed; 0: none."""
    tasks: dict[str, dict[str, str]] = field(default_factory=dict)
    """Kind of task -> language (translation: ``en-tr``) -> file, or folder of splits; see docs/tasks.md."""
    shots: dict[str, int] = field(default_factory=dict)
    """Kind of task -> examples shown before each question; other kinds have as many as in the paper."""
    task_examples: int = 0
    """Score at most this many examples of each task; 0 scores all."""
    seed: int = 0
    """Seed for choosing the examples shown before each question."""
    spbleu_model: str = ""
    """SentencePiece model for spBLEU; empty: that of FLORES-200, if sacrebleu has it on this machine."""
    cache: str = ""
    """Folder that caches results by model; reused while nothing that decides them has changed. Empty: no cache."""
