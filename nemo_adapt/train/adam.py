"""Adam's state within Megatron's optimizers, whichever Adam that is: torch's, apex's or Transformer Engine's."""

from typing import Any

import torch


def fill_moments(optimizer: Any) -> None:
    """Create Adam's moments before the first step, as saving and loading a checkpoint need them.

    torch's AdamW also gets its fused kernel, which reads and writes everything once instead of ten times; Megatron does
    not ask for it.
    """
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        inner = part.optimizer
        for group in inner.param_groups:
            if _counts_per_parameter(inner):
                group["fused"] = True
            for parameter in group["params"]:
                inner.state[parameter] = {
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
                if _counts_per_parameter(inner):  # where the fused kernel wants it
                    inner.state[parameter]["step"] = torch.tensor(0.0, device=parameter.device)


def load(optimizer: Any, state: dict[str, Any], steps: int) -> None:
    """Give Megatron's ``optimizer`` the state of a checkpoint, and tell Adam how many steps it had made.

    Megatron saves the number that the first rank has, which may train nothing and so have none; and the Adam that saved
    it may be another, which keeps it elsewhere.
    """
    parts = getattr(optimizer, "chained_optimizers", [optimizer])
    saved = state.get("optimizer", state)
    if "state" in saved:  # all but the distributed optimizer
        saved["state"].pop("common_step", None)
        if all(_counts_per_parameter(part.optimizer) for part in parts):
            saved["state"]["common_step"] = torch.tensor(float(steps))
    groups = [group for part in parts for group in part.optimizer.param_groups]
    own = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    optimizer.load_state_dict(state)
    for part in parts:
        for group in part.optimizer.param_groups:
            group.update(own.pop(0))  # the other Adam's has not all that this one looks for
        if _counts_per_parameter(part.optimizer):
            for parameter, values in part.optimizer.state.items():
                values["step"] = torch.tensor(float(steps), device=parameter.device)
        else:
            for group in part.optimizer.param_groups:
                group["step"] = steps


def _counts_per_parameter(adam: Any) -> bool:
    """Whether it keeps its number of steps with each parameter, as torch's does; apex's and Transformer Engine's have
    one for a group, and nothing but moments with a parameter."""
    return isinstance(adam, torch.optim.AdamW)
