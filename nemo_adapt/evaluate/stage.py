"""The ``evaluate`` stage: compare base and adapted model of a run, with the reports of its earlier stages."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_adapt.checkpoint.folders import CHECKPOINTS
from nemo_adapt.checkpoint.scores import BEST_ONE, TRAINED_ON, best, score_of
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import comparison, cost, models
from nemo_adapt.evaluate.check import TASKS, TEXTS
from nemo_adapt.evaluate.report import About
from nemo_adapt.run.inputs import Inputs, of_group
from nemo_adapt.run.manifest import FILES
from nemo_adapt.training_files import HELD_OUT, METRICS, SUMMARY, records


def build(config: Config, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Compare ``base`` and ``adapted`` and write the report into ``out``.

    ``inputs``: ``base`` and ``adapted`` (Hugging Face folders), ``base_tokenizer``, ``texts.LANG`` (a held-out text per
    language), ``tasks.KIND.LANG``; optional: ``tokenizer`` and ``train`` (the folders of these stages). Raises
    ``UserError`` for empty or missing texts, bad task files, and for a model that cannot be loaded or does not fit its
    tokenizer. Returns, for the manifest, the files without which it has to be made again: not its pages and plots.
    """
    reference, field = config.tokenizer.reference, config.data.text_field
    plan = comparison.plan(config.evaluate, reference, of_group(inputs, TEXTS), of_group(inputs, TASKS), field)
    (adapted,) = inputs["adapted"]
    candidates = {
        "base": models.inspect(inputs["base"][0], inputs["base_tokenizer"][0]),
        "adapted": models.inspect(adapted, adapted),
    }
    window = models.context_window(config.evaluate.context, config.train.seq_length, candidates.values())
    tokenizer, train = (next(iter(inputs.get(key, [])), None) for key in ("tokenizer", "train"))
    training = _read_json(train, SUMMARY, {})

    def about(target: str) -> About:
        return About(
            name=config.run.name,
            target=target,
            reference=reference,
            window=window,
            config=OmegaConf.to_yaml(OmegaConf.structured(config)),
            folders={name: str(candidate.folder) for name, candidate in candidates.items()},
            tokenizers={"base": "base", "adapted": "extended"},
            fertility=_read_json(tokenizer, "fertility.json", []),
            recipe=config.recipe,
            training={**training, **_exported(config, train)},
            tokenizer=_read_json(tokenizer, "learn.json", {}),
            sweep=_read_json(tokenizer, "sweep.json", []),
            stages=cost.of_stages(train, adapted, training),
        )

    metrics, held_out = (records(train / name, whole=True) if train else [] for name in (METRICS, HELD_OUT))
    comparison.compare(candidates, replace(plan, window=window), about, out, metrics, held_out)
    return {FILES: ["report.json"]}


def _exported(config: Config, train: Path | None) -> dict[str, Any]:
    """Return ``exported``, the tokens and bytes that the best checkpoint was trained on, where that one is adapted."""
    if train is None or config.export.checkpoint != BEST_ONE:
        return {}
    score = score_of(train / CHECKPOINTS / best(train / CHECKPOINTS)[0])
    return {"exported": {name: score[name] for name in TRAINED_ON}} if score.keys() >= set(TRAINED_ON) else {}


def _read_json(folder: Path | None, name: str, default: Any) -> Any:
    """Return the JSON in a file of another stage, or ``default`` if there is none."""
    if folder is None or not (folder / name).is_file():
        return default
    return _parse((folder / name).read_text(encoding="utf-8"), folder / name)


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run its stage again") from None
