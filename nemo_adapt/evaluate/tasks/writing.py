"""Tasks whose answer is a generated line: translations and headlines, greedy and few-shot."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nemo_adapt.evaluate import generation
from nemo_adapt.evaluate.generation import Limits
from nemo_adapt.evaluate.tasks import scores
from nemo_adapt.evaluate.tasks.kinds import KINDS, Line
from nemo_adapt.evaluate.tasks.load import Task
from nemo_adapt.evaluate.tasks.scores import Result

SHOWN = 3
"""Generated lines that the report shows."""


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    batch: int,
    positions: int | None,
    new_ids: frozenset[int],
    spbleu_model: Path | None,
) -> Result:
    """Generate and score the answers to a task's questions.

    ``positions``: the model's context length; ``spbleu_model``: SentencePiece model of spBLEU (``None``: no spBLEU).
    """
    shown = "".join(f"{item.query} {item.reference}\n\n" for item in _lines(task.shots))
    items = _lines(task.items)
    found = generation.write(
        model,
        tokenizer,
        [shown + item.query for item in items],
        Limits(KINDS[task.kind].most_tokens, one_line=True),
        batch,
        positions,
        new_ids,
        f"writing {task.name}",
    )
    texts = [written.text for written in found.written]
    rows = scores.lines(texts, [item.reference for item in items], spbleu_model, rouge=task.kind == "headline")
    facts = {
        "tokens": sum(written.tokens for written in found.written),
        "bytes": sum(written.bytes for written in found.written),
        "new": sum(written.new for written in found.written),
        "cut": found.cut,
        "lines": [
            {"query": item.query, "reference": item.reference, "text": text}
            for item, text in zip(items[:SHOWN], texts, strict=False)
        ],
    }
    return Result(next(iter(rows)), rows, found.seconds, facts)


def _lines(items: list) -> list[Line]:  # type: ignore[type-arg]
    return [item for item in items if isinstance(item, Line)]
