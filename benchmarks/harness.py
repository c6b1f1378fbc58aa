"""The numbers of ``evaluate.tasks`` against lm-evaluation-harness run directly on the same folder.

    python benchmarks/harness.py [--quick] [--xnli test.jsonl] [--stories FOLDER]

For stories260K (NEMO_ADAPT_DATA): our command against the harness's command line, on

- the Turkish XCOPA with 0 and 5 shots, on the task files that ours writes and, without shots, the harness's own
  ``xcopa_tr`` with its data taken from the file. The model's accuracy is at chance level.
- XNLI with 0 shots, also against the harness's own ``xnli_tr``: the Turkish file ``--xnli`` in any layout that ours
  reads, or pairs of held-out sentences with alternating labels (a model's answers do not depend on labels).
- stories in the layout of XStoryCloze, made of English held-out sentences: the right ending is the next sentence, the
  wrong one its words in reverse. Here the model is better than chance. With ``--stories`` also the English Story Cloze
  Test in the files of XStoryCloze, with 0 and 5 shots, and against the harness's own ``xstorycloze_en``.
- translation from English to Turkish with one shot: the harness generates from the same prompts and computes chrF;
  sacrebleu computes spBLEU of the output.
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

from sacrebleu.metrics import BLEU
from sentencepiece import SentencePieceProcessor

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import EvaluateConfig
from nemo_adapt.evaluate.tasks import layouts, load, records

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data")).resolve()
MODEL = DATA / "weights/stories260K"
XCOPA = DATA / "eval/xcopa/tr.jsonl"
PARALLEL = DATA / "parallel/flores200-dev"
PIECES = MODEL / "tokenizer.model"
METRICS = ("acc_bytes", "acc", "acc_norm")
TASKS = Path(lm_eval.__file__).parent / "tasks"
STOCK = {
    "xcopa": TASKS / "xcopa/default_tr.yaml",
    "xnli": TASKS / "xnli/xnli_tr.yaml",
    "xstorycloze": TASKS / "xstorycloze/default_en.yaml",
}
Values = dict[str, float]


def ours(out: Path, model: Path, kind: str, language: str, file: Path, shots: int, examples: int) -> Values:
    """Return the results of ``nemo-adapt compare`` on one task."""
    words = [
        f"models={{model: {model}}}", f"evaluate.texts.tr={DATA / 'text/tr.heldout.txt'}", "evaluate.max_bytes=2000",
        "evaluate.generate=0", f"evaluate.tasks.{kind}.{language}={file}", f"evaluate.shots.{kind}={shots}",
        f"evaluate.task_examples={examples}", f"evaluate.spbleu_model={PIECES}", f"out={out}",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "nemo_adapt", "compare", *words], check=True, stdout=subprocess.DEVNULL)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    values = report["task_scores"]["model"][f"{kind}_{language}"]["values"]
    return {metric: of["value"] for metric, of in values.items()}


def direct(folder: Path, model: Path, task: str, arguments: str = "") -> tuple[Values, list[str]]:
    """Run ``lm_eval`` in a folder of task files; return its metrics and the generated texts."""
    arguments = f"pretrained={model},softmax_dtype=float32{arguments}"
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", arguments]
    options = ["--tasks", task, "--include_path", str(folder), "--batch_size", "16", "--device", "cpu", "--log_samples"]
    out = folder / "out"
    subprocess.run([*command, *options, "--output_path", str(out)], check=True, cwd=folder, capture_output=True)
    (written,) = out.rglob("results*.json")
    found = json.loads(written.read_text(encoding="utf-8"))["results"][task]
    (lines,) = out.rglob("samples*.jsonl")
    samples = sorted(map(json.loads, lines.read_text(encoding="utf-8").splitlines()), key=lambda each: each["doc_id"])
    written.unlink()
    lines.unlink()
    values = {name.removesuffix(",none"): value for name, value in found.items() if name.endswith(",none")}
    return values, [each["filtered_resps"][0] for each in samples]


def stock(folder: Path, kind: str, language: str, file: Path, examples: int) -> str:
    """Write the harness's own task with its data taken from ``file``; return its name."""
    scored = records.split(records.read(file), 0, file).scored[: examples or None]
    rows = [layouts.known(kind, language, record.values) for record in scored]
    _write(folder / f"{kind}.jsonl", [{name: _number(value) for name, value in row.items()} for row in rows])
    config = {
        "include": str(STOCK[kind]), "task": f"stock_{kind}_{language}", "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": f"{kind}.jsonl"}}, "training_split": None, "validation_split": None,
        "test_split": "test", "metric_list": [{"metric": metric} for metric in METRICS],
    }  # fmt: skip
    (folder / f"stock_{kind}.yaml").write_text(json.dumps(config), encoding="utf-8")
    return f"stock_{kind}_{language}"


def pairs(file: Path, count: int) -> Path:
    """Write pairs of held-out sentences in XNLI's layout; return the file."""
    lines = (DATA / "text/tr.heldout.txt").read_text(encoding="utf-8").splitlines()
    fit = [line for line in lines if len(line) < 100][: 2 * count]
    rows = zip(fit[::2], fit[1::2], strict=False)
    _write(file, [{"premise": one, "hypothesis": two, "label": row % 3} for row, (one, two) in enumerate(rows)])
    return file


