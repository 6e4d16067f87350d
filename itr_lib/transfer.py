"""Between the host and a GPU, so that the host seldom waits.

A GPU works through what it was given while the host goes on and gives it more. That ends where the host needs a number
from there, or copies from memory that the system may move: then it waits until all that was given is done.
"""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on ``device``; a GPU gets it while the host goes on. For the CPU it is the tensor itself."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def download(*tensors: Tensor | None) -> list[Tensor | None]:
    """Tensors of one device and type on the CPU, after one wait for all of them; None stays None."""
    there = [tensor for tensor in tensors if tensor is not None]
    if all(tensor.device.type == "cpu" for tensor in there):
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in there]).cpu()
    parts = iter(flat.split([tensor.numel() for tensor in there]))
    return [None if tensor is None else next(parts).view(tensor.shape) for tensor in tensors]
