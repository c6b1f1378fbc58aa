"""How to initialize new rows: all resize strategies on stories260K to Turkish, after 0, 50 and 500 steps.

    python benchmarks/strategies.py [--quick] [--runs FOLDER] [--tp N] [--strategies A B+C ...]

Runs `nemo-adapt probe recipe=stories260k_tr` (data: the folder in NEMO_ADAPT_DATA, default ../shared/data) at TP=2, or
`--tp`: 2,000 new tokens, three seeds, the same bytes in the same order for every strategy of a seed, bits per byte on
held-out Turkish. `wechsel` gets a dictionary made from the parallel text (FLORES-200 dev) by IBM Model 1, as the data
has none. Prints the table, the best first. With `--runs` an interrupted run can be continued, and more strategies can
be added. `--quick` runs three strategies, one seed and 50 steps.
"""

import argparse
import collections
import itertools
import json
import os
import re
import tempfile
import time
from pathlib import Path

from command import command

from nemo_adapt.probe.report import markdown
from nemo_adapt.resize.plan import strategies

SETTINGS = (
    *("train.phases=[{train: all, steps: 400, lr: 4e-3}]", "train.global_batch=4", "train.micro_batch=4"),
    *("train.warmup_share=0.1", "probe.max_bytes=100000"),
)
"""Steps of 4 x 256 tokens: small, so that the whole table takes well under an hour on two cores."""
QUICK = ["random_init", "mean", "subword_mean"]
DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
ROUNDS, LEAST = 5, 2
"""Parameters of IBM Model 1: rounds of estimation; sentences that a pair of words must share."""


def words_of(language: str) -> list[list[str]]:
    """Return the parallel text's sentences as lists of lower-case words."""
    lines = (DATA / f"parallel/flores200-dev/{language}.txt").read_text(encoding="utf-8").splitlines()
    return [re.findall(r"[^\W\d_]{2,}", line.lower().replace("i̇", "i")) for line in lines]


def translations(sources: list[list[str]], targets: list[list[str]]) -> dict[tuple[str, str], float]:
    """Estimate t(target word | source word) of IBM Model 1 (Brown et al. 1993), without the empty word."""
    chance: dict[tuple[str, str], float] = collections.defaultdict(lambda: 1.0)
    for _ in range(ROUNDS):
        expected: dict[tuple[str, str], float] = collections.defaultdict(float)
        totals: dict[str, float] = collections.defaultdict(float)
        for source, target in zip(sources, targets, strict=True):
            for word in target:
                weights = [chance[other, word] for other in source]
                whole = sum(weights)
                for other, weight in zip(source, weights, strict=True):
                    expected[other, word] += weight / whole
                    totals[other] += weight / whole
        chance = {pair: value / totals[pair[0]] for pair, value in expected.items()}
    return chance


def write_dictionary(path: Path, source: str = "en", target: str = "tr") -> None:
    """Write the pairs of words that are each other's likeliest translation and share at least ``LEAST`` sentences."""
    sources, targets = words_of(source), words_of(target)
    there, back = translations(sources, targets), translations(targets, sources)
    best = {first: second for (first, second), _ in sorted(there.items(), key=lambda entry: entry[1])}
    best_back = {second: first for (second, first), _ in sorted(back.items(), key=lambda entry: entry[1])}
    meet = collections.Counter(
        pair
        for first, second in zip(sources, targets, strict=True)
        for pair in itertools.product(set(first), set(second))
    )
    pairs = sorted(pair for pair in best.items() if best_back[pair[1]] == pair[0] and meet[pair] >= LEAST)
    path.write_text("".join(f"{first}\t{second}\n" for first, second in pairs), encoding="utf-8")
    print(f"dictionary: {len(pairs):,} pairs from {len(sources):,} pairs of sentences")


def probe(runs: str, tp: int, names: list[str], seeds: int, steps: int, at: list[int]) -> dict:
    """Run one probe by the command line; return its probe.json, with the seconds that it took."""
    began = time.monotonic()
    words = [
        f"run.dir={runs}",
        f"parallel.tp={tp}",
        f"probe.seeds={seeds}",
        f"probe.steps={steps}",
        f"probe.at={at}".replace(" ", ""),
    ]
    if any("wechsel" in name for name in names):
        Path(runs).mkdir(parents=True, exist_ok=True)
        write_dictionary(Path(runs) / "dictionary.txt")
        words.append(f"auxiliary.dictionary={runs}/dictionary.txt")
    chosen = f"probe.strategies=[{','.join(names)}]"
    command("probe", "recipe=stories260k_tr", *SETTINGS, *words, chosen)
    content = json.loads((Path(runs) / "stories260k_tr" / "probe" / "probe.json").read_text(encoding="utf-8"))
    return {**content, "seconds": time.monotonic() - began}


def main() -> None:
    """Run the benchmark."""
    import nemo_adapt.resize.strategies  # noqa: F401  (registers them)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", help="folder that keeps the run (default: a temporary one)")
    parser.add_argument("--tp", type=int, default=2, help="tensor-parallel ranks")
    parser.add_argument("--strategies", nargs="+", help="default: all, each for both tables")
    arguments = parser.parse_args()
    known = list(strategies.names())
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
