"""``nemo-adapt compare``: evaluate any Hugging Face folders on the same texts and tasks, against the first of them.

    nemo-adapt compare 'models={base: /models/llama, adapted: runs/tr/export}' evaluate.texts.tr=tr.txt \\
        evaluate.texts.en=en.txt parallel=/data/flores200-dev out=comparison

Results are cached in ``OUT/cache`` by the models' files, so adding a model, text or task measures only what is new.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_adapt.config import EvaluateConfig, recipes
from nemo_adapt.console.progress import say
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import comparison, models
from nemo_adapt.evaluate.models import Candidate
from nemo_adapt.evaluate.report import About
from nemo_adapt.machine import locks
from nemo_adapt.tokens import fertility

WINDOW = 1024
"""Default tokens per window if every model's context is that long: the paper's training length."""


@dataclass
class CompareConfig:
    models: dict[str, str] = field(default_factory=dict)
    """Name -> Hugging Face folder; the others are compared with the first."""
    tokenizers: dict[str, str] = field(default_factory=dict)
    """Name of a model -> its tokenizer, if that is not in the model's folder."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """As in a recipe: texts, tasks, and how they are scored."""
    parallel: str = ""
    """Folder of line-aligned texts for fertility, one per language (``en.txt``); empty: use ``evaluate.texts``, without
    disparities."""
    reference: str = "en"
    """The reference language: the gate is on it, and disparities are relative to it."""
    text_field: str = "text"
    """The field of ``.jsonl`` lines and the column of ``.parquet`` files that hold the text."""
    out: str = "comparison"
    """Output folder."""


def main(words: list[str]) -> None:
    """Run the command: compare, print the results and write the report.

    Raises ``UserError`` for missing or unreadable inputs, and for models that do not fit their tokenizer or context.
    """
    config = recipes.parse(CompareConfig, words)
    if not config.models:
        raise UserError("no value for models: give it names and folders, 'models={base: A, adapted: B}'")
    odd = set(config.tokenizers) - set(config.models)
    if odd:
        raise UserError(f"tokenizers: {min(odd)!r} is not in models ({', '.join(config.models)})")
    out, settings = Path(config.out), config.evaluate
    if not settings.cache:
        settings = replace(settings, cache=str(out / "cache"))
    texts = {name: text.one_file(path, f"evaluate.texts.{name}") for name, path in settings.texts.items()}
    tasks = {
        f"{kind}.{language}": existing(path, f"evaluate.tasks.{kind}.{language}")
        for kind, of in settings.tasks.items()
        for language, path in of.items()
    }
    plan = comparison.plan(settings, config.reference, texts, tasks, config.text_field)
    candidates = {
        name: models.inspect(Path(folder), Path(config.tokenizers.get(name, folder)))
        for name, folder in config.models.items()
    }
    window = models.context_window(settings.context, WINDOW, candidates.values())
    rows = _fertility(config, candidates, texts)

    def about(target: str) -> About:
        return About(
            name=" and ".join(candidates),
            target=target,
            reference=config.reference,
            window=window,
            config=OmegaConf.to_yaml(OmegaConf.structured(config)),
            folders=config.models,
            tokenizers={name: name for name in candidates},
            fertility=rows,
        )

    with locks.folder_lock(out):
        out.mkdir(parents=True, exist_ok=True)
        report = comparison.compare(candidates, replace(plan, window=window), about, out)
    if len(candidates) > 2:
        first, second = list(candidates)[:2]
        say(f"{second} after {first} (the others are in the report):")
    for line in report["headline"]:
        say(f"  {line}")
    say(f"report: {out / 'report.html'}")


def existing(path: str, key: str) -> Path:
    """Return ``path``; ``UserError`` that names ``key`` if it does not exist."""
    if not Path(path).exists():
        raise UserError(f"{key}: {path} does not exist")
    return Path(path)


def _fertility(config: CompareConfig, candidates: dict[str, Candidate], texts: dict[str, Path]) -> list[dict[str, Any]]:
    """Return the fertility rows of every model's tokenizer. ``evaluate.texts`` are not translations of each other, so
    without ``parallel`` nothing is divided by the reference language's."""
    files, reference = texts, ""
    if config.parallel:
        folder, reference = existing(config.parallel, "parallel"), config.reference
        found = text.by_language(folder, "parallel")
        files = {name: found[name] for name in dict.fromkeys([*texts, config.reference]) if name in found}
        if not files:
            raise UserError(f"parallel: {folder} has no text of {', '.join(texts)}")
    tokenizers = {name: candidate.tokenizer for name, candidate in candidates.items()}
    return fertility.table(tokenizers, files, reference, config.text_field)
