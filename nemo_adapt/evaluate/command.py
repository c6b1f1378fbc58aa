"""``nemo-adapt compare``: any Hugging Face folders on the same texts and tasks, the first as the yardstick.

    nemo-adapt compare 'models={base: /models/llama, adapted: runs/tr/export}' evaluate.texts.tr=tr.txt \\
        evaluate.texts.en=en.txt parallel=/data/flores200-dev out=comparison

What was measured is kept in ``OUT/cache`` by the models' files: a further model, text or task costs only itself.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_adapt import fertility, locks, recipes, text
from nemo_adapt.config import EvaluateConfig
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import comparison, models
from nemo_adapt.evaluate.models import Candidate
from nemo_adapt.evaluate.report import About
from nemo_adapt.progress import say

WINDOW = 1024
"""Tokens per window where nothing is asked for and every model can read as many: the paper's training length."""


@dataclass
class CompareConfig:
    models: dict[str, str] = field(default_factory=dict)
    """Name -> Hugging Face folder; the first is what the others are compared with."""
    tokenizers: dict[str, str] = field(default_factory=dict)
    """Name of a model -> its tokenizer, where that does not lie in the model's folder."""
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    """As in a recipe: texts, tasks, and how they are scored."""
    parallel: str = ""
    """Folder of line-aligned texts for fertility, one file per language: ``en.txt``, ``tr.txt``; empty: the texts."""
    reference: str = "en"
    """The language of the gate, and the yardstick of the disparity."""
    text_field: str = "text"
    """The field of ``.jsonl`` lines, the column of ``.parquet`` files."""
    out: str = "comparison"
    """Folder that is made."""


def main(words: list[str]) -> None:
    """Compare, print the results and write the report; ``UserError`` for what cannot be read or does not fit."""
    config = recipes.parse(CompareConfig, words)
    if not config.models:
        raise UserError("no value for models: give it names and folders, 'models={base: A, adapted: B}'")
    odd = set(config.tokenizers) - set(config.models)
    if odd:
        raise UserError(f"tokenizers: {min(odd)!r} is no name in models ({', '.join(config.models)})")
    out, settings = Path(config.out), config.evaluate
    if not settings.cache:
        settings = replace(settings, cache=str(out / "cache"))
    texts = {name: _one(path, f"evaluate.texts.{name}") for name, path in settings.texts.items()}
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
    for line in report["headline"]:
        say(f"  {line}")
    say(f"report: {out / 'report.html'}")


def existing(path: str, key: str) -> Path:
    """A file or folder that is there; ``UserError`` otherwise."""
    if not Path(path).exists():
        raise UserError(f"{key}: {path} does not exist")
    return Path(path)


def _fertility(config: CompareConfig, candidates: dict[str, Candidate], texts: dict[str, Path]) -> list[dict[str, Any]]:
    """The rows of every model's tokenizer."""
    files = texts
    if config.parallel:
        folder = existing(config.parallel, "parallel")
        found = {
            path.name.split(".")[0]: path for path in sorted(folder.iterdir()) if path.name.endswith(text.SUFFIXES)
        }
        files = {name: found[name] for name in dict.fromkeys([*texts, config.reference]) if name in found}
        if not files:
            raise UserError(f"parallel: {folder} has no text of {', '.join(texts)}")
    tokenizers = {name: candidate.tokenizer for name, candidate in candidates.items()}
    return fertility.table(tokenizers, files, config.reference, config.text_field)


def _one(path: str, key: str) -> Path:
    (first, *more) = text.expand([path], key)
    if more:
        raise UserError(f"{key}: {path} names {1 + len(more)} files; give one")
    return first
