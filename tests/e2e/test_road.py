"""The whole road in one command, at TP=2: what it writes, and what a second run does."""

import json
import math
import re
import subprocess
import sys

import pytest
import torch
from helpers.command import nemo_adapt
from helpers.folders import Folders
from ranks import model_bodies
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_adapt.checkpoint.folders import COMMON
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import recipes
from nemo_adapt.tokens.token_map import TokenMap

STAGES = ["tokenizer", "data (target)", "data (replay)", "convert", "train", "export", "evaluate"]


@pytest.fixture(scope="module")
def finished(world, short):
    """Return a finished run's folder, and the answer of its command."""
    answer = nemo_adapt("run", *short, "run.name=whole", "train.phases=[{steps: 8, lr: 1e-3}]", cwd=world)
    assert answer.code == 0, answer.out[-2000:] + answer.err
    return world / "runs" / "whole", answer


def test_every_stage_writes_its_folder_and_manifest(finished):
    run, answer = finished
    for stage in STAGES:
        assert f"[{stage}] done in" in answer.out
    for folder in ("tokenizer", "data/target", "data/replay", "convert", "train", "export", "evaluate"):
        manifest = json.loads((run / folder / "manifest.json").read_text())
        assert manifest["seconds"] >= 0 and manifest["versions"]["megatron-core"], folder
    assert not list(run.rglob("*.partial"))
    assert (run / "evaluate" / "report.html").stat().st_size > 50_000
    assert len(list((run / "evaluate" / "plots").glob("*.png"))) >= 3
    lines = answer.out.rstrip().splitlines()
    assert "report.html" in lines[-4] and len([line for line in lines[-3:] if line.strip()]) == 3


def test_report_has_the_promised_fields_and_better_fertility(finished):
    run, _ = finished
    report = json.loads((run / "evaluate" / "report.json").read_text())
    for model in ("base", "adapted"):
        assert set(report["bits_per_byte"][model]) == {"tr", "en"}
    assert {"tokens", "bytes", "seconds", "tokens_per_second"} <= set(report["training"])
    row = report["fertility"][0]
    assert {"tokenizer", "text", "language", "sentences", "words", "bytes", "tokens", "tokens_per_word"} <= set(row)
    fertility = json.loads((run / "tokenizer" / "fertility.json").read_text())
    tokens = {(row["tokenizer"], row["language"]): row["tokens"] for row in fertility}
    assert tokens["extended", "tr"] < 0.8 * tokens["base", "tr"]


def test_training_metrics_count_steps_tokens_and_bytes(finished):
    run, _ = finished
    metrics = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in metrics] == [2, 4, 6, 8]
    assert metrics[-1]["tokens"] == 8 * 8 * 64 and metrics[-1]["loss"] < metrics[0]["loss"]
    counts = [json.loads((run / "data" / name / "counts.json").read_text()) for name in ("target", "replay")]
    low, high = sorted(count["bytes"] / count["tokens"] for count in counts)
    assert 0.95 * low < metrics[-1]["bytes"] / metrics[-1]["tokens"] < 1.05 * high


def test_exported_model_has_megatrons_logits_in_transformers(finished, ranks, world):
    """Compared with Megatron at TP=2 on the last checkpoint."""
    run, _ = finished
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    model = AutoModelForCausalLM.from_pretrained(run / "export", dtype=torch.float32)
    token_map = TokenMap.load(run / "tokenizer")
    assert len(tokenizer) == model.config.vocab_size == token_map.target_vocab == len(model.lm_head.weight)
    ids = tokenizer("Selma çarşıya gitti ve bir elma aldı.", return_tensors="pt").input_ids
    assert (ids >= token_map.source_vocab).any()
    with torch.no_grad():
        reference = model(ids).logits
    config = recipes.read(run / "config.yaml")
    checkpoint = run / "train" / "checkpoints" / "iter_0000008"
    folders = Folders(world / "runs/smallworld/base", run / "convert", run / "tokenizer")
    ours = ranks(2).run(model_bodies.trained_logits, config, folders, checkpoint, ids)[0]
    torch.testing.assert_close(ours[..., : token_map.target_vocab], reference, rtol=0, atol=1e-4)


def test_padded_rows_are_not_exported(finished):
    run, _ = finished
    rows = TokenMap.load(run / "tokenizer").target_vocab
    padded = Checkpoint(run / "train" / "checkpoints" / "iter_0000008").shapes["embedding.word_embeddings.weight"][0]
    assert padded % 256 == 0 and padded > rows
    assert json.loads((run / "export" / "config.json").read_text())["vocab_size"] == rows


def test_bits_per_byte_equal_those_of_a_loop_with_transformers(finished, world):
    """The loop over the documents is written from the protocol in the report."""
    run, _ = finished
    report = json.loads((run / "evaluate" / "report.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    model = AutoModelForCausalLM.from_pretrained(run / "export", dtype=torch.float32)
    nats = size = 0.0
    for line in (world / "runs/smallworld/text/tr.heldout.txt").read_text(encoding="utf-8").splitlines():
        if size + len(line.encode()) > 2000:
            break
        ids = tokenizer(line, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[tokenizer.bos_token_id, *ids[:-1]]])).logits[0]
        nats += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum"))
        size += len(line.encode())
    assert abs(nats / math.log(2) / size - report["bits_per_byte"]["adapted"]["tr"]) < 1e-3


def test_second_run_skips_every_stage(finished, world, short):
    answer = nemo_adapt("run", *short, "run.name=whole", "train.phases=[{steps: 8, lr: 1e-3}]", cwd=world)
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if line.startswith("[")] == [
        f"[{stage}] finished before, skipped" for stage in STAGES
    ]


def test_run_under_torchrun_does_every_stage_once(world, short):
    """Every rank runs the same command; what is to be done once is done by the first. The best checkpoint is exported,
    which is that of the last step, as no other is scored."""
    words = ["run", *short, "run.name=launched", "train.phases=[{steps: 2, lr: 1e-3}]"]
    words += ["train.keep_best=true", "train.score_every=9", "export.checkpoint=best"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "nemo_adapt", *words], cwd=world, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    begun = re.findall(r"^\[[a-z ()]+\]$", done.stdout, re.MULTILINE)  # gloo prints lines in brackets too
    assert begun == [f"[{stage}]" for stage in STAGES]
    assert (world / "runs" / "launched" / "evaluate" / "manifest.json").is_file()


def test_each_stage_is_a_command(finished, world, short):
    """``run`` leaves ``resize`` to ``train``; the fixture ``prepared`` runs the first stages one by one."""
    words = [*short, "run.name=whole", "train.phases=[{steps: 8, lr: 1e-3}]"]
    early = nemo_adapt("export", *short, "run.name=early", cwd=world)
    assert early.code == 2 and "run the tokenizer stage before export" in early.err
    answer = nemo_adapt("resize", *words, cwd=world)
    assert answer.code == 0 and "[resize] done in" in answer.out, answer.err
    answer = nemo_adapt("export", *words, cwd=world)
    assert answer.code == 0 and "[export] finished before, skipped" in answer.out
    assert (world / "runs" / "whole" / "resize" / COMMON).is_file()
    resized = Checkpoint(world / "runs" / "whole" / "resize")
    assert resized.shapes["embedding.word_embeddings.weight"][0] % 256 == 0
