"""How short text gets: new tokens on real bases and languages, against the union of vocabularies.

    python benchmarks/vocabulary.py [--quick] [--bases llama2 gpt2 ...] [--languages tr hi ta ar]

Learns from text/LANG.train.txt of the folder in NEMO_ADAPT_DATA (default ../shared/data), without guard, and measures
on FLORES-200 dev: tokens over the base tokenizer's English tokens. The peer is `tokenizer.method=union` at V'=10,000,
and `continue` at the union's own count. `--quick` does one base and one language with 1,000 tokens.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from nemo_adapt.config import Config
from nemo_adapt.tokenizer import stage

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
BASES = ("llama2", "mistral-v1", "gpt2", "llama3")


def extend(base: str, language: str, method: str, new_tokens: int) -> dict[str, Any]:
    """One run of the tokenizer stage: its report and the two disparities."""
    config = Config()
    config.tokenizer.new_tokens, config.tokenizer.method = new_tokens, method
    inputs = {
        "base": [DATA / "tokenizers" / base],
        "text": [DATA / "text" / f"{language}.train.txt"],
        "guard": [],
        "parallel.en": [DATA / "parallel" / "flores200-dev" / "en.txt"],
        f"parallel.{language}": [DATA / "parallel" / "flores200-dev" / f"{language}.txt"],
    }
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        stage.build(config, inputs, Path(place))
        seconds = time.monotonic() - began
        report = json.loads((Path(place) / "learn.json").read_text(encoding="utf-8"))
        rows = json.loads((Path(place) / "fertility.json").read_text(encoding="utf-8"))
    found = {(row["tokenizer"], row["language"]): row["tokens_vs_reference"] for row in rows}
    return {
        "before": found["base", language],
        "after": found["extended", language],
        "english": found["extended", "en"],
        "added": report["added"],
        "unreachable": report["unreachable"]["left"],
        "steps_only": report.get("steps_only", {}).get("share", 0.0),
        "marks": report["keep_marks"]["kept"],
        "seconds": seconds,
    }


def main() -> None:
    """Print one line for each base and language."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bases", nargs="+", default=BASES)
    parser.add_argument("--languages", nargs="+", default=["tr", "hi", "ta", "ar"])
    arguments = parser.parse_args()
    bases, languages, size = arguments.bases, arguments.languages, 10_000
    if arguments.quick:
        bases, languages, size = bases[:1], languages[:1], 1_000
    print("| base | language | before | continue | English | union (count) | continue at that count | steps only | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    cases = [(base, language) for base in bases for language in languages]
    won = 0
    for base, language in cases:
        ours = extend(base, language, "continue", size)
        union = extend(base, language, "union", size)
        same = extend(base, language, "continue", union["added"])
        won += same["after"] < union["after"]
        marks = ", marks kept" if ours["marks"] else ""
        row = (
            f"| {base} | {language} | {ours['before']:.3f} | {ours['after']:.3f} ({ours['added']:,}{marks}) | "
            f"{ours['english']:.4f} | {union['after']:.3f} ({union['added']:,}) | {same['after']:.3f} | "
            f"{ours['steps_only']:.1%} | {ours['seconds']:.0f} |"
        )
        print(row, flush=True)
        if ours["unreachable"]:
            raise SystemExit(f"{base}, {language}: {ours['unreachable']} tokens cannot be reached")
    print(f"summary: continue needs fewer tokens than union at the same count in {won} of {len(cases)} cases")


if __name__ == "__main__":
    main()
