"""All stages on a real model: stories260K to Turkish at TP=2, and whether the exported folder is what was trained.

    python benchmarks/stories260k.py [--quick]

Runs the recipe `stories260k_tr` (data: the folder in NEMO_ADAPT_DATA, default ../shared/data). Then computes the
exported folder's bits per byte with a plain loop that uses only transformers, and compares its logits with Megatron's
at TP=2 on the last checkpoint. The peer is a plain transformers loop with naively appended tokens, which reached 2.41
bits per byte in Turkish and 3.00 in English in 3 minutes on two cores (2.33 and 2.94 in 5). `--quick` trains 20 steps.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from command import command
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_adapt.config import recipes

PEER = {"tr": 2.41, "en": 3.00}
CHECK_DOCUMENTS = 400
TEXT = "Bugün hava çok güzel. Once upon a time there was a little girl."


def megatron_logits(folder: str) -> None:
    """Run on each rank of the comparison: compute the last checkpoint's logits of TEXT; the first rank saves them."""
    import torch.distributed as dist
    from megatron.core import parallel_state

    from nemo_adapt.export import chosen_checkpoint
    from nemo_adapt.model.build import start_parallel
    from nemo_adapt.model.weights import load_weights
    from nemo_adapt.resize.adapted import adapted_shape, build_adapted
    from nemo_adapt.tokens.token_map import TokenMap

    run = Path(folder)
    config = recipes.read(run / "config.yaml")
    start_parallel(config.parallel, 0)
    (model,) = build_adapted(config, adapted_shape(Path(config.model.path), TokenMap.load(run / "tokenizer")))
    model.eval()
    checkpoint = chosen_checkpoint(run / "train", "last")
    load_weights([model], checkpoint)
    ids = AutoTokenizer.from_pretrained(run / "export")(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        shard = model(ids, torch.arange(ids.shape[1])[None], None)
    group = parallel_state.get_tensor_model_parallel_group()
    shards = [torch.empty_like(shard) for _ in range(group.size())]
    dist.all_gather(shards, shard.contiguous(), group=group)
    if dist.get_rank() == 0:
        torch.save(torch.cat(shards, -1), run / "logits.pt")


def logits_difference(run: Path, model: torch.nn.Module, ids: torch.Tensor) -> float:
    """Return the largest difference between transformers' logits and Megatron's at TP=2."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([sys.executable, *launch, __file__, "--logits-of", str(run)], check=True)
    megatron = torch.load(run / "logits.pt", weights_only=True)
    with torch.no_grad():
        reference = model(ids).logits
    return float((megatron[..., : reference.shape[-1]] - reference).abs().max())


def plain_bits_per_byte(model: torch.nn.Module, tokenizer: AutoTokenizer, path: Path, documents: int) -> float:
    """Score one document at a time by the report's protocol, for documents that fit into a window."""
    nats = size = 0.0
    for line in path.read_text(encoding="utf-8").splitlines()[:documents]:
        ids = tokenizer(line, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[tokenizer.bos_token_id, *ids[:-1]]])).logits[0]
        nats += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum"))
        size += len(line.encode())
    return nats / math.log(2) / size


def stage_score(run: Path, model: torch.nn.Module, tokenizer: AutoTokenizer, path: Path, documents: int) -> float:
    """Return the evaluate stage's own number on the same documents."""
    from nemo_adapt.evaluate.bits_per_byte import read_text, score

    config = recipes.read(run / "config.yaml")
    texts = read_text(path)[:documents]
    return score(model, tokenizer, texts, config.train.seq_length, config.evaluate.batch).bits_per_byte


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--logits-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.logits_of:
        megatron_logits(arguments.logits_of)
        return
    with tempfile.TemporaryDirectory() as place:
        words = [f"run.dir={place}", *(["train.phases.0.steps=20"] if arguments.quick else [])]
        command("run", "recipe=stories260k_tr", *words)
        run = Path(place) / "stories260k_tr"
        report = json.loads((run / "evaluate" / "report.json").read_text(encoding="utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(run / "export")
        model = AutoModelForCausalLM.from_pretrained(run / "export", dtype=torch.float32).eval()
        ids = tokenizer(TEXT, return_tensors="pt").input_ids
        print(
            f"\nlogits, transformers against Megatron at TP=2: {logits_difference(run, model, ids):.1e} (at most 1e-4)"
        )
        texts = {language: Path(path) for language, path in recipes.read(run / "config.yaml").evaluate.texts.items()}
        for language, path in texts.items():
            plain = plain_bits_per_byte(model, tokenizer, path, CHECK_DOCUMENTS)
            ours = stage_score(run, model, tokenizer, path, CHECK_DOCUMENTS)
            print(f"bits per byte, {language}, {CHECK_DOCUMENTS} documents: plain loop {plain:.5f}, stage {ours:.5f}")
        bits = report["bits_per_byte"]
        training = report["training"]
        for language, peer in PEER.items():
            after = bits["adapted"][language]
            before = bits["base"][language]
            print(f"bits per byte, {language}: {before:.3f} -> {after:.3f} ({after / peer:.3f} of the peer)")
        print(
            f"summary: tr {bits['adapted']['tr']:.3f}, en {bits['adapted']['en']:.3f} bits per byte after "
            f"{training['seconds']:.0f} s and {training['tokens']:,} tokens of training at TP=2 "
            f"({training['tokens_per_second']:,.0f} tokens/s)"
        )


if __name__ == "__main__":
    main()
