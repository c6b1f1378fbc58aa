"""Progress of long work as lines of a log."""

import pytest

from nemo_adapt.console import progress
from nemo_adapt.console.progress import Bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time; each look at it is ten seconds after the one before, so that each step prints a line."""
    looks = [0.0]

    def look() -> float:
        looks.append(looks[-1] + progress.LOG_EVERY_SECONDS)
        return looks[-1]

    monkeypatch.setattr(progress.time, "monotonic", look)
    return looks


def amounts(said: str) -> list[str]:
    return [line.split(": ")[1].split("  ")[0] for line in said.splitlines()]


@pytest.mark.parametrize(
    ("total", "step", "unit", "shown"),
    [
        (3, 1, "steps", ["1/3 steps", "2/3 steps", "3/3 steps"]),
        (1.5, 0.75, "MB", ["0.75/1.50 MB", "1.50/1.50 MB"]),
        (150.2, 75.1, "MB", ["75/150 MB", "150/150 MB"]),
    ],
)
def test_amounts_of_a_log(
    clock: list[float],
    capsys: pytest.CaptureFixture[str],
    total: float,
    step: float,
    unit: str,
    shown: list[str],
) -> None:
    with Bar("working", total, unit) as bar:
        for _ in shown:
            bar.advance(step)
    assert amounts(capsys.readouterr().out) == shown


def test_a_log_ends_with_the_total(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Totals are estimates."""
    with Bar("working", 4, "texts") as bar:
        bar.advance(3)
    assert amounts(capsys.readouterr().out) == ["3/4 texts", "4/4 texts"]


@pytest.mark.parametrize(("step", "rate"), [(4, "0.2 cells/s"), (0.5, "1.5 cells/min"), (0.01, "1.8 cells/h")])
def test_slow_work_has_a_speed_to_show(
    clock: list[float], capsys: pytest.CaptureFixture[str], step: float, rate: str
) -> None:
    with Bar("study", 9, "cells") as bar:
        bar.advance(step)
    assert f"  {rate}  " in capsys.readouterr().out.splitlines()[0]
