"""``nemo-adapt compare``: evaluate any Hugging Face folders on the same texts and tasks, against the first of them.

    nemo-adapt compare 'models={base: /models/llama, adapted: runs/tr/export}' evaluate.texts.tr=tr.txt \\
        evaluate.texts.en=en.txt parallel=/data/flores200-dev out=comparison

Results are cached in ``OUT/cache`` by the models' files, so adding a model, text or task measures only what is new.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_adapt.config import EvaluateConfig, recipes
from nemo_adapt.console.progress import say
from nemo_adapt.corpora import text
from nemo_adapt.corpora.mixture import task_files
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
    config = _settings(words)
    out, settings = Path(config.out), config.evaluate
    if not settings.cache:
        settings = replace(settings, cache=str(out / "cache"))
    texts = {name: text.one_file(path, f"evaluate.texts.{name}") for name, path in settings.texts.items()}
    plan = comparison.plan(settings, config.reference, texts, task_files(settings), config.text_field)
    candidates = {
        name: models.inspect(Path(folder), Path(config.tokenizers.get(name, folder)))
        for name, folder in config.models.items()
    }
    window = models.context_window(settings.context, WINDOW, candidates.values())
    about = partial(_about, config, window, _fertility(config, candidates, texts))
    with locks.folder_lock(out):
        out.mkdir(parents=True, exist_ok=True)
        report = comparison.compare(candidates, replace(plan, window=window), about, out)
    _print(list(candidates), report["headline"], out)


def _settings(words: list[str]) -> CompareConfig:
    config = recipes.parse(CompareConfig, words)
    if not config.models:
        raise UserError("no value for models: give it names and folders, 'models={base: A, adapted: B}'")
    odd = set(config.tokenizers) - set(config.models)
    if odd:
        raise UserError(f"tokenizers: {min(odd)!r} is not in models ({', '.join(config.models)})")
    return config


def _about(config: CompareConfig, window: int, rows: list[dict[str, Any]], target: str) -> About:
    """Return what the report says of the comparison; ``target``: the target language."""
    return About(
        name=" and ".join(config.models),
        target=target,
        reference=config.reference,
        window=window,
        config=OmegaConf.to_yaml(OmegaConf.structured(config)),
        folders=config.models,
        tokenizers={name: name for name in config.models},
        fertility=rows,
    )


def _print(names: list[str], headline: list[str], out: Path) -> None:
    if len(names) > 2:
        say(f"{names[1]} after {names[0]} (the others are in the report):")
    for line in headline:
        say(f"  {line}")
    say(f"report: {out / 'report.html'}")


def _fertility(config: CompareConfig, candidates: dict[str, Candidate], texts: dict[str, Path]) -> list[dict[str, Any]]:
    """Return the fertility rows of every model's tokenizer. ``evaluate.texts`` are not translations of each other, so
    without ``parallel`` nothing is divided by the reference language's."""
    files, reference = texts, ""
    if config.parallel:
        folder, reference = text.existing(config.parallel, "parallel"), config.reference
        found = text.by_language(folder, "parallel")
        files = {name: found[name] for name in dict.fromkeys([*texts, config.reference]) if name in found}
        if not files:
            raise UserError(f"parallel: {folder} has no text of {', '.join(texts)}")
    tokenizers = {name: candidate.tokenizer for name, candidate in candidates.items()}
    return fertility.table(tokenizers, files, reference, config.text_field)
