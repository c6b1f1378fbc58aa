"""Search for layouts that fit a cluster, fastest first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from nemo_adapt.config import Config, ParallelConfig
from nemo_adapt.config.layout import check_layout, check_train, stage_layers
from nemo_adapt.config.phases import trained
from nemo_adapt.errors import UserError
from nemo_adapt.plan.memory import Memory, fullest
from nemo_adapt.plan.model import Models
from nemo_adapt.plan.needs import needed, room
from nemo_adapt.plan.speed import Step, balanced, step

MICRO_BATCHES = (1, 2, 4, 8, 16, 32)
VIRTUAL = (1, 2, 4, 5, 8, 10, 16, 20)


@dataclass(frozen=True)
class Proposal:
    """A layout that fits, with the memory of its fullest rank and the time of a step in the last phase."""

    parallel: ParallelConfig
    micro_batch: int
    recompute: bool
    memory: Memory
    step: Step

    @property
    def words(self) -> str:
        """The ``key=value`` words that select this layout on the command line."""
        parallel = self.parallel
        sizes = [f"parallel.{name}={getattr(parallel, name)}" for name in ("tp", "pp", "virtual", "cp", "dp")]
        if parallel.stage_layers:
            sizes.append(f"parallel.stage_layers=[{','.join(map(str, parallel.stage_layers))}]")
        flags = [
            f"parallel.sequence={str(parallel.sequence).lower()}",
            f"train.recompute={str(self.recompute).lower()}",
        ]
        return " ".join([*sizes, *flags, f"train.micro_batch={self.micro_batch}"])


def proposals(models: Models, config: Config) -> list[Proposal]:
    """Return all layouts on the whole cluster that fit, by estimated seconds per step.

    TP stays within a node. The global batch, sequence length and precision are those of the configuration.
    """
    found = []
    for candidate in _candidates(models, config):
        try:
            check_layout(models.target, candidate.parallel)
            check_train(candidate.train, candidate.parallel)
        except UserError:
            continue
        memory = fullest(needed(models, candidate))
        if memory.total <= room(candidate):
            train = candidate.train
            timed = step(models, candidate, train.phases[-1])
            found.append(Proposal(candidate.parallel, train.micro_batch, train.recompute, memory, timed))
    # Ties: less memory first, then smaller PP, then smaller TP.
    return sorted(found, key=lambda each: (each.step.seconds, each.memory.total, each.parallel.pp, each.parallel.tp))


def _candidates(models: Models, config: Config) -> Iterator[Config]:
    cluster, layers = config.cluster, models.target.layers
    devices, on_gpu = cluster.devices, cluster.gpus_per_node > 0  # CP is slower on CPU cores: results/train.md
    sizes = product(_divisors(cluster.devices_per_node), _divisors(devices) if on_gpu else [1], _divisors(devices))
    for tp, cp, pp in sizes:
        if devices % (tp * cp * pp) or pp > layers:
            continue
        interleaved = [each for each in VIRTUAL[1:] if pp > 1 and layers % (pp * each) == 0]
        for virtual, micro_batch, recompute in product([1, *interleaved], MICRO_BATCHES, (False, True)):
            parallel = ParallelConfig(tp, pp, virtual, cp=cp, dp=devices // (tp * cp * pp), sequence=tp > 1)
            train = replace(config.train, micro_batch=micro_batch, recompute=recompute)
            candidate = replace(config, parallel=parallel, train=train)
            yield candidate
            if pp > 1 and virtual == 1:
                uneven = balanced(models, candidate, trained(train.phases[-1]))
                if uneven != stage_layers(layers, parallel):
                    yield replace(candidate, parallel=replace(parallel, stage_layers=uneven))


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
