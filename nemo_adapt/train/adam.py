"""Adam's state inside Megatron's optimizers, for any Adam implementation: torch's, apex's or Transformer Engine's."""

from typing import Any

import torch


def fill_moments(optimizer: Any) -> None:
    """Create Adam's moments before the first step: saving and loading a checkpoint need them.

    torch's AdamW is also switched to its fused kernel, which reads and writes each tensor once instead of ten times;
    Megatron does not enable it.
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
                if _counts_per_parameter(inner):  # on the device, as the fused kernel requires
                    inner.state[parameter]["step"] = torch.tensor(0.0, device=parameter.device)


def load(optimizer: Any, state: dict[str, Any], steps: int) -> None:
    """Load a checkpoint's ``state`` into Megatron's ``optimizer`` and set Adam's step count to ``steps``.

    The saved step count is not used: Megatron saves the first rank's, which may train nothing and then has none, and
    another Adam implementation may have stored it elsewhere.
    """
    parts = getattr(optimizer, "chained_optimizers", [optimizer])
    saved = state.get("optimizer", state)
    if "state" in saved:  # every optimizer except the distributed one
        saved["state"].pop("common_step", None)
        if all(_counts_per_parameter(part.optimizer) for part in parts):
            saved["state"]["common_step"] = torch.tensor(float(steps))
    groups = [group for part in parts for group in part.optimizer.param_groups]
    own = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    optimizer.load_state_dict(state)
    for part in parts:
        for group in part.optimizer.param_groups:
            group.update(own.pop(0))  # saved groups of another Adam may lack keys of this one
        if _counts_per_parameter(part.optimizer):
            for parameter, values in part.optimizer.state.items():
                values["step"] = torch.tensor(float(steps), device=parameter.device)
        else:
            for group in part.optimizer.param_groups:
                group["step"] = steps


def _counts_per_parameter(adam: Any) -> bool:
    """Whether ``adam`` counts steps per parameter, as torch's does; others (apex, Transformer Engine) do per group."""
    return isinstance(adam, torch.optim.AdamW)
