"""Multiple-choice tasks through lm-evaluation-harness: local YAML and JSON lines, no network.

``write`` makes a folder that reproduces the same numbers with the harness's own command::

    cd runs/NAME/evaluate/tasks
    lm_eval --model hf --model_args pretrained=../../export,softmax_dtype=float32 --include_path . --tasks xcopa_tr

``acc_bytes`` is the paper's measure: the answer with the largest log-probability per UTF-8 byte.
"""

import io
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import bits_per_byte
from nemo_adapt.evaluate.tasks.kinds import Item, MultipleChoice
from nemo_adapt.evaluate.tasks.load import Task
from nemo_adapt.evaluate.tasks.scores import Result
from nemo_adapt.tokens import documents

METRIC = "acc_bytes"
METRICS = (METRIC, "acc", "acc_norm")
SOFTMAX = "float32"
"""Dtype of log-probabilities and their sums, whatever the model's: in bf16 those of many answers would be equal."""
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def write(task: Task, folder: Path) -> Path:
    """Write ``NAME.yaml``, ``NAME.jsonl`` and, for few-shot examples, ``NAME.shots.jsonl``; return the YAML file.

    Paths in the files are relative to the folder, so the harness has to be started there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"test": f"{task.name}.jsonl"} | ({"shots": f"{task.name}.shots.jsonl"} if task.shots else {})
    literal = _has_dates(task)
    for split, items in (("test", task.items), ("shots", task.shots)):
        if items:
            (folder / files[split]).write_text("".join(_line(item, literal) for item in items), encoding="utf-8")
    path = folder / f"{task.name}.yaml"
    path.write_text(json.dumps(_config(task, files, literal), indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def run(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: Task, batch: int) -> Result:
    """Score one task of a loaded model with the harness, ``batch`` answers per pass or as many as
    ``bits_per_byte.LOGITS_PER_PASS`` allows, at least one.

    Raises ``UserError`` for an answer longer than the model's context. The harness cuts the beginning of prompts that
    are too long; the fact ``cut`` counts the examples affected.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        from lm_eval import evaluator
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        place = Path(folder)
        config = json.loads(write(task, place).read_text(encoding="utf-8"))
        config["dataset_kwargs"] = {
            "data_files": {split: str(place / name) for split, name in config["dataset_kwargs"]["data_files"].items()},
            "cache_dir": str(place / "cache"),
        }
        (place / f"{task.name}.yaml").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
        scorer = HFLM(pretrained=model, tokenizer=tokenizer, softmax_dtype=SOFTMAX)
        _check_room(scorer, task)
        logits = min(_longest(tokenizer, task), scorer.max_length) * model.config.get_text_config().vocab_size
        scorer.batch_size_per_gpu = max(1, min(batch, bits_per_byte.LOGITS_PER_PASS // logits))
        began = time.perf_counter()
        evaluator.get_git_commit_hash = lambda: None  # outside a repository git would print an error
        found = evaluator.simple_evaluate(
            model=scorer,
            tasks=[task.name],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            bootstrap_iters=0,
            log_samples=True,
        )
        seconds = time.perf_counter() - began
    samples = sorted(found["samples"][task.name], key=lambda sample: sample["doc_id"])
    rows = {metric: [[float(sample[metric]), 1.0] for sample in samples] for metric in METRICS}
    cut = sum(any(_exceeds_context(scorer, "".join(request)) for request in sample["arguments"]) for sample in samples)
    return Result(METRIC, rows, seconds, {"cut": cut})


def _check_room(scorer: Any, task: Task) -> None:
    for number, item in enumerate(_choices(task.items), start=1):
        for answer in item.choices:
            if _exceeds_context(scorer, f" {answer}"):
                raise UserError(
                    f"evaluate.tasks.{task.kind}.{task.language}: an answer of example {number}, {answer[:40]!r}…, has "
                    f"more tokens than the model reads at once ({scorer.max_length}): leave it out"
                )


def _longest(tokenizer: PreTrainedTokenizerFast, task: Task) -> int:
    """Return the tokens of the longest prompt with an answer, or a few more, as its parts are encoded one by one."""
    shown = [f"{item.query} {item.choices[item.gold]}\n\n" for item in _choices(task.shots)]
    asked = [f"{item.query} {answer}" for item in _choices(task.items) for answer in item.choices]
    sizes = [len(ids) for ids in documents.encode(tokenizer, [*shown, *asked])]
    return sum(sizes[: len(shown)]) + max(sizes[len(shown) :])


def _choices(items: Iterable[Item]) -> list[MultipleChoice]:
    return [item for item in items if isinstance(item, MultipleChoice)]


def _exceeds_context(scorer: Any, text: str) -> bool:
    """Return whether a text exceeds the model's context.

    A token is at least one byte, so a text with fewer bytes than the context's tokens need not be encoded.
    """
    most = scorer.max_length
    return len(text.encode()) >= most and len(scorer.tok_encode(text, add_special_tokens=False)) > most


def _has_dates(task: Task) -> bool:
    """Return whether any answer begins with a date (2020-01-31): ``datasets`` reads a column of such texts in JSON as
    points in time."""
    return any(DATE.match(answer) for item in (*task.items, *task.shots) for answer in getattr(item, "choices", ()))


def _config(task: Task, files: dict[str, str], literal: bool) -> dict[str, Any]:
    """Return the task as a configuration of the harness; ``literal``: see ``_line``."""
    shown = {"fewshot_split": "shots", "num_fewshot": len(task.shots), "fewshot_config": {"sampler": "first_n"}}
    return {
        "task": task.name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        **(shown if task.shots else {"num_fewshot": 0}),
        "output_type": "multiple_choice",
        "doc_to_text": "query",
        "doc_to_choice": "{{choices}}" if literal else "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": metric} for metric in METRICS],
    }


def _line(item: Any, literal: bool) -> str:
    """Return a question as a line of JSON; ``literal``: its answers as one text, the list as Python writes it, which
    the harness reads again."""
    assert isinstance(item, MultipleChoice)
    choices = repr([*item.choices]) if literal else item.choices
    content = {"query": item.query, "choices": choices, "gold": item.gold}
    return json.dumps(content, ensure_ascii=False) + "\n"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the harness and its libraries below errors, and keep them off the network.

    Progress bars stay on a terminal; elsewhere, where they would fill a log, stderr is discarded.
    """
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
