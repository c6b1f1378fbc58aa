"""Read ``evaluate.tasks`` into questions, and check them before any model is loaded."""

import importlib.util
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.config import EvaluateConfig
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate.tasks import layouts, records
from nemo_adapt.evaluate.tasks.kinds import KINDS, Item, Kind, pair
from nemo_adapt.evaluate.tasks.records import Record
from nemo_adapt.registry import nearest


@dataclass(frozen=True)
class Task:
    """The questions of a task in one language, and the few-shot examples that precede each."""

    kind: str
    language: str
    """The language of the answers."""
    name: str
    items: list[Item]
    shots: list[Item]

    @property
    def writes(self) -> bool:
        """Whether the answer is generated rather than chosen."""
        return bool(KINDS[self.kind].most_tokens)


def load(config: EvaluateConfig, paths: Mapping[str, Path]) -> list[Task]:
    """Read the tasks of a configuration; ``paths``: ``KIND.LANGUAGE`` -> file or folder.

    Raises ``UserError`` as ``read`` does, and for a missing package of the extra ``eval``.
    """
    tasks = read(config, paths)
    require_packages(tasks)
    return tasks


def read(config: EvaluateConfig, paths: Mapping[str, Path]) -> list[Task]:
    """Read the tasks, whether or not the packages that they need are installed.

    Raises ``UserError`` for an unknown kind or language, a record with a missing or empty field (with file and line),
    and too few examples for the shots.
    """
    tasks = []
    for key, path in paths.items():
        kind, _, language = key.partition(".")
        if kind not in KINDS:
            raise UserError(f"evaluate.tasks: unknown kind {kind!r}.{nearest(kind, KINDS)} Known: {', '.join(KINDS)}")
        tasks.append(_task(config, kind, language, path))
    odd = set(config.shots) - set(KINDS)
    if odd:
        raise UserError(f"evaluate.shots: unknown kind {min(odd)!r}.{nearest(min(odd), KINDS)}")
    return tasks


def require_packages(tasks: Iterable[Task]) -> None:
    """Raise ``UserError`` for a package that one of ``tasks`` needs and that is not installed."""
    for kind in dict.fromkeys(task.kind for task in tasks):
        _require(kind)


def _task(config: EvaluateConfig, name: str, language: str, path: Path) -> Task:
    kind = KINDS[name]
    words = kind.words(language, name)
    shots = config.shots.get(name, kind.shots)
    splits = records.split(_read(name, language, path), shots, path, name)
    shown, scored = _rendered(kind, splits, words)
    if not scored:
        raise UserError(f"{path}: no examples to score (splits {', '.join(records.TEST)})")
    drawn = random.Random(config.seed).sample(shown, shots)
    most = config.task_examples or len(scored)
    return Task(name, language.rpartition("-")[2], f"{name}_{language}", scored[:most], drawn)


def _read(kind: str, language: str, path: Path) -> list[Record]:
    """Read the examples of a file or folder in any known layout, with fields named as the kind expects."""
    if kind == "translation" and path.is_dir():
        return records.read_aligned(path, pair(language, kind))
    if kind == "mlama" and (path / layouts.TEMPLATES).is_file():
        return layouts.facts(path)
    found = layouts.in_language(records.read(path), language, path)
    named = [Record(layouts.known(kind, language, record.values), record.path, record.at) for record in found]
    return layouts.labelled(kind, named, path)


def _rendered(kind: Kind, splits: records.Splits, words: object) -> tuple[list[Item], list[Item]]:
    completed = kind.complete([*splits.shown, *splits.scored])
    items = [kind.render(record, words) for record in completed]
    return items[: len(splits.shown)], items[len(splits.shown) :]


def _require(kind: str) -> None:
    missing = [name for name in KINDS[kind].needs if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"evaluate.tasks.{kind} needs {' and '.join(missing).replace('_', '-')}: pip install 'nemo-adapt[eval]'"
        )
