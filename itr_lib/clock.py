"""Times that hold on a GPU, too: it is given work and goes on by itself, so a clock has to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch


def seconds(function: Callable[[], object]) -> float:
    """Seconds of one call, from an idle GPU until it is idle again; on the CPU, of the call."""
    wait_for_gpu()
    began = perf_counter()
    function()
    wait_for_gpu()
    return perf_counter() - began


def wait_for_gpu() -> None:
    """Return when a GPU that this process has used has done all it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
