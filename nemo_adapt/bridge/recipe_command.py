"""``nemo-adapt nemo-recipe``: the training of a run as a recipe of Megatron-Bridge, with everything it reads.

    nemo-adapt nemo-recipe recipe=my_turkish.yaml [key=value ...] [out=FOLDER]

Runs the stages before training (finished ones are skipped) and writes to ``out`` (``runs/NAME/nemo``): ``start/``, the
resized model as Bridge's checkpoint; ``recipe.py`` and ``recipe.yaml``.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from nemo_adapt import pipeline
from nemo_adapt.bridge import checkpoint
from nemo_adapt.bridge.provider import provider
from nemo_adapt.bridge.recipe import RecipePaths, container, only_phase, python
from nemo_adapt.checkpoint.folders import TRACKER
from nemo_adapt.config import Config, recipes
from nemo_adapt.config.phases import phases
from nemo_adapt.console.progress import say
from nemo_adapt.corpora import mixture
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Family, Shape
from nemo_adapt.files import write_text
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.machine import ranks
from nemo_adapt.machine.locks import folder_lock
from nemo_adapt.model.build import DTYPES
from nemo_adapt.run import artifact
from nemo_adapt.run.run_folder import RunFolder, data_folders
from nemo_adapt.strategy_choice import with_choice
from nemo_adapt.tokens.vocab import rows_with

START = "start"
RECIPES = "recipe.py", "recipe.yaml"


def main(words: list[str]) -> None:
    """Run the command. ``UserError``, before anything is written, for a run that Bridge cannot do."""
    given = [word.partition("=")[2] for word in words if word.startswith("out=")]
    config = recipes.of_words([word for word in words if not word.startswith("out=")])
    if ranks.already_started():
        raise UserError("nemo-recipe runs in one process: start it without torchrun or srun")
    run = RunFolder.of(config)
    out = Path(given[-1]) if given else run["nemo"]
    _check_place(out)
    family, shape = read_shape(Path(config.model.path))
    only_phase(phases(config), config.train)
    provider(family, shape, DTYPES[config.train.precision])
    pipeline.run_up_to(config, "resize")
    config = with_choice(config, run["probe"])
    with folder_lock(out):
        write(config, run, family, shape, out)
    say(f"written to {out}: {', '.join(sorted(place.name for place in out.iterdir()))}")


def _check_place(out: Path) -> None:
    """Raise ``UserError`` where files that nemo-recipe did not make would be replaced, and where none can be made."""
    if (out / START / TRACKER).is_file():
        return
    for name in (START, *RECIPES):
        if (out / name).exists():
            raise UserError(f"{out / name} exists and is no result of nemo-recipe: name another out, or move it away")
    artifact.check_place("nemo-recipe", out / START)


def write(config: Config, run: RunFolder, family: Family, base: Shape, out: Path) -> None:
    """Write the recipe and the checkpoint that it starts from; the run's stages before training must be finished."""
    tokenizer = run["tokenizer"]
    folders = data_folders(config, run)
    plan = phases(config, mixture.bytes_per_token(config, folders))
    shares = mixture.token_shares(config, folders)
    data = [((folders[name] / name).resolve(), share) for name, share in shares.items()]
    paths = RecipePaths((out / START).resolve(), tokenizer.resolve(), data, out.resolve())
    shape = replace(base, vocab=rows_with(base, tokenizer))
    settings = container(config, family, shape, only_phase(plan, config.train), paths)
    partial = out / f"{START}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    checkpoint.write(run["resize"], Path(config.model.path), tokenizer, partial, final=paths.start)
    shutil.rmtree(paths.start, ignore_errors=True)
    partial.rename(paths.start)
    program, listed = RECIPES
    write_text(out / listed, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    write_text(out / program, python(settings, config.run.name, program, config.parallel.ranks))
