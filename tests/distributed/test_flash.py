"""On a GPU, the flash kernel computes windows and packed documents as attention without it does."""

import pytest
import torch
from ranks import attention_bodies

from nemo_adapt import devices

pytestmark = pytest.mark.skipif(not devices.on_gpu(), reason="no flash kernel without a GPU")
APART = [[7, 1, 40, 16], [30, 34]]
CASES = {
    "window": {"window": 9},
    "window, fewer queries": {"window": 9, "rows": 30},
    "documents": {"sizes": APART},
    "documents, fewer queries": {"sizes": APART, "rows": 30},
    "documents, window": {"sizes": APART, "window": 9, "rows": 50},
    "one sample": {"batch": 1, "sizes": APART[:1], "window": 5},
}


def attended(ranks, with_flash, case):
    whole = {"rows": 64, "columns": 64, "batch": 2, "window": 0, "cap": 0.0, "sizes": [], **case}
    [found] = ranks(1).run(attention_bodies.attend, *whole.values(), with_flash)
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_flash_kernel_computes_what_attention_without_it_does(ranks, case):
    with_flash, without = attended(ranks, True, case), attended(ranks, False, case)
    assert with_flash.calls == (len(case["sizes"]) if "sizes" in case else 1) and not without.calls
    for one, other in zip(with_flash.tensors, without.tensors, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=5e-2)


def test_check_detects_another_window(ranks):
    """Negative control."""
    one, other = (attended(ranks, True, {"window": window}).tensors[0] for window in (9, 10))
    assert (one - other).abs().max() > 0.1


def test_capped_scores_and_plain_causal_attention_do_not_use_it(ranks):
    assert attended(ranks, True, {"window": 9, "cap": 2.0}).calls == 0
    assert attended(ranks, True, {}).calls == 0
