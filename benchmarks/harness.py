"""The numbers of ``evaluate.tasks`` against lm-evaluation-harness run by itself on the same folder.

    python benchmarks/harness.py [--quick]

For stories260K and the Turkish XCOPA (NEMO_ADAPT_DATA) with 0 and 5 shots: our command, the harness's command line on
the task files that ours leaves, and, without shots, the harness's own ``xcopa_tr`` with its data taken from the file.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import lm_eval
except ImportError:
    print("nothing to compare with: pip install 'nemo-adapt[eval]'")
    raise SystemExit(0) from None

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data")).resolve()
MODEL = DATA / "weights/stories260K"
FILE = DATA / "eval/xcopa/tr.jsonl"
METRICS = ("acc_bytes", "acc", "acc_norm")
STOCK = Path(lm_eval.__file__).parent / "tasks/xcopa/default_tr.yaml"


def ours(out: Path, model: Path, shots: int, examples: int) -> dict[str, float]:
    words = [
        f"models={{model: {model}}}", f"evaluate.texts.tr={DATA / 'text/tr.heldout.txt'}", "evaluate.max_bytes=2000",
        "evaluate.generate=0", f"evaluate.tasks.xcopa.tr={FILE}", f"evaluate.shots.xcopa={shots}",
        f"evaluate.task_examples={examples}", f"out={out}",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "nemo_adapt", "compare", *words], check=True, stdout=subprocess.DEVNULL)
    values = json.loads((out / "report.json").read_text(encoding="utf-8"))["task_scores"]["model"]["xcopa_tr"]["values"]
    return {metric: values[metric]["value"] for metric in METRICS}


def direct(folder: Path, model: Path, task: str) -> dict[str, float]:
    """What ``lm_eval`` says, started in a folder of task files."""
    result = folder / "result.json"
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model}", "--tasks", task]
    options = ["--include_path", str(folder), "--batch_size", "16", "--device", "cpu", "--output_path", str(result)]
    subprocess.run([*command, *options], check=True, cwd=folder, capture_output=True)
    (written,) = folder.glob("result*.json")
    values = json.loads(written.read_text(encoding="utf-8"))["results"][task]
    written.unlink()
    return {metric: values[f"{metric},none"] for metric in METRICS}


def stock(folder: Path, examples: int) -> str:
    """The harness's own task, but for where its data lie; returns its name."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    scored = [row for row in rows if row["split"] == "test"][: examples or None]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored), encoding="utf-8")
    config = {
        "include": str(STOCK), "task": "stock_xcopa_tr", "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}}, "validation_split": None, "test_split": "test",
        "metric_list": [{"metric": metric} for metric in METRICS],
    }  # fmt: skip
    (folder / "stock.yaml").write_text(json.dumps(config), encoding="utf-8")
    return "stock_xcopa_tr"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="100 examples")
    examples = 100 if parser.parse_args().quick else 0
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = complete(root / "model")
        rows = {}
        for shots in (0, 5):
            rows[f"{shots} shots, nemo-adapt compare"] = ours(root / str(shots), model, shots, examples)
            rows[f"{shots} shots, lm_eval, our task files"] = direct(root / str(shots) / "tasks", model, "xcopa_tr")
        rows["0 shots, lm_eval, its own xcopa_tr"] = direct(root, model, stock(root, examples))
    version = importlib.metadata.version("lm_eval")
    print(f"lm_eval {version}; stories260K; XCOPA tr, {examples or 500} examples\n")
    print(f"| run | {' | '.join(METRICS)} |\n| --- | ---: | ---: | ---: |")
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(f'{values[metric]:.4f}' for metric in METRICS)} |")
    groups = [[values for name, values in rows.items() if name.startswith(f"{shots} ")] for shots in (0, 5)]
    same = all(values == group[0] for group in groups for values in group)
    print("\nthe same numbers" if same else "\nNOT the same numbers")
    raise SystemExit(not same)


def complete(folder: Path) -> Path:
    """The model with a tokenizer.json, as an exported folder has it."""
    from nemo_adapt import hf_tokenizer

    folder.mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / file).symlink_to(MODEL / file)
    hf_tokenizer.load(MODEL).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
