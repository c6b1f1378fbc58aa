"""Reduction of tokens per text: new tokens on real bases and languages, against the union of vocabularies.

    python benchmarks/vocabulary.py [--quick] [--bases llama2 gpt2 ...] [--languages tr hi ta ar] [--words 20000 ...]

Learns from text/LANG.train.txt of the folder in NEMO_ADAPT_DATA (default ../shared/data) and measures on FLORES-200
dev: tokens relative to the base tokenizer's English tokens. The peer is `tokenizer.method=union` at V'=10,000, and
`continue` at the union's own count. `guarded` is `continue` with text/en.train.txt as guard, with the English tokens
that result. `unlike` counts lines of text/ and FLORES, in all languages, whose ids in AutoTokenizer differ from those
of sentencepiece (for bases with its model), or whose decoded text differs from the base's. `--quick` runs one base and
one language with 1,000 tokens. `--words`: only `continue`, learned from that many of the most frequent words
(`tokenizer.max_words`); the share of the text that they cover is printed above each line.
"""

import argparse
import functools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import sentencepiece
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.tokenizer import stage

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
COLUMNS = ("base", "language", "before", "continue", "English", "union (count)", "at that count", "guarded, English",
           "steps only", "unlike", "s")  # fmt: skip
BASES = ("llama2", "mistral-v1", "gpt2", "llama3")


@functools.cache
def lines() -> list[str]:
    """Return the lines of all texts."""
    files = [*sorted((DATA / "text").glob("*.txt")), *sorted((DATA / "parallel/flores200-dev").glob("*.txt"))]
    return [line for file in files for line in file.read_text(encoding="utf-8").split("\n") if line]


@functools.cache
def base_decoded(base: str) -> list[str]:
    """Return all lines, encoded and decoded by the base."""
    tokenizer = hf_tokenizer.load(DATA / "tokenizers" / base)
    return tokenizer.backend_tokenizer.decode_batch(encoded(tokenizer), skip_special_tokens=False)


def encoded(tokenizer: Any) -> list[list[int]]:
    found = tokenizer.backend_tokenizer.encode_batch_fast(lines(), add_special_tokens=False)
    return [encoding.ids for encoding in found]


def unlike(folder: Path, base: str) -> int:
    """Count the lines whose ids differ from sentencepiece's, or whose decoded text differs from the base's."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    ids = encoded(tokenizer)
    wrong = [now != before for now, before in zip(
        tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=False), base_decoded(base), strict=True
    )]  # fmt: skip
    if (folder / "tokenizer.model").exists():
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        wrong = [bad or now != own for bad, now, own in zip(wrong, ids, model.encode(lines()), strict=True)]
    return sum(wrong)


def extend(
    base: str,
    language: str,
    method: str,
    new_tokens: int,
    guarded: bool = False,
    compared: bool = False,
    words: int = 0,
) -> dict[str, Any]:
    """Run the tokenizer stage once; return its report, the two disparities, and with ``compared`` the unlike lines."""
    config = Config()
    config.tokenizer.max_words = words or config.tokenizer.max_words
    config.tokenizer.new_tokens, config.tokenizer.method = new_tokens, method
    inputs = {
        "base": [DATA / "tokenizers" / base],
        "text": [DATA / "text" / f"{language}.train.txt"],
        "guard": [DATA / "text" / "en.train.txt"] if guarded else [],
        "parallel.en": [DATA / "parallel" / "flores200-dev" / "en.txt"],
        f"parallel.{language}": [DATA / "parallel" / "flores200-dev" / f"{language}.txt"],
    }
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        stage.build(config, inputs, Path(place))
        seconds = time.monotonic() - began
        report = json.loads((Path(place) / "learn.json").read_text(encoding="utf-8"))
        rows = json.loads((Path(place) / "fertility.json").read_text(encoding="utf-8"))
        differing = unlike(Path(place), base) if compared else 0
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
        "unlike": differing,
    }


def of_words(cases: list[tuple[str, str]], size: int, words: list[int]) -> None:
    """Print the cost of learning only from the most frequent words."""
    for base, language in cases:
        for most in words:
            ours = extend(base, language, "continue", size, words=most)
            print(f"{base}, {language}, {most:,} words: {ours['after']:.4f} ({ours['added']:,} tokens)", flush=True)


def main() -> None:
    """Run the benchmark: print one line for each base and language."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bases", nargs="+", default=BASES)
    parser.add_argument("--languages", nargs="+", default=["tr", "hi", "ta", "ar"])
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--words", nargs="+", type=int, default=[])
    arguments = parser.parse_args()
    bases, languages, size = arguments.bases, arguments.languages, arguments.tokens
    if arguments.quick:
        bases, languages, size = bases[:1], languages[:1], 1_000
    cases = [(base, language) for base in bases for language in languages]
    if arguments.words:
        of_words(cases, size, arguments.words)
        return
    print(f"{len(lines()):,} lines are compared")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    won = 0
    for base, language in cases:
        ours = extend(base, language, "continue", size, compared=True)
        union = extend(base, language, "union", size)
        same = extend(base, language, "continue", union["added"])
        guarded = extend(base, language, "continue", size, guarded=True)
        won += same["after"] < union["after"]
        marks = ", marks kept" if ours["marks"] else ""
        row = (
            f"| {base} | {language} | {ours['before']:.3f} | {ours['after']:.3f} ({ours['added']:,}{marks}) | "
            f"{ours['english']:.4f} | {union['after']:.3f} ({union['added']:,}) | {same['after']:.3f} | "
            f"{guarded['after']:.3f}, {guarded['english']:.4f} | {ours['steps_only']:.1%} | "
            f"{ours['unlike']} | {ours['seconds']:.0f} |"
        )
        print(row, flush=True)
        if ours["unreachable"]:
            raise SystemExit(f"{base}, {language}: {ours['unreachable']} tokens cannot be reached")
    print(f"summary: continue needs fewer tokens than union at the same count in {won} of {len(cases)} cases")


if __name__ == "__main__":
    main()
