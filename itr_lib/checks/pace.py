"""Whether a right answer is fast enough for the lesson to go on with it."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from itr_lib.checks.device import devices, on_device
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.clock import wait_for_gpu

EXTRA_SECONDS = 60  # what a slow right answer may add to a lesson


def extra_seconds(exercise: Exercise, answer: Callable) -> tuple[float, float]:
    """Seconds of one call of the rehearsal, and those that all calls add over the library's; (0, 0) without one."""
    if exercise.rehearsal is None:
        return 0.0, 0.0
    inputs = [on_device(exercise.rehearsal.inputs(), devices()[-1]) for _ in range(2)]
    own, library = map(_seconds, (answer, exercise.library), inputs)
    return own, (own - library) * exercise.rehearsal.calls


def _seconds(function: Callable, inputs: Inputs) -> float:
    """Of the fastest of three calls, a loss with its gradient; a first one warms up, and a slow one is not repeated.

    Other programs hold up the clock on the wall, and many threads run up the processor's: the smaller one counts. While
    a GPU works the processor waits at full speed, so that both clocks run.
    """
    times: list[float] = []
    while len(times) < 3 and sum(times) < 1:
        wall, processor = time.perf_counter(), time.process_time()
        result = function(**inputs)
        if isinstance(result, Tensor) and result.requires_grad:
            result.sum().backward()
        wait_for_gpu()
        times.append(min(time.perf_counter() - wall, time.process_time() - processor))
    return min(times)
