"""The paper's study, scaled down to two bases of 2.1M parameters and four languages on this machine.

    python benchmarks/study_small.py [--place FOLDER] [--quick]

The bases are pretrained first (`study_bases.py`), then `nemo-adapt study` runs the grid below: each language with 0,
1,000 and 5,000 new tokens, rows initialized by six strategies, three seeds, all trained on 0.3 MB of the language; for
`subword_mean` also on 1 MB, and with a quarter of English mixed in. It takes hours on two cores; the same command
continues an interrupted study. Data: the folder in NEMO_ADAPT_DATA (default ../shared/data).

Writes study.md, study.csv and the plots into benchmarks/results/study-small/, also of a study that was stopped (TERM to
`nemo-adapt study`), and prints a table by language. The README.md there, written by hand, discusses the results.
`--quick`: one base, Turkish, two strategies, one seed; writes nothing.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from study_bases import KINDS, pretrained

from nemo_adapt.machine.ranks import MORE_TO_DO
from nemo_adapt.machine.workers import cores
from nemo_adapt.study.results import TARGET

LANGUAGES = ("tr", "hi", "ta", "ar")
VOCABULARIES = (0, 1_000, 5_000)
USUAL = "subword_mean"
STRATEGIES = (USUAL, "random_init", "random_token", "calibrated", "focus", "learned")
BYTES, MORE_BYTES, REPLAY_SHARE = 300_000, 1_000_000, 0.25
LR = 2e-3
SCORED_BYTES = 40_000
RESULTS = Path(__file__).parent / "results" / "study-small"
DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data")).resolve()
FLORES = DATA / "parallel" / "flores200-dev"


def study(bases: dict[str, Path], place: Path, quick: bool) -> dict[str, Any]:
    """Return the recipe of the study; axes that are only partly run come first, so that the main grid runs first."""
    languages, strategies = (LANGUAGES[:1], STRATEGIES[:2]) if quick else (LANGUAGES, STRATEGIES)
    return {
        "defaults": ["schema", "_self_"],
        "run": {"name": title(quick), "dir": str(place)},
        "model": {"path": str(next(iter(bases.values())))},  # replaced by the base of each cell
        "data": {"target": "???", "replay": [str(DATA / "text/en.train.txt")], "replay_share": 0, "shares_in": "bytes"},
        "tokenizer": {"text": "${data.target}", "parallel": {"en": str(FLORES / "en.txt")}},
        "train": {
            "seq_length": 256,
            "global_batch": 4,
            "micro_batch": 4,
            "save_every": 100_000,
            "phases": [{"train": "all", "bytes": BYTES, "lr": LR}],
        },
        "evaluate": {
            "max_bytes": SCORED_BYTES,
            "generate": 0,
            "cache": str(place / "scores"),
            "texts": {"en": str(DATA / "text/en.heldout.txt")},
        },
        "study": {
            "seeds": 1 if quick else 3,
            "processes": cores(),
            "axes": {
                "replay": {
                    "none": [],
                    f"{REPLAY_SHARE:.0%}": [  # with as much target text as without replay
                        f"data.replay_share={REPLAY_SHARE}",
                        f"train.phases.0.bytes={int(BYTES / (1 - REPLAY_SHARE))}",
                    ],
                },
                "bytes": {f"{BYTES / 1e6}M": [], f"{MORE_BYTES / 1e6}M": [f"train.phases.0.bytes={MORE_BYTES}"]},
                "language": {language: of_language(language) for language in languages},
                "base": {kind: [f"model.path={folder}"] for kind, folder in bases.items()},
                "vocabulary": {str(size): [f"tokenizer.new_tokens={size}"] for size in VOCABULARIES},
                "strategy": {name: [f"resize.input={name}", f"resize.output={name}"] for name in strategies},
            },
            "leave_out": [
                f"vocabulary=0 strategy!={USUAL}",
                f"replay!=none strategy!={USUAL}",
                f"bytes!={BYTES / 1e6}M strategy!={USUAL}",
                f"replay!=none bytes!={BYTES / 1e6}M",
            ],
        },
    }


def title(quick: bool) -> str:
    """Return the name of the study."""
    return "quick" if quick else "small"


def of_language(language: str) -> list[str]:
    """Return the settings that select a target language."""
    return [
        f"data.target=[{DATA / f'text/{language}.train.txt'}]",
        f"tokenizer.parallel.{language}={FLORES / f'{language}.txt'}",
        f"evaluate.texts.{language}={FLORES / f'{language}.txt'}",
        f"evaluate.target={language}",
    ]


def main() -> None:
    """Run the benchmark: make the bases, run the study, keep its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--place", type=Path, default=Path("runs/study_small"), help="where bases and runs are kept")
    parser.add_argument("--quick", action="store_true", help="one base, one language, one seed; writes nothing")
    options = parser.parse_args()
    place = options.place.resolve()
    text, held_out = DATA / "text/en.train.txt", DATA / "text/en.heldout.txt"
    kinds = KINDS[:1] if options.quick else KINDS
    bases = {kind: pretrained(kind, text, held_out, place / "bases") for kind in kinds}
    recipe = place / f"{title(options.quick)}.yaml"
    recipe.write_text(yaml.safe_dump(study(bases, place, options.quick), sort_keys=False), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "nemo_adapt", "study", f"recipe={recipe}"], check=False)
    run = place / title(options.quick)
    if done.returncode in (0, MORE_TO_DO) and (run / "study.csv").is_file():
        print("\n".join(by_language(run / "study.csv")))
        if not options.quick:
            keep(run, RESULTS)
    raise SystemExit(done.returncode)


def by_language(file: Path) -> Iterator[str]:
    """Yield the lines of a Markdown table: the target's bits per byte by language, amount of text and vocabulary, with
    the default strategy, no replay and the first seed; means over the bases."""
    with file.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    rows = [row for row in rows if (row["strategy"], row["replay"], row["seed"]) == (USUAL, "none", "0")]
    columns = list(dict.fromkeys((row["bytes"], row["vocabulary"]) for row in rows))
    yield f"| | {' | '.join(' of text, '.join(column) for column in columns)} |"
    yield f"|---{'|---' * len(columns)}|"
    for language in dict.fromkeys(row["language"] for row in rows):
        own = [row for row in rows if row["language"] == language]
        cells = [
            [float(row[TARGET]) for row in own if (row["bytes"], row["vocabulary"]) == column] for column in columns
        ]
        yield f"| {language} | {' | '.join(f'{mean(cell):.3f}' if cell else '-' for cell in cells)} |"


def keep(run: Path, out: Path) -> None:
    """Copy a study's tables and plots."""
    out.mkdir(exist_ok=True)
    for name in ("study.md", "study.csv"):
        shutil.copy(run / name, out / name)
    shutil.rmtree(out / "plots", ignore_errors=True)
    shutil.copytree(run / "plots", out / "plots")


if __name__ == "__main__":
    main()
