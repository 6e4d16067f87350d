"""The few shape checks that every public function shares, so that bad input meets a sentence and not a traceback."""

from __future__ import annotations

import math

import torch


def expect_dims(name: str, tensor: torch.Tensor, *dims: str) -> None:
    """Raise ``ValueError`` unless ``tensor`` is a tensor with one axis for each name in ``dims``."""
    expected = f"{len(dims)} axes ({', '.join(dims)})"
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} is a {type(tensor).__name__}, expected a tensor with {expected}")
    if tensor.ndim != len(dims):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")


def expect_float(name: str, tensor: torch.Tensor) -> None:
    """Raise ``ValueError`` unless ``tensor`` holds floating point numbers."""
    if not tensor.is_floating_point():
        raise ValueError(f"{name} holds {tensor.dtype}, expected a floating point type")


def expect_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...], why: str) -> None:
    """Raise ``ValueError`` unless ``tensor`` has exactly ``shape``; ``why`` says where the shape comes from."""
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} is a {type(tensor).__name__}, expected a tensor of shape {tuple(shape)} ({why})")
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(shape)} ({why})")


def expect_mask(name: str, mask: torch.Tensor, shape: tuple[int, ...], why: str, true: str = "a real element") -> None:
    """Raise ``ValueError`` unless ``mask`` is boolean and of ``shape``; ``true`` says what a True in it means."""
    expect_shape(name, mask, shape, why)
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} holds {mask.dtype}, expected bool with True = {true}")


def expect_square_scores(scores: torch.Tensor) -> None:
    """Raise ``ValueError`` unless ``scores`` is a B x B matrix of floats with at least one row."""
    expect_dims("scores", scores, "images", "captions")
    expect_float("scores", scores)
    if scores.shape[0] != scores.shape[1] or scores.shape[0] == 0:
        raise ValueError(
            f"scores has shape {tuple(scores.shape)}, expected a square matrix: "
            "row i and column i are the image and the caption of pair i"
        )


def expect_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")


def expect_positive(name: str, value: float | torch.Tensor) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite number greater than zero."""
    try:
        positive = 0 < value < math.inf
    except TypeError:
        positive = False
    if not positive:
        raise ValueError(f"{name} is {value!r}, expected a number greater than 0")


def expect_count(name: str, value: int) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number of at least 1."""
    try:
        whole = value == int(value) and value >= 1
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ValueError(f"{name} is {value!r}, expected a whole number of 1 or more")


def expect_finite(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value`` is a number that is neither infinite nor NaN."""
    try:
        finite = math.isfinite(value)
    except TypeError:
        finite = False
    if not finite:
        raise ValueError(f"{name} is {value!r}, expected a finite number")
