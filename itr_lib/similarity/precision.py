"""Kinds of numbers: which one to add up in, and which one this machine multiplies fastest."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from itr_lib.clock import seconds


def wide(values: Tensor) -> Tensor:
    """16-bit numbers as float32: in eight bits a sum over words makes ties of most scores, float16 overflows early."""
    return values.float() if values.element_size() < 4 else values


@cache
def fastest_dtype(device: str) -> torch.dtype:
    """What to scan a large collection in: bfloat16 where a product takes less than two thirds of float32's time here.

    Measured once a process. bfloat16 keeps eight bits of a dot product, so near-equal candidates change places:
    `python -m data_scripts.benchmarks` prints how many.
    """
    if device == "mps":
        return torch.float32  # older versions of macOS know no other
    taken = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.ones(rows, 512, dtype=dtype, device=device) for rows in (1024, 2048))
        taken[dtype] = min(seconds(lambda a=a, b=b: a @ b.T) for _ in range(4))
    return torch.bfloat16 if 3 * taken[torch.bfloat16] < 2 * taken[torch.float32] else torch.float32
