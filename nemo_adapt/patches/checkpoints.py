"""Checkpoints of optimizers: each rank saves and loads its own part, threads write it, and any Adam can load it."""

import inspect
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod
from typing import Any

import torch


def save_own_parts(cls: Any) -> None:
    """Make each rank save and load only its own part of the distributed optimizer's state.

    As shipped (distrib_optimizer.py), with the one format that loads at another TP, PP and DP, every rank gathers the
    state of its whole DP group to save it, and reads all of it to load: 12 bytes of host memory for each of the group's
    parameters, on each rank. In a buffer with gaps between its buckets (on pipeline stages a tied table has a bucket of
    its own) everything after the first gap is saved shifted. Names and shapes on disk are the same.
    """
    from megatron.core.dist_checkpointing.dict_utils import nested_values

    from nemo_adapt.checkpoint.flattened_ranges import shards_of

    def own(self: Any) -> Iterator[tuple[int, Any, int, dict[str, torch.Tensor]]]:
        """Yield number, parameter, first element and tensors of each parameter of which this rank has a part."""
        maps = [bucket["param_map"] for buffer in self.gbuf_ranges for buckets in buffer.values() for bucket in buckets]
        mine = ((parameter, ranges["param"].start) for each in maps for parameter, ranges in each.items())
        for number, (parameter, start) in enumerate(mine):
            yield number, parameter, start, self._get_main_param_and_optimizer_states(parameter)

    def parts(self: Any, model: Any, is_loading: bool = False, metadata: Any = None) -> dict[int, Any]:
        wholes = {id(whole.data): whole for whole in nested_values(model) if hasattr(whole, "replica_id")}
        return {
            number: {
                name: shards_of(wholes[id(parameter)], f"optimizer.state.{name}", start, values.detach())
                for name, values in tensors.items()
            }
            for number, parameter, start, tensors in own(self)
        }

    @torch.no_grad()  # in fp32 its parameters are views of the model's
    def load(self: Any, state: dict[int, Any]) -> None:
        for number, parameter, _, _ in own(self):
            flat = {name: torch.cat([part.flatten() for part in found]) for name, found in state[number].items()}
            self._set_main_param_and_optimizer_states(parameter, flat)

    cls.sharded_param_state_fully_reshardable, cls.load_parameter_state_from_fully_reshardable = parts, load


def write_in_threads(module: Any) -> None:
    """Write the files of a checkpoint in threads of the rank.

    As shipped (filesystem_async.py), megatron-core 0.16 forks processes for it. They inherit locks that other threads
    held at that moment and that nobody releases: now and then one hangs forever. Since 0.17 it uses threads, which
    start when one of the files is written. In both, results pass through another process, which imports torch. The
    bytes written are the same.
    """
    writer = module.FileSystemWriterAsync
    write_file = inspect.unwrap(writer.write_preloaded_data)  # no pause of garbage collection: meant for forks

    def write_files(transforms: Any, use_msc: bool, rank: int, buckets: list[Any], results: queue.Queue[Any]) -> None:
        answers: queue.Queue[Any] = queue.Queue()
        running: queue.Queue[int] = queue.Queue()
        with ThreadPoolExecutor(len(buckets)) as pool:
            for number, bucket in enumerate(buckets):
                running.put(number)  # write_file takes one out when it has answered
                pool.submit(write_file, transforms, number, bucket, answers, running, use_fsync=True)
        written = dict(answers.get_nowait() for _ in buckets)
        errors = [answer for answer in written.values() if isinstance(answer, Exception)]
        results.put(errors[0] if errors else written)

    for owner, in_016, since_017, ours in (
        (writer, "write_preloaded_data_multiproc", "write_preloaded_data_multithread", staticmethod(write_files)),
        (module, "_get_write_results_queue", "get_write_results_queue", queue.Queue),
    ):
        setattr(owner, in_016 if hasattr(owner, in_016) else since_017, ours)


def save_unequal_groups(cls: Any) -> None:
    """Save master weights of a plain optimizer when ranks train different numbers of parameters.

    As shipped (optimizer.py) they are lists of lists. If the first rank has none of a list, because its pipeline stage
    trains nothing of that kind, an empty list is saved, which other ranks cannot load into theirs. Dictionaries can be
    merged whatever they contain.
    """
    save, load, key = cls.sharded_state_dict, cls.load_state_dict, "fp32_from_fp16_params"

    def save_by_number(self: Any, *arguments: Any, **named: Any) -> Any:
        state = save(self, *arguments, **named)
        state[key] = {number: dict(enumerate(group)) for number, group in enumerate(state[key])}
        return state

    def load_by_number(self: Any, state: Any) -> Any:
        groups, saved = range(len(self.fp32_from_float16_groups)), state.get(key, {})  # empty groups are not saved
        return load(self, {**state, key: [list(saved.get(number, {}).values()) for number in groups]})

    cls.sharded_state_dict, cls.load_state_dict = save_by_number, load_by_number


def keep_steps_out_of_shards(cls: Any) -> None:
    """Save and load torch's AdamW, whose ``step`` tensor of each parameter is not parameter state.

    As shipped (distrib_optimizer.py), ``step`` is treated as a shard of the parameter, and after a load all parameters
    share one ``step`` tensor, which then advances once per parameter in each step.
    """
    cls._get_main_param_and_optimizer_states = partialmethod(_get_shards, cls._get_main_param_and_optimizer_states)
    cls._set_main_param_and_optimizer_states = _set_shards
    cls.load_state_dict = partialmethod(_load_with_own_steps, cls.load_state_dict)
    cls.state_dict = partialmethod(_state_of_some_step, cls.state_dict)


def _get_shards(self: Any, shipped: Callable[..., Any], parameter: Any) -> Any:
    tensors = shipped(self, parameter)
    tensors.pop("step", None)
    return tensors


def _set_shards(self: Any, parameter: Any, tensors: Any) -> None:
    group, order = self.model_param_group_index_map[parameter]
    main = self.optimizer.param_groups[group]["params"][order]
    state = self.optimizer.state[main]
    with torch.no_grad():
        main.copy_(tensors["param"])
    for name in ("exp_avg", "exp_avg_sq"):
        state[name].copy_(tensors[name])


def _load_with_own_steps(self: Any, shipped: Callable[..., Any], state_dict: Any) -> Any:
    answer = shipped(self, state_dict)
    for state in self.optimizer.state.values():
        state["step"] = state["step"].clone()
    return answer


def _state_of_some_step(self: Any, shipped: Callable[..., Any]) -> Any:
    """A rank that trains nothing (a pipeline stage between the tables while only those are trained) has no ``step`` to
    save: it saves a placeholder, which is never read, as only the first rank's is."""
    state = self.optimizer.state
    if state:
        return shipped(self)
    state["nothing"] = {"step": torch.tensor(0.0)}
    try:
        return shipped(self)
    finally:
        del state["nothing"]
