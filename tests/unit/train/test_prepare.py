"""What a training says before its first step."""

import pytest
import torch

from nemo_adapt.train.prepare import line_on_rounding


@pytest.mark.parametrize(
    ("dtypes", "precision", "rounded"),
    [
        ([torch.float16], "bf16", "float16"),
        ([torch.float32], "bf16", "float32"),
        ([torch.bfloat16, torch.float32, torch.float16, torch.float32], "bf16", "float16 and float32"),
        ([torch.bfloat16, torch.int64], "bf16", ""),
        ([torch.float16, torch.bfloat16, torch.float32], "fp32", ""),
    ],
)
def test_only_dtypes_that_lose_bits_are_said(dtypes, precision, rounded):
    said = f"the base's {rounded} weights are rounded to {precision} (train.precision)"
    assert line_on_rounding(dtypes, precision) == (said if rounded else "")
    values = [torch.tensor(1 + torch.finfo(each).eps, dtype=each) for each in dtypes if each.is_floating_point]
    target = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    assert any(value != value.to(target) for value in values) == bool(rounded), "as torch rounds"
