"""How long a call takes, and what it keeps: for the lessons that compare costs."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor


def best_time(function: Callable[[], Tensor], repeats: int = 4) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one that warms up; the result is waited for on a GPU too."""
    times = []
    for _ in range(repeats + 1):
        began = perf_counter()
        function().sum().item()  # a GPU answers only when it is asked for a number
        times.append(perf_counter() - began)
    return min(times[1:])


def kept_bytes(function: Callable[..., Tensor], *inputs: Tensor) -> int:
    """Bytes that autograd keeps between the forward and the backward pass of ``function``, its inputs not counted."""
    inputs = tuple(tensor.detach().clone().requires_grad_(True) for tensor in inputs)
    own, kept = {tensor.data_ptr() for tensor in inputs}, {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function(*inputs)
    return sum(kept.values())
