"""What megatron-core 0.16 does wrong or in vain on any device; ``devices.prepare_megatron`` puts it right."""

import functools
from typing import Any

import torch


def save_passes(has_fused_kernels: bool, lone_groups_copy: bool) -> None:
    """The same numbers with fewer passes over memory than megatron-core 0.16.1 makes.

    It takes the largest logit together with its place, which nobody asks for; without apex or Transformer Engine it
    clips gradients by way of a copy (``has_fused_kernels``: they are there); and where ``lone_groups_copy`` a whole
    buffer is copied to sum it over a group of one.
    """
    from megatron.core.distributed import param_and_grad_buffer
    from megatron.core.optimizer import clip_grads
    from megatron.core.tensor_parallel.cross_entropy import VocabParallelCrossEntropy

    def largest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = logits.float()
        return logits, logits.amax(dim=-1)

    def scale(chunk: int, flag: torch.Tensor, lists: list[list[torch.Tensor]], factor: float) -> None:
        for source, result in zip(*lists, strict=True):
            torch.mul(source, factor, out=result)

    def between_ranks(name: str) -> None:
        inner = getattr(param_and_grad_buffer, name)

        @functools.wraps(inner)
        def outer(*tensors: torch.Tensor, group: Any, **named: Any) -> Any:
            return inner(*tensors, group=group, **named) if group.size() > 1 else None

        setattr(param_and_grad_buffer, name, outer)

    VocabParallelCrossEntropy.calculate_logits_max = staticmethod(largest)
    if not has_fused_kernels:
        clip_grads.multi_tensor_scale_impl = scale
    if lone_groups_copy:
        between_ranks("dist_reduce_scatter_func")
        between_ranks("dist_all_gather_func")


def save_behind_gaps(cls: Any) -> None:
    """Saving an optimizer whose gradient buffer has gaps between its buckets.

    A tied table has a bucket of its own on pipeline stages, and buckets end at multiples of DP x CP. As shipped
    (megatron-core 0.16.1, distrib_optimizer.py), what the ranks have is gathered without the gaps and read as if they
    were there: all behind the first is saved shifted, with a warning of corruption at most.
    """
    gather = cls.get_parameter_state_dp_zero

    def gather_with_gaps(self: Any, *arguments: Any, **named: Any) -> Any:
        found = gather(self, *arguments, **named)
        for number, buffer in enumerate(self.buffers if found else ()):
            for tensors in found[number].values():
                for key in [key for key, value in tensors.items() if isinstance(value, torch.Tensor)]:
                    tensors[key] = _with_gaps(tensors[key], buffer)
        return found

    cls.get_parameter_state_dp_zero = gather_with_gaps


def _with_gaps(dense: torch.Tensor, buffer: Any) -> torch.Tensor:
    """``dense``, the buckets of a gradient buffer one after the other, laid out as they lie in it."""
    parts = dense.split([bucket.numel_unpadded for bucket in buffer.buckets])
    if all(bucket.offset == part.storage_offset() for bucket, part in zip(buffer.buckets, parts, strict=True)):
        return dense
    laid_out = dense.new_zeros(buffer.numel)
    for bucket, part in zip(buffer.buckets, parts, strict=True):
        laid_out[bucket.offset : bucket.offset + len(part)] = part
    return laid_out


def save_unequal_groups(cls: Any) -> None:
    """Master weights of a plain optimizer of which ranks train different numbers of parameters.

    As shipped (megatron-core 0.16.1, optimizer.py) they are lists of lists. What the first rank has none of, because
    its pipeline stage trains nothing of the kind, is saved as an empty list, which the other ranks cannot load into
    theirs. Dictionaries can be put together whatever is in them.
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

    As shipped (megatron-core 0.16.1, distrib_optimizer.py), ``step`` is treated as a shard of the parameter, and
    after a load all parameters share one ``step`` tensor, so that it counts once per parameter per step. A rank that
    trains nothing (a pipeline stage between the tables while only those are trained) has no ``step`` to save: what it
    says there is not read, the first rank's is.
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
