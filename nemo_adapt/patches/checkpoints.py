"""Checkpoints of optimizers: each rank saves and loads its own part, threads write it, any Adam reads it."""

import inspect
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def save_own_parts(cls: Any) -> None:
    """Each rank saves and loads its own part of the distributed optimizer's state.

    As shipped (distrib_optimizer.py), the one format that loads at another TP, PP and DP has every rank gather the
    state of its whole DP group for a save, and read all of it to load: 12 bytes of host memory for each of the group's
    parameters, on each rank. Of a buffer with gaps between its buckets (a tied table has one of its own on pipeline
    stages) all behind the first gap is saved shifted. On disk names and shapes are the same.
    """
    from megatron.core.dist_checkpointing.dict_utils import nested_values

    from nemo_adapt.checkpoint.parts import sharded_parts

    def own(self: Any) -> Iterator[tuple[int, Any, int, dict[str, torch.Tensor]]]:
        """Number, parameter, first element and tensors of each parameter of which this rank has a part."""
        maps = [bucket["param_map"] for buffer in self.gbuf_ranges for buckets in buffer.values() for bucket in buckets]
        mine = ((parameter, ranges["param"].start) for each in maps for parameter, ranges in each.items())
        for number, (parameter, start) in enumerate(mine):
            yield number, parameter, start, self._get_main_param_and_optimizer_states(parameter)

    def parts(self: Any, model: Any, is_loading: bool = False, metadata: Any = None) -> dict[int, Any]:
        wholes = {id(whole.data): whole for whole in nested_values(model) if hasattr(whole, "replica_id")}
        return {
            number: {
                name: sharded_parts(wholes[id(parameter)], f"optimizer.state.{name}", start, values.detach())
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
    """The files of a checkpoint are written by threads of the rank.

    As shipped (filesystem_async.py), in megatron-core 0.16 by processes forked from it. These have the locks that other
    threads held at that moment, and nobody to give them back: now and then one waits for ever. Since 0.17 by threads,
    which begin when one of the files is written. In both, results go through one more process, which imports torch. The
    bytes that are written are the same.
    """
    writer = module.FileSystemWriterAsync
    write_file = inspect.unwrap(writer.write_preloaded_data)  # without a pause of garbage collection, meant for forks

    def write_files(transforms: Any, use_msc: bool, rank: int, buckets: list[Any], results: queue.Queue[Any]) -> None:
        answers: queue.Queue[Any] = queue.Queue()
        running: queue.Queue[int] = queue.Queue()
        with ThreadPoolExecutor(len(buckets)) as pool:
            for number, bucket in enumerate(buckets):
                running.put(number)  # it takes one out when it has answered
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
    """Master weights of a plain optimizer of which ranks train different numbers of parameters.

    As shipped (optimizer.py) they are lists of lists. What the first rank has none of, as its pipeline stage trains
    nothing of the kind, is saved as an empty list, which the other ranks cannot load into theirs. Dictionaries can be
    put together whatever is in them.
    """
    save, load, key = cls.sharded_state_dict, cls.load_state_dict, "fp32_from_fp16_params"

    def save_by_number(self: Any, *arguments: Any, **named: Any) -> Any:
        state = save(self, *arguments, **named)
        state[key] = {number: dict(enumerate(group)) for number, group in enumerate(state[key])}
        return state

    def load_by_number(self: Any, state: Any) -> Any:
        groups, saved = range(len(self.fp32_from_float16_groups)), state.get(key, {})  # what is empty is not saved
        return load(self, {**state, key: [list(saved.get(number, {}).values()) for number in groups]})

    cls.sharded_state_dict, cls.load_state_dict = save_by_number, load_by_number


def load_over_torch(cls: Any) -> None:
    """Loading a checkpoint over torch's AdamW: its per-parameter ``step`` tensor is no parameter state.

    As shipped (distrib_optimizer.py), ``step`` is treated as a shard of the parameter, and after a load all parameters
    share one ``step`` tensor, so that it counts once per parameter per step. A rank that trains nothing (a pipeline
    stage between the tables while only those are trained) has no ``step`` to save: what it says there is not read, the
    first rank's is.
    """
    get, load, save = cls._get_main_param_and_optimizer_states, cls.load_state_dict, cls.state_dict

    def state_of_some_step(self: Any) -> Any:
        state = self.optimizer.state
        if state:
            return save(self)
        state["nothing"] = {"step": torch.tensor(0.0)}
        try:
            return save(self)
        finally:
            del state["nothing"]

    def get_without_step(self: Any, parameter: Any) -> Any:
        tensors = get(self, parameter)
        tensors.pop("step", None)
        return tensors

    def set_without_step(self: Any, parameter: Any, tensors: Any) -> None:
        group, order = self.model_param_group_index_map[parameter]
        main = self.optimizer.param_groups[group]["params"][order]
        state = self.optimizer.state[main]
        with torch.no_grad():
            main.copy_(tensors["param"])
        for name in ("exp_avg", "exp_avg_sq"):
            state[name].copy_(tensors[name])

    def load_with_own_steps(self: Any, state_dict: Any) -> Any:
        answer = load(self, state_dict)
        for state in self.optimizer.state.values():
            state["step"] = state["step"].clone()
        return answer

    cls._get_main_param_and_optimizer_states = get_without_step
    cls._set_main_param_and_optimizer_states = set_without_step
    cls.load_state_dict = load_with_own_steps
    cls.state_dict = state_of_some_step
