"""``nemo-adapt doctor``: installed packages and hardware, and the fallback for each missing one.

    nemo-adapt doctor [json=FILE]

Run it first when something does not work, and put its output into a bug report. It works on any machine and imports
little; what cannot be determined is reported as missing or not known. ``json=-`` prints JSON instead of the table.
"""

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from nemo_adapt import __version__
from nemo_adapt.config import recipes
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.machine.workers import cores

PACKAGES = {
    "needed": (
        *("torch", "megatron-core", "transformers", "tokenizers", "sentencepiece", "safetensors", "numpy", "numba"),
        *("hydra-core", "pyarrow"),
    ),
    "optional": (
        *("transformer-engine", "megatron-bridge", "nemo-run", "nemo-toolkit", "nvidia-modelopt", "flash-attn"),
        *("nvidia-resiliency-ext", "triton", "gensim", "lm-eval", "sacrebleu", "wandb", "mlflow"),
    ),
}
"""Distributions whose versions are reported. Not apex: an unrelated one has its name, so its kernels are looked for."""
COMMANDS = {
    "driver": ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    "sbatch": ("sbatch", "--version"),
    "sinfo": ("sinfo", "--noheader", "--format=%P %a %D nodes %T %G"),
    "enroot": ("enroot", "version"),
}
"""External programs to query. One that is missing, fails or takes more than ``PATIENCE`` seconds gives ``None``."""
PATIENCE = 5.0
SHARED = Path("/dev/shm")
GIB = 1 << 30


@dataclass
class DoctorConfig:
    json: str = ""
    """File for the same facts as JSON; ``-`` prints them instead of the table."""


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for unknown keys and for a ``json`` file that cannot be written."""
    wanted = recipes.parse(DoctorConfig, words).json
    out = Path(wanted)
    if wanted and not out.parent.is_dir():
        raise UserError(f"json={wanted}: the folder {out.parent} does not exist")
    found = report()
    if wanted == "-":
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for name, lines in report_lines(found):
        for number, line in enumerate(lines):
            say(f"{name if not number else '':<15}{line}")
    if wanted:
        try:
            write_json(out, found)
        except OSError as error:
            raise UserError(f"json={wanted} cannot be written: {error.strerror}; name another file") from None


def report() -> dict[str, Any]:
    """Return all facts about this machine as plain values; ``None`` for what is missing."""
    try:
        torch_facts = _torch_facts()
    except Exception as error:  # a broken installation is itself a finding
        torch_facts = {"error": f"{type(error).__name__}: {error}"}
    asked = {name: _ask(*command) for name, command in COMMANDS.items()}
    return {
        "nemo_adapt": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {kind: {name: _version(name) for name in names} for kind, names in PACKAGES.items()},
        "uses": torch_facts.pop("uses", {}),
        "torch": torch_facts,
        "cores": _attempt(cores, os.cpu_count()),
        "memory": {**_attempt(_memory, {}), "limit_gib": _attempt(_memory_limit, None)},
        "disk": {name: _attempt(partial(_disk, place), None) for name, place in _places().items()},
        "driver": _first(asked["driver"]),
        "slurm": {
            "version": _first(asked["sbatch"]),
            "sbatch": shutil.which("sbatch"),
            "partitions": asked["sinfo"],
            "job": os.environ.get("SLURM_JOB_ID"),
            "containers": _first(asked["enroot"]),
        },
    }


def report_lines(found: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the report for printing: a heading, and the lines beside it."""
    yield "nemo-adapt", [f"{found['nemo_adapt']}, Python {found['python']}, {found['system']}"]
    for kind, versions in found["packages"].items():
        there = [f"{name} {version}" for name, version in versions.items() if version]
        missing = [name for name, version in versions.items() if not version]
        yield kind, [*_wrapped(there), *(f"missing: {line}" for line in _wrapped(missing))]
    broken = f"torch cannot be used: {found['torch'].get('error')}"
    yield "uses", [f"{what}: {how}" for what, how in found["uses"].items()] or [broken]
    yield "devices", _devices(found)
    memory = found["memory"]
    limit = f", at most {memory['limit_gib']:,.1f} GiB in this container" if memory["limit_gib"] else ""
    yield "memory", [_free(memory) + limit]
    disks = {name: each for name, each in found["disk"].items() if each}
    yield "disk", [f"{_free(each)} in {name}" for name, each in disks.items()]
    slurm = found["slurm"]
    job = [f"in job {slurm['job']}"] if slurm["job"] else []
    containers = [f"enroot {slurm['containers']}"] if slurm["containers"] else []
    absent = f"{slurm['sbatch']} does not work: no slurm.conf?" if slurm["sbatch"] else "not found (no sbatch)"
    yield "Slurm", [slurm["version"] or absent, *(slurm["partitions"] or []), *job, *containers]


