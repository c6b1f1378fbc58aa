"""Which rows to begin with: all resize strategies on stories260K to Turkish, after 0, 50 and 500 steps.

    python benchmarks/strategies.py [--quick] [--runs FOLDER] [--tp N] [--strategies A B+C ...]

Runs `nemo-adapt probe recipe=stories260k_tr` (data: the folder in NEMO_ADAPT_DATA, default ../shared/data) at TP=2, or
`--tp`: 2,000 new tokens, three seeds, the same bytes in the same order for every strategy of a seed, bits per byte on
held-out Turkish. Prints the table, the best first. With `--runs` an interrupted run goes on, and more strategies can
be added. `--quick` does three strategies, one seed and 50 steps.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nemo_adapt.probe.report import markdown
from nemo_adapt.resize.plan import strategies

SETTINGS = ("train.global_batch=4", "train.micro_batch=4", "train.warmup_share=0.1", "probe.max_bytes=100000")
"""Steps of 4 x 256 tokens: small, so that the whole table takes well under an hour on two cores."""
QUICK = ["random_init", "mean", "subword_mean"]


def probe(runs: str, tp: int, names: list[str], seeds: int, steps: int, at: list[int]) -> dict:
    """One probe by the command line; its probe.json, with the seconds that it took."""
    began = time.monotonic()
    words = [
        f"run.dir={runs}",
        f"parallel.tp={tp}",
        f"probe.seeds={seeds}",
        f"probe.steps={steps}",
        f"probe.at={at}".replace(" ", ""),
    ]
    command = [sys.executable, "-m", "nemo_adapt", "probe", "recipe=stories260k_tr", *SETTINGS, *words]
    done = subprocess.run([*command, f"probe.strategies=[{','.join(names)}]"], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    content = json.loads((Path(runs) / "stories260k_tr" / "probe" / "probe.json").read_text(encoding="utf-8"))
    return {**content, "seconds": time.monotonic() - began}


def main() -> None:
    """Probe and print."""
    import nemo_adapt.resize.strategies  # noqa: F401  (registers them)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", help="folder that keeps the run (default: a temporary one)")
    parser.add_argument("--tp", type=int, default=2, help="tensor-parallel ranks")
    parser.add_argument("--strategies", nargs="+", help="default: all that need no dictionary, each for both tables")
    arguments = parser.parse_args()
    # `wechsel` needs a dictionary, which is not among the data.
    known = [name for name in strategies.names() if "bilingual" not in strategies.get(name).needs]
    names = arguments.strategies or ([name for name in QUICK if name in known] if arguments.quick else known)
    seeds, steps, at = (1, 50, [0, 10]) if arguments.quick else (3, 500, [0, 50])
    with tempfile.TemporaryDirectory() as place:
        result = probe(arguments.runs or place, arguments.tp, names, seeds, steps, at)
    print(f"\n{markdown(result)}")
    rows = {row["strategy"]: row["mean"][str(steps)] for row in result["rows"]}
    ratios = ", ".join(f"{name} {value / rows[result['chosen']]:.3f}" for name, value in rows.items() if value)
    total = len(names) * seeds * steps
    print(f"{total:,} steps in {result['seconds']:.0f} s, all stages and scoring counted")
    print(f"summary: best {result['chosen']}; bits per byte after {steps} steps over the best's: {ratios}")


if __name__ == "__main__":
    main()
