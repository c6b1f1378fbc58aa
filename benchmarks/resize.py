"""Resizing a table: nemo_adapt against a plain copy and transformers, seconds and memory on the same rows.

    python benchmarks/resize.py [--quick] [--contestants A B]

A bf16 table of 32,000 x 4,096 grows to 48,000 rows (`--quick`: 8,000 x 1,024 to 12,000); a new token has 2 to 5 pieces,
drawn uniformly from the table, which is harder on caches and exchanges than text. Each contestant runs in its own
process, one after the other, on tables in memory; seconds are the best of some calls in that process, memory is the
peak of the first call beyond the old and the new table:

- `copy`: the new table's bytes copied from the old one, some rows twice: a lower bound for any resize;
- `copy on two ranks`: the same, each rank with half of the rows and the rest sent by the other;
- `nemo_adapt`: the strategy `subword_mean` by the engine, in one process and on two such ranks;
- `nemo_adapt covariance`: new rows drawn with the table's mean and covariance, as transformers does;
- `transformers`: `resize_token_embeddings` with `mean_resizing` of a model with a single table.

`shard of eight`: the last of eight shards of a 128,256 x 8,192 table that grows to 152,000, all of it new rows; only
the source rows that they use are in memory. `large`: that entire table in one process (5 GB). `omp`: the choice of 16
of 128,000 vectors of 100 numbers for each of 10,000, which is most of that strategy's work.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from scipy.sparse import csr_matrix

from nemo_adapt.config import ResizeConfig
from nemo_adapt.machine.facts import versions
from nemo_adapt.resize.engine import Resize
from nemo_adapt.resize.plan import Materials, Noise, RowPlan
from nemo_adapt.resize.strategies.omp import omp
from nemo_adapt.resize.table import Gathered, Indices, ShardedTable
from nemo_adapt.tokens.token_map import NewToken, TokenMap

FULL, QUICK = (32_000, 48_000, 4_096), (8_000, 12_000, 1_024)
LARGE, LARGE_RANKS = (128_256, 152_000, 8_192), 8
OMP_OLD, OMP_NEW = 128_000, 10_000
CALLS = 5
"""Calls of a contestant in its process, of which the best counts (only one if a call takes long)."""
MIB = 1 << 20


def table(rows: int, columns: int) -> torch.Tensor:
    """Return a table of normally distributed bf16 numbers, made block by block."""
    made = torch.empty(rows, columns, dtype=torch.bfloat16)
    draw = torch.Generator().manual_seed(0)
    for block in made.split(1000):
        block.copy_(torch.randn(block.shape, generator=draw) * 0.02)
    return made


def pieces(old: int, new: int) -> csr_matrix:
    """Return the weights of a subword mean [new, old]: 2 to 5 pieces per token, drawn uniformly."""
    draw = np.random.default_rng(0)
    counts = draw.integers(2, 6, new)
    ends = np.concatenate([[0], np.cumsum(counts)])
    weights = np.repeat(1.0 / counts, counts).astype(np.float32)
    return csr_matrix((weights, draw.integers(0, old, ends[-1]), ends), shape=(new, old))


def status(key: str) -> float:
    """Return VmRSS or VmHWM (its peak) of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def measured(call: Callable[[], torch.Tensor], calls: int) -> dict[str, float]:
    """Return the best seconds of some calls, and the first call's peak MiB beyond prior memory and its result."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or reused free memory would not show in the peak
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, see proc(5)
    before, seconds = status("VmRSS"), []
    for number in range(calls):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
        if number == 0:
            extra = status("VmHWM") - before - result.numel() * result.element_size() / MIB
        del result
    return {"seconds": round(min(seconds), 3), "extra_mib": round(max(0.0, extra), 1), "calls": calls}


def run_copy(old: int, new: int, columns: int) -> dict[str, float]:
    source = table(old, columns)

    def call() -> torch.Tensor:
        made = torch.empty(new, columns, dtype=source.dtype)
        made[:old] = source
        made[old:] = source[: new - old]
        return made

    return measured(call, CALLS)


def run_nemo_adapt(old: int, new: int, columns: int) -> dict[str, float]:
    source = ShardedTable(table(old, columns), (0, old))
    wake_up(source)
    return measured(lambda: resized(source, RowPlan(pieces(old, new - old)), old, 0, new), CALLS)


def run_covariance(old: int, new: int, columns: int) -> dict[str, float]:
    source = ShardedTable(table(old, columns), (0, old))
    plan = RowPlan(csr_matrix((new - old, old), dtype=np.float32), 1.0, Noise("covariance"))
    return measured(lambda: resized(source, plan, old, 0, new), 1)


def wake_up(source: ShardedTable) -> None:
    """Make a tiny resize, so that memory of lazily loaded libraries is not counted."""
    resized(ShardedTable(source.rows[:64], (0, 64)), RowPlan(pieces(64, 8)), 64, 0, 72)


def resized(source: ShardedTable, plan: RowPlan, kept: int, start: int, stop: int) -> torch.Tensor:
    made = torch.empty(stop - start, source.like.shape[1], dtype=source.like.dtype)
    Resize(source, plan, kept, 0).fill(made, start)
    return made


def run_rank(rank: int, meeting: str, old: int, new: int, columns: int, out: str, plain: bool) -> None:
    """Run one of two ranks: a resize, or a plain copy; the parent takes the larger of the two ranks' measurements."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    bounds = (0, old // 2, old)
    source = ShardedTable(table(old, columns)[bounds[rank] : bounds[rank + 1]].clone(), bounds, dist.group.WORLD)
    plan, half = RowPlan(pieces(old, new - old)), new // 2
    wake_up(source)

    def copy() -> torch.Tensor:
        """Copy this rank's half of the new table: the first half, or the remaining rows and again the first ones."""
        made = torch.empty(half, columns, dtype=source.rows.dtype)
        own, others = (
            (source.rows, made[old // 2 :]) if rank == 0 else (source.rows[half - old // 2 :], made[old - half :])
        )
        made[: len(own)] = own
        given = source.rows[: half - old // 2] if rank else source.rows[: new - old]
        ways = [dist.P2POp(dist.isend, given, 1 - rank), dist.P2POp(dist.irecv, others, 1 - rank)]
        for transfer in dist.batch_isend_irecv(ways):
            transfer.wait()
        return made

    def call() -> torch.Tensor:
        dist.barrier()
        return copy() if plain else resized(source, plan, old, rank * half, (rank + 1) * half)

    Path(out, f"{rank}.json").write_text(json.dumps(measured(call, CALLS)))
    dist.destroy_process_group()


def run_two_ranks(old: int, new: int, columns: int, plain: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        torch.multiprocessing.spawn(run_rank, (f"{place}/meeting", old, new, columns, place, plain), nprocs=2)
        found = [json.loads(Path(place, f"{rank}.json").read_text()) for rank in range(2)]
    return {key: max(one[key] for one in found) for key in found[0]}


@dataclass(frozen=True)
class NamedRows(ShardedTable):
    """A table that holds only the rows that a plan uses, as if fetched already; row numbers are those of the table."""

    names: Indices | None = None

    def gather(self, wanted: Sequence[Indices]) -> Gathered:
        return self.rows, self.like, np.searchsorted(self.names, wanted[0])

    def local_blocks(self, count: int, block_bytes: int = 1 << 20):
        yield from ShardedTable(self.rows, (0, len(self.rows))).local_blocks(len(self.rows))


def run_shard(old: int, new: int, columns: int, plain: bool) -> dict[str, float]:
    """Resize the last of eight shards, or copy as many rows."""
    rows = -(-new // (128 * LARGE_RANKS)) * 128
    plan = RowPlan(pieces(old, new - old))
    start = (LARGE_RANKS - 1) * rows
    begin, end = plan.combination.indptr[[start - old, new - old]]
    names = np.unique(plan.combination.indices[begin:end]).astype(np.int64)
    held = table(len(names), columns)
    source = NamedRows(held, (0, old), None, names)
    wake_up(source)

    def copy() -> torch.Tensor:
        return torch.empty(rows, columns, dtype=held.dtype).copy_(held[:rows])

    return measured(copy if plain else (lambda: resized(source, plan, old, start, start + rows)), 3)


def run_omp(old: int, new: int, columns: int) -> dict[str, float]:
    """Run `omp`; its size is that of a table of fastText vectors, not the arguments."""
    draw = np.random.default_rng(0)
    vectors = {"vectors": draw.normal(size=(OMP_OLD + OMP_NEW, 100)).astype(np.float32)}
    tokens = [NewToken(OMP_OLD + number, "", "", [number], 1, 1) for number in range(OMP_NEW)]
    token_map = TokenMap(OMP_OLD, tokens)
    began = time.perf_counter()
    made = omp(Materials(token_map, auxiliary={"vectors": vectors}))
    assert made.combination.nnz == OMP_NEW * ResizeConfig().omp_pieces
    return {"seconds": round(time.perf_counter() - began, 1), "extra_mib": 0.0, "calls": 1}


def run_transformers(old: int, new: int, columns: int) -> dict[str, float]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=old, hidden_size=columns, num_hidden_layers=0, intermediate_size=8, num_attention_heads=8,
        tie_word_embeddings=True, dtype=torch.bfloat16,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(table(old, columns))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight

    def call() -> torch.Tensor:
        model.resize_token_embeddings(new, mean_resizing=True)
        weight = model.get_input_embeddings().weight
        assert weight.shape == (new, columns) and weight.dtype == torch.bfloat16
        return weight.detach()

    return measured(call, 1)


CONTESTANTS = {
    "copy": run_copy,
    "nemo_adapt": run_nemo_adapt,
    "copy on two ranks": lambda *size: run_two_ranks(*size, plain=True),
    "nemo_adapt on two ranks": lambda *size: run_two_ranks(*size, plain=False),
    "nemo_adapt covariance": run_covariance,
    "transformers": run_transformers,
    "shard of eight: copy": lambda *size: run_shard(*size, plain=True),
    "shard of eight: nemo_adapt": lambda *size: run_shard(*size, plain=False),
    "large: copy": run_copy,
    "large: nemo_adapt": run_nemo_adapt,
    "omp": run_omp,
}
APART = ("shard of eight", "large", "omp")
"""Contestants of another size, with a copy of that size to compare with."""


def contest(name: str, size: tuple[int, int, int], limit: float) -> dict[str, float] | None:
    """Return one contestant's measurements; ``None`` if it failed or did not finish within ``limit`` seconds."""
    command = [sys.executable, __file__, "--child", name, "--size", *map(str, size)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{name} did not finish in {limit:.0f} s", flush=True)
        return None
    if done.returncode:
        print(f"{name} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}", flush=True)
        return None
    facts = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {json.dumps(facts)}", flush=True)
    return facts


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8,000 x 1,024 to 12,000, without those of another size")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that one contestant may take")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(CONTESTANTS[arguments.child](*arguments.size)))
        return
    size = QUICK if arguments.quick else FULL
    print(f"table: {size[0]:,} x {size[2]:,} to {size[1]:,} rows, bf16, {size[1] * size[2] * 2 / MIB:.0f} MiB")
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    found = {
        name: contest(name, LARGE if name.startswith(APART) else size, arguments.limit)
        for name in arguments.contestants
        if not (arguments.quick and name.startswith(APART))
    }
    says = []
    for name, facts in found.items():
        copy = found.get(f"{name.partition(': ')[0]}: copy" if name.startswith(APART) else "copy")
        ratio = f" ({facts['seconds'] / copy['seconds']:.1f}x its copy)" if facts and copy else ""
        says += [f"{name} {facts['seconds']} s{ratio}, {facts['extra_mib']} MiB extra"] if facts else []
    print(f"summary: {'; '.join(says)}")


if __name__ == "__main__":
    main()
