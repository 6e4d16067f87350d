"""Where checks run an answer: on the CPU, and on a GPU as well where the lesson was opened for one."""

from __future__ import annotations

from torch import Tensor

from itr_lib.checks.outcome import Inputs
from itr_lib.desk.front import is_graded

_lesson = "cpu"


def run_on(device: str) -> None:
    """From here on checks run answers on this device, too: the one that a lesson was opened with."""
    global _lesson
    _lesson = device


def devices() -> tuple[str, ...]:
    """Where answers are run, the CPU first. It is the only one under grading, since points depend on no machine.

    On a Mac's GPU, too, which lacks the cases' float64.
    """
    return ("cpu", "cuda") if _lesson == "cuda" and not is_graded() else ("cpu",)


def on_device(inputs: Inputs, device: str) -> Inputs:
    """The same inputs, with tensors on ``device``."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in inputs.items()}
