"""What base and adapted model, or any other models, are compared on."""

from dataclasses import dataclass, field


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
    """Whole windows per forward pass, and texts that are written side by side."""
    generate: int = 16
    """Beginnings of held-out documents, per language, that the models continue to measure their speed; 0: none."""
    tasks: dict[str, dict[str, str]] = field(default_factory=dict)
    """Kind of task -> language (translation: ``en-tr``) -> file, or folder of splits (docs/tasks.md)."""
    shots: dict[str, int] = field(default_factory=dict)
    """Kind of task -> examples shown before each question; what is not here is as in the paper."""
    task_examples: int = 0
    """Score at most this many examples of each task; 0 scores all."""
    seed: int = 0
    """Decides which examples of a training split are shown."""
    spbleu_model: str = ""
    """SentencePiece model for spBLEU; empty means that of FLORES-200 where sacrebleu has it on this machine."""
    cache: str = ""
    """Folder for results by model, taken again where nothing that decides them has changed; empty: none is kept."""