def _devices(found: dict[str, Any]) -> list[str]:
    torch_facts = found["torch"]
    gpus = [f"{each['name']}, {each['memory_mib'] / 1024:.0f} GiB" for each in torch_facts.get("gpus", [])]
    named = {"driver": found["driver"], **torch_facts.get("versions", {})}
    versions = ", ".join(f"{name} {version}" for name, version in named.items() if version)
    lines = [f"{found['cores']} cores", *(gpus or ["no GPU that torch can use"])]
    return [*lines, *([versions] if versions else [])]


def _torch_facts() -> dict[str, Any]:
    """Return the facts that need torch: devices, backends, and which implementation is used for what."""
    from nemo_adapt import devices
    from nemo_adapt.machine import fusion

    engine, apex = devices.has_transformer_engine(), devices.has_apex()
    installed = importlib.util.find_spec("transformer_engine") is not None
    missing = "there is no GPU for Transformer Engine" if installed else "no Transformer Engine"
    facts = devices.facts()
    others = [name for name in facts["backends"] if name != facts["backend"]]
    theirs = "Transformer Engine's" if installed else "apex's" if apex else ""
    kernels = theirs if devices.on_gpu() else ""  # without a GPU they are not used
    none = f"there is no GPU for {theirs}" if theirs else "no Transformer Engine, no apex"
    uncompiled = "torch.compile does not work, or is off" if devices.on_gpu() else "kernels are compiled on a GPU"
    facts["apex"] = apex
    facts["uses"] = {
        "layers": "Transformer Engine's" if engine else f"megatron-core's with torch's attention ({missing})",
        "optimizer": f"{kernels} fused Adam" if kernels else f"torch's fused AdamW ({none})",
        "clipping": f"{kernels} kernels" if kernels else f"torch, in place ({none})",
        "element-wise functions": "compiled kernels" if fusion.compiles() else f"torch's operations ({uncompiled})",
        "context parallelism": f"keys and values {'go around' if engine else 'are gathered'}",
        "process groups": facts["backend"] + (f" (also available: {', '.join(others)})" if others else ""),
        "fastText vectors": "gensim" if importlib.util.find_spec("gensim") else "cannot be trained (no gensim)",
    }
    return facts


def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _attempt(find: Callable[[], Any], otherwise: Any) -> Any:
    """Return ``find()``, or ``otherwise`` if it raises any error."""
    try:
        return find()
    except Exception:
        return otherwise


def _ask(*command: str) -> list[str] | None:
    """Return the lines that a program prints; ``None`` if it is missing, fails or prints none."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] or None


def _first(lines: list[str] | None) -> str | None:
    return lines[0] if lines else None


def _memory() -> dict[str, float]:
    import psutil  # type: ignore[import-untyped]

    memory = psutil.virtual_memory()
    return {"total_gib": _gib(memory.total), "free_gib": _gib(memory.available)}


def _memory_limit() -> float | None:
    """Return the memory limit of the container (cgroup v2) in GiB, or ``None``."""
    said = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    return _gib(int(said)) if said != "max" else None


def _places() -> dict[str, Path]:
    """Return the folders whose free space matters: this one, temporary files, and shared memory of ranks."""
    return {"this folder": Path.cwd(), tempfile.gettempdir(): Path(tempfile.gettempdir()), str(SHARED): SHARED}


def _disk(place: Path) -> dict[str, float]:
    usage = shutil.disk_usage(place)
    return {"total_gib": _gib(usage.total), "free_gib": _gib(usage.free)}


def _gib(size: int) -> float:
    return round(size / GIB, 1)


def _free(sizes: dict[str, Any]) -> str:
    return f"{sizes['free_gib']:,.1f} of {sizes['total_gib']:,.1f} GiB free" if "free_gib" in sizes else "not known"


def _wrapped(parts: list[str], width: int = 100) -> list[str]:
    """Join ``parts`` by commas into lines of about ``width`` columns."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) < width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines
