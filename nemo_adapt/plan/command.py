"""``nemo-adapt plan``: estimate what a training will need, before anything is started.

    nemo-adapt plan recipe=llama3_70b_hi cluster=h100_x64 [plan.search=true] [json=FILE]

Needs no GPU, no weights and no text. ``json=-`` prints JSON instead of the tables. A layout that cannot work is an
error, unless ``plan.search=true`` searches for layouts that can.
"""

import json
from dataclasses import replace
from pathlib import Path

from nemo_adapt.config import Config, recipe_files, recipes
from nemo_adapt.config.bounds import check_numbers
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.plan.estimate import plan_of, shortages
from nemo_adapt.plan.model import Models, models
from nemo_adapt.plan.needs import is_chosen
from nemo_adapt.plan.report import as_values, show, show_proposals
from nemo_adapt.plan.search import Proposal, proposals


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for a training that cannot work."""
    given = [word.partition("=")[2] for word in words if word.startswith("json=")]
    wanted = given[-1] if given else ""
    if wanted and not Path(wanted).parent.is_dir():
        raise UserError(f"json={wanted}: the folder {Path(wanted).parent} does not exist")
    config = recipes.of_words([word for word in words if not word.startswith("json=")])
    check_numbers(config)
    if config.launch.nodes:  # as launch does
        config = replace(config, cluster=replace(config.cluster, nodes=config.launch.nodes))
    base = models(config)
    found = search(base, config) if config.plan.search else []
    try:
        plan = plan_of(base, config)
    except UserError as error:
        if not config.plan.search or wanted:
            raise
        say(f"this layout cannot work: {error}")
        show_proposals(found)
        return
    wrong = shortages(plan)
    report = as_values(plan, wrong, found)
    if wanted == "-":
        print(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        show(plan)
        if config.plan.search:
            say("\n".join(["", *(f"this layout {line}" for line in wrong)]))
            show_proposals(found)
        if wanted:
            write_json(Path(wanted), report)
    if wrong and not config.plan.search:
        raise UserError(wrong[0])


def search(base: Models, config: Config) -> list[Proposal]:
    """Return the best layouts for the configured cluster; ``UserError`` without one."""
    if not is_chosen(config.cluster):
        raise UserError(f"plan.search=true needs a cluster: cluster={'|'.join(recipe_files.names('cluster'))}")
    return proposals(base, config)[: config.plan.proposals]
