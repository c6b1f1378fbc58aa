"""Functions that torch.compile makes GPU kernels of: it can trace each as one graph; where it cannot be used, none is.

Run as a script, this file compiles them all on a CPU, as another process's ``torch.compile`` may be switched off.
"""

import functools
import subprocess
import sys

import pytest
import torch

from nemo_adapt import devices
from nemo_adapt.machine import fusion
from nemo_adapt.model import cross_entropy, gated, layers, squared_relu, xielu
from nemo_adapt.patches import rotary


@pytest.fixture
def no_answer_kept():
    fusion.compiles.cache_clear()
    yield
    fusion.compiles.cache_clear()


def test_nothing_is_compiled_on_a_cpu(no_answer_kept, monkeypatch):
    monkeypatch.setattr(devices, "on_gpu", lambda: False)
    monkeypatch.setattr(fusion, "compiled", lambda function: pytest.fail("compiled"))
    assert not fusion.compiles()


@pytest.mark.parametrize("name", fusion.DISABLED)
def test_torchs_own_switch_is_respected(no_answer_kept, monkeypatch, name):
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    monkeypatch.setattr(fusion, "compiled", lambda function: pytest.fail("compiled"))
    monkeypatch.setenv(name, "1")
    assert not fusion.compiles()


@pytest.mark.parametrize(
    ("kernel", "works"), [(lambda numbers: numbers * 2, True), (lambda numbers: numbers * 3, False)]
)
def test_a_kernel_is_tried(no_answer_kept, monkeypatch, on_a_gpu, kernel, works):
    monkeypatch.setattr(fusion, "compiled", lambda function: kernel)
    assert fusion.compiles() == works


def test_a_compiler_that_fails_is_reported_in_one_line(no_answer_kept, monkeypatch, on_a_gpu, capsys):
    def fails(function):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC\n")

    monkeypatch.setattr(fusion, "compiled", fails)
    assert not fusion.compiles() and not fusion.compiles()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("torch.compile does not work here") and line.endswith(": Failed to find C compiler.")


def test_the_order_of_sums_is_fixed(monkeypatch):
    """Timings must not decide it: a resumed training has the same bits."""
    seen = []
    monkeypatch.setattr(torch, "compile", lambda function, **named: seen.append(named) or function)
    assert fusion.compiled(lambda: 1)() == 1
    assert seen == [{"options": {"deterministic": True}}]


@pytest.fixture
def on_a_gpu(monkeypatch):
    """A GPU is reported, whose tensors lie in main memory."""
    for name in fusion.DISABLED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    monkeypatch.setattr(devices, "best_device", lambda: torch.device("cpu"))


def test_every_function_is_compiled_as_one_graph_with_the_same_results():
    done = subprocess.run([sys.executable, __file__, "aot_eager"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["16"]


def results(function, arguments):
    """What the function returns or overwrites, and the gradients of arguments that require one."""
    copies = [
        each.detach().clone().requires_grad_(each.requires_grad) if torch.is_tensor(each) else each
        for each in arguments
    ]
    found = function(*copies)
    if found is None:
        assert not torch.equal(copies[0], arguments[0])
        return [copies[0]]
    wanted = [each for each in copies if torch.is_tensor(each) and each.requires_grad]
    outs = found if isinstance(found, tuple) else (found,)
    return [*outs, *(torch.autograd.grad(found.square().sum(), wanted) if wanted else ())]


def compile_all(backend: str) -> int:
    """Compile the functions with torch's ``backend``; return how many there are. Each is called with two shapes."""
    options = fusion.OPTIONS if backend == "inductor" else None
    compiled = functools.partial(torch.compile, fullgraph=True, backend=backend, options=options)
    torch.manual_seed(0)
    kind = {"dtype": torch.bfloat16}
    calls = []
    for size in (5, 7):
        wide, one = torch.randn(size, 2, 24, **kind), torch.randn(size, 2, 12, **kind)
        for activation in gated.COMPILED:
            calls += [(gated._gate, (wide, activation)), (gated._differentiate, (one, wide, activation))]
        calls += [(squared_relu._squares, (wide,)), (squared_relu._differentiate, (one, torch.randn_like(one)))]
        numbers = (torch.tensor([0.7, 1.1]), torch.tensor([0.5]), torch.tensor([-1e-6]))
        calls += [(xielu._activate, (one, *numbers)), (xielu._differentiate, (one, torch.randn_like(one), *numbers))]
        heads = torch.randn(size, 2, 6, 10, **kind)[:, :, 1:4]  # a slice of one projection's output
        angles = torch.rand(size, 1, 1, 4)
        for interleaved in (False, True):
            calls.append((rotary._rotated, (heads, angles.cos().to(**kind), angles.sin().to(**kind), interleaved)))
        shapes = ((size, 2, 12), (12,), (12,))
        *differentiated, bias = (torch.randn(shape, **kind, requires_grad=True) for shape in shapes)
        calls.append((layers._zero_centered, (*differentiated, None, 1e-6, False)))
        calls.append((layers._zero_centered, (*differentiated, bias, 1e-6, True)))
        rows = torch.randn(9, 32, **kind)[9 - size :]
        highest = rows.amax(-1, keepdim=True).float()
        sums = cross_entropy._sum_exp_logits(rows, highest)
        column, elsewhere = torch.randint(0, 32, (size, 1)), torch.arange(size).view(-1, 1) % 2 == 0
        calls.append((cross_entropy._sum_exp_logits, (rows, highest)))
        others = (highest, sums, torch.full_like(sums, 1.5), column, elsewhere, torch.rand(size, 1))
        calls.append((cross_entropy._to_gradient, (rows, *others)))
    for function, arguments in calls:
        ours, expected = results(compiled(function), arguments), results(function, arguments)
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=2**-7, atol=2**-7)  # a kernel rounds once
    return len(
        {(function, *(each for each in arguments if isinstance(each, (str, bool)))) for function, arguments in calls}
    )


if __name__ == "__main__":
    print(compile_all(sys.argv[1]))
