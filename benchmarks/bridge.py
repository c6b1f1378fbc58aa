"""Our converter against Megatron-Bridge 0.3.1: the same Megatron tensors at TP=2, seconds and memory of a 2 GB model.

    python benchmarks/bridge.py --venv FOLDER [--gb N]

FOLDER is Bridge's own virtual environment; it is made there if it does not exist (some gigabytes). Bridge runs on the
CPU with megatron-core's own layers. Compared bit by bit, for a tiny Llama and a tiny Qwen2: each rank's tensors as
Bridge loads them and as training loads the checkpoint made by `convert`. Measured in turn, in separate processes:
Bridge from the model folder to a model in memory; nemo_adapt from the model folder to a checkpoint on disk, and from
there to a model in memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from convert import make_model

from nemo_adapt import convert
from nemo_adapt.config import Config
from nemo_adapt.machine.facts import peak_memory_mib, versions

PEER = Path(__file__).parent / "peers" / "megatron_bridge.py"
PINS = Path(__file__).parent.parent / "tests" / "bridge" / "requirements.txt"
INSTALL = (["torch==2.13.0"], ["--requirement", str(PINS)], ["--no-deps", "megatron-bridge==0.3.1"])
"""Arguments of pip: versions that work together, as for the tests; torchvision must not be installed."""
TINY = {
    "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "rope_theta": 10000.0, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2, "use_sliding_window": False,
}  # fmt: skip
"""config.json of a tiny model, with the key names of transformers 4, which Bridge reads."""
MODELS = {
    "llama": {**TINY, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False},
    "qwen2": {**TINY, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": False},
}


def environment(venv: Path, steps: Sequence[list[str]]) -> Path:
    """Return the Python of a virtual environment; make it if needed, with one ``pip install`` per step."""
    python = venv.absolute() / "bin/python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        for packages in steps:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "-y", "torchvision"], check=True)
    return python


def write_tiny(folder: Path, config: dict) -> None:
    """Write a random model with this config.json."""
    from safetensors.torch import save_file

    from nemo_adapt import families
    from nemo_adapt.families.family import hf_shapes

    family = families.of(config)
    shape = family.shape(config)
    draw = torch.Generator().manual_seed(0)
    sizes = hf_shapes(family.entries(shape), shape.layers)
    folder.mkdir()
    tensors = {name: torch.randn(size, generator=draw) for name, size in sizes.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_map(folder: Path, vocab: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "token_map.json").write_text(json.dumps({"source_vocab": vocab, "tokens": []}), encoding="utf-8")


def load(rank: int, place: Path, tp: int, precision: str) -> object:
    """Load this rank's part of the model that training would start from."""
    from nemo_adapt.model.build import start_parallel
    from nemo_adapt.resize.adapted import load_adapted

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(tp)}
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=rank, world_size=tp)
    config = Config()
    config.parallel.tp, config.resize.padded_vocab_multiple, config.train.precision = tp, 1, precision
    start_parallel(config.parallel, 1)
    return load_adapted(config, place / "model", place / "checkpoint", place / "tokenizer")[0][0]


def save_rank(rank: int, place: Path, tp: int) -> None:
    from safetensors.torch import save_file

    model = load(rank, place, tp, "fp32")
    tensors = {name: value.detach().contiguous().clone() for name, value in model.named_parameters()}
    save_file(tensors, place / f"ours_{rank}.safetensors")


def converted(place: Path) -> None:
    (place / "checkpoint").mkdir()
    convert.build(Config(), {"model": [place / "model"]}, place / "checkpoint")


def compare_tensors(name: str, python: Path, place: Path) -> int:
    """Compare the tensors of both ranks and return their number; exit at the first that differs."""
    from safetensors.torch import load_file

    place.mkdir()
    write_tiny(place / "model", MODELS[name])
    write_map(place / "tokenizer", TINY["vocab_size"])
    converted(place)
    torch.multiprocessing.spawn(save_rank, (place, 2), nprocs=2)
    (place / "theirs").mkdir()
    subprocess.run([python, PEER, place / "model", place / "theirs", "2"], check=True, stdout=subprocess.DEVNULL)
    same = 0
    for rank in range(2):
        ours, theirs = (
            load_file(place / f"ours_{rank}.safetensors"),
            load_file(place / f"theirs/rank_{rank}.safetensors"),
        )
        if ours.keys() != theirs.keys():
            raise SystemExit(f"{name}: tensors that only one has: {sorted(ours.keys() ^ theirs.keys())}")
        unlike = [key for key in ours if not torch.equal(ours[key], theirs[key])]
        if unlike:
            raise SystemExit(f"{name}, rank {rank}: {len(unlike)} tensors differ: {unlike[:5]}")
        same += len(ours)
    return same


def child(name: str, place: Path) -> None:
    """Measure one of our steps in this process, without imports, as for Bridge."""
    import nemo_adapt.model.build
    import nemo_adapt.resize.adapted  # noqa: F401

    began = time.perf_counter()
    if name == "convert":
        converted(place)
    else:
        load(0, place, 1, "bf16")
    print(json.dumps({"seconds": round(time.perf_counter() - began, 2), "peak_mib": peak_memory_mib()}))


def measured(command: list[object]) -> dict[str, float]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Run the benchmark: compare tensors, then seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without the large model")
    parser.add_argument("--venv", type=Path, help="Bridge's virtual environment; made if it is not there")
    parser.add_argument("--gb", type=float, default=2.0, help="size of the model that is measured")
    for hidden in ("--child", "--place"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, Path(arguments.place))
        return
    if not arguments.venv:
        print("summary: nothing compared: name Bridge's virtual environment with --venv")
        return
    python = environment(arguments.venv, INSTALL)
    print(f"versions: {json.dumps(versions())}, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        same = {name: compare_tensors(name, python, Path(folder) / name) for name in MODELS}
        print(f"TP=2: {same} tensors of both ranks, all the same bits", flush=True)
        says = []
        if not arguments.quick:
            place = Path(folder) / "large"
            size = make_model(place / "model", arguments.gb)
            (place / "theirs").mkdir()
            ours = [sys.executable, __file__, "--place", place, "--child"]
            found = {
                "nemo_adapt, convert": measured([*ours, "convert"]),
                "nemo_adapt, load": measured([*ours, "load"]),
                "Megatron-Bridge, load": measured([python, PEER, place / "model", place / "theirs", "1", "measure"]),
            }
            says = [f"{name} {facts['seconds']} s, {facts['peak_mib']:,} MiB" for name, facts in found.items()]
            says.append(f"{size / 1e9:.1f} GB")
        print(f"summary: the same tensors; {'; '.join(says)}")


if __name__ == "__main__":
    main()
