"""What every metric takes: a matrix of scores, and who belongs to whom; checked once, here."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, Real, Shaped
from torch import Tensor

# Any kind of number, whole ones and bools included.
Scores = Shaped[Tensor, "images captions"] | Shaped[np.ndarray, "images captions"]
# Of each caption the row of its image.
Owners = Integer[Tensor, " captions"] | Integer[np.ndarray, " captions"]
ROWS_AT_ONCE = 256  # keeps the comparisons of a 5,000 x 25,000 matrix in some 25 MB


def percent(hits: Bool[np.ndarray, " queries"]) -> float:
    """The share of hits, 0 to 100."""
    return 100 * float(np.mean(hits))


def as_matrix(name: str, values: Scores) -> Real[Tensor, "images captions"]:
    """A matrix with at least one row and column and without NaN, as a tensor. Raises ``ValueError`` with ``name``."""
    matrix = as_tensor(name, values)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} has shape {tuple(matrix.shape)}, expected a matrix with at least one row and column")
    if matrix.is_floating_point() and matrix.isnan().any():
        raise ValueError(f"{name} holds NaN at {tuple(matrix.isnan().nonzero()[0].tolist())}")
    return matrix


def as_tensor(name: str, values: Shaped[Tensor, "..."] | Shaped[np.ndarray, "..."]) -> Real[Tensor, "..."]:
    """Tensors as they are, arrays of any layout; without a copy where torch can share the memory."""
    if isinstance(values, Tensor):
        if values.is_complex():
            raise ValueError(f"{name} is a tensor of {values.dtype}, expected real numbers")
        return values.detach().to(torch.int8) if values.dtype == torch.bool else values.detach()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} is a {type(values).__name__} of {array.dtype}, expected an array or tensor of numbers"
        )
    kind = {"b": np.dtype(np.int8), "u": np.dtype(np.int64)}.get(array.dtype.kind, array.dtype.newbyteorder("="))
    array = np.ascontiguousarray(array, dtype=kind)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def in_float64(values: Real[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Where they are; on the CPU where the device has no float64, which is a Mac's GPU."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def as_gallery(
    scores: Scores, image_of_caption: Owners, name: str = "scores"
) -> tuple[Real[Tensor, "images captions"], Integer[Tensor, " captions"]]:
    """Scores, and the row of each column's image (int64). Raises ``ValueError`` where they do not fit."""
    scores = as_matrix(name, scores)
    owner = as_tensor("image_of_caption", image_of_caption).to(scores.device)
    if owner.ndim != 1 or len(owner) != scores.shape[1] or owner.is_floating_point() or owner.dtype == torch.bool:
        raise ValueError(
            f"image_of_caption has shape {tuple(owner.shape)} and type {owner.dtype}, "
            f"expected {scores.shape[1]} ints, one a column of {name}"
        )
    if owner.min() < 0 or owner.max() >= len(scores):
        raise ValueError(f"image_of_caption names a row outside 0..{len(scores) - 1}, the rows of {name}")
    counts = torch.bincount(owner.long(), minlength=len(scores))
    if (counts == 0).any():
        raise ValueError(
            f"image_of_caption gives image {int(counts.argmin())} no caption, expected at least one an image"
        )
    return scores, owner.long()
