"""What the known mistakes are made of: the steps that several of them share, and a way to spoil one of the options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def unit(vectors: Tensor, dim: int = -1) -> Tensor:
    """Length 1 along an axis; zero vectors stay zero."""
    return F.normalize(vectors, dim=dim)


def dots(regions: Tensor, words: Tensor, out: str = "nmrw") -> Tensor:
    """(N, R, D), (M, W, D) -> (N, M, R, W), or the axes in another order."""
    return torch.einsum(f"nrd,mwd->{out}", regions, words)


def eye(scores: Tensor) -> Tensor:
    """(B, B): True on the diagonal, where the positives are."""
    return torch.eye(len(scores), dtype=torch.bool, device=scores.device)


def as_it_is(value: Tensor) -> Tensor:
    """The step that was left out."""
    return value


def leaning(result: Tensor, expected: Tensor) -> str:
    """``"large"`` or ``"small"``, where a result errs on one side only, by more than one amount; else ``""``."""
    gaps = (torch.as_tensor(result) - torch.as_tensor(expected)).double().flatten()
    wrong = gaps[gaps.abs() > 1e-4]
    if not bool(gaps.isfinite().all()) or not wrong.numel() or (gaps.numel() > 1 and bool((gaps == gaps[0]).all())):
        return ""
    return "large" if bool((wrong > 0).all()) else "small" if bool((wrong < 0).all()) else ""


def variant(function: Callable, **changed: Any) -> Callable:
    """The function with some of its options set; they may be functions of the inputs."""

    def spoiled(**inputs):
        options = {name: value(inputs) if callable(value) else value for name, value in changed.items()}
        return function(**inputs, **options)

    return spoiled