def stories(file: Path, count: int) -> Path:
    """Write held-out sentences, five to a story, in XStoryCloze's layout; return the file."""
    lines = (DATA / "text/en.heldout.txt").read_text(encoding="utf-8").splitlines()
    rows = []
    for number in range(min(count, len(lines) // 5)):
        *story, right = lines[5 * number : 5 * number + 5]
        endings = [right, " ".join(reversed(right.split()))]
        first = number % 2
        row = {f"input_sentence_{place}": text for place, text in enumerate(story, start=1)}
        rows.append(
            {
                **row,
                "sentence_quiz1": endings[first],
                "sentence_quiz2": endings[1 - first],
                "answer_right_ending": first + 1,
            }
        )
    _write(file, rows)
    return file


def translations(folder: Path, model: Path, examples: int) -> Values:
    """Return the scores of the harness's generation from our prompts, by the harness (chrF) and sacrebleu (spBLEU)."""
    config = EvaluateConfig(shots={"translation": 1}, task_examples=examples)
    (task,) = load.load(config, {"translation.en-tr": PARALLEL})
    shown = "".join(f"{item.query} {item.reference}\n\n" for item in task.shots)
    rows = [{"prompt": shown + item.query, "reference": item.reference} for item in task.items]
    _write(folder / "rows.jsonl", rows)
    until = {"until": ["\n"], "max_gen_toks": 200, "do_sample": False}
    config = {
        "task": "translation", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test", "output_type": "generate_until", "doc_to_text": "prompt", "doc_to_target": "reference",
        "num_fewshot": 0, "generation_kwargs": until, "metric_list": [{"metric": "chrf"}],
    }  # fmt: skip
    (folder / "translation.yaml").write_text(json.dumps(config), encoding="utf-8")
    values, written = direct(folder, model, "translation", ",add_bos_token=True")
    pieces = SentencePieceProcessor(model_file=str(PIECES))
    cut = [
        [" ".join(pieces.encode(text.strip(), out_type=str)) for text in texts]
        for texts in (written, [row["reference"] for row in rows])
    ]
    bleu = BLEU(tokenize="none", force=True).corpus_score(cut[0], [cut[1]]).score
    return {"spbleu": bleu, "chrf": values["chrf"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="100 examples of choice, 50 translations")
    parser.add_argument(
        "--xnli", type=Path, metavar="FILE", help="Turkish XNLI; without it, pairs of held-out sentences"
    )
    parser.add_argument("--stories", type=Path, metavar="FOLDER", help="English, in the files of XStoryCloze")
    arguments = parser.parse_args()
    quick = arguments.quick
    examples = 100 if quick else 0
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    tables: dict[str, dict[str, Values]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = complete(root / "model")
        for kind, language, file, shots in (
            ("xcopa", "tr", XCOPA, 0),
            ("xcopa", "tr", XCOPA, 5),
            ("xnli", "tr", arguments.xnli or pairs(root / "pairs.jsonl", 300), 0),
            ("xstorycloze", "en", stories(root / "stories.jsonl", 150), 1),
            *(("xstorycloze", "en", arguments.stories, shots) for shots in (0, 5) if arguments.stories),
        ):
            out = root / f"{kind}{shots}"
            rows = {"nemo-adapt compare": ours(out, model, kind, language, file, shots, examples)}
            rows["lm_eval, our task files"] = direct(out / "tasks", model, f"{kind}_{language}")[0]
            if kind in STOCK and not shots:
                own = stock(root, kind, language, file, examples)
                rows[f"lm_eval, its own {kind}_{language}"] = direct(root, model, own)[0]
            tables[f"{kind} {language}, {shots} shots"] = rows
        lines = 50 if quick else 200
        (root / "translation").mkdir()
        tables["translation en-tr, 1 shots"] = {
            "nemo-adapt compare": ours(root / "lines", model, "translation", "en-tr", PARALLEL, 1, lines),
            "lm_eval and sacrebleu": translations(root / "translation", model, lines),
        }
    print(f"lm_eval {importlib.metadata.version('lm_eval')}; stories260K")
    same = True
    for title, rows in tables.items():
        metrics = list(next(iter(rows.values())))
        print(f"\n| {title} | {' | '.join(metrics)} |\n| --- |{' ---: |' * len(metrics)}")
        for name, values in rows.items():
            print(f"| {name} | {' | '.join(f'{values[metric]:.4f}' for metric in metrics)} |")
        shown = [[round(values[metric], 4) for metric in metrics] for values in rows.values()]
        same &= all(each == shown[0] for each in shown)
    print("\nthe same numbers" if same else "\nNOT the same numbers")
    raise SystemExit(not same)


def complete(folder: Path) -> Path:
    """Copy the model and add a tokenizer.json, as in an exported folder; return the copy."""
    folder.mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / file).symlink_to(MODEL / file)
    hf_tokenizer.load(MODEL).save_pretrained(folder)
    return folder


def _number(value: object) -> object:
    """Convert digits of a TSV to numbers, as in the Hub's data sets."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _write(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
