"""What a box shows, in numbers that need no trained network: a descriptor made by hand.

The field's region features come from a detector trained on Visual Genome, a CLIP or the like. Where none is at hand a
description from before deep learning still says a lot about grass, snow, dogs and red shirts: where which colour
is, how much of each colour there is, and which way the edges run (HOG: Dalal & Triggs, CVPR 2005).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

SIDE, CELLS = 32, 4  # pixels a side that a crop is resampled to; cells a side for layout and gradients
LEVELS, ANGLES = 4, 8  # colour levels a channel; directions of an edge in half a turn
CROP_DIM = 3 * CELLS**2 + LEVELS**3 + ANGLES * CELLS**2  # 48 + 64 + 128 = 240


def crop_boxes(picture: Image.Image, boxes: Float[np.ndarray, "boxes 4"]) -> UInt8[np.ndarray, "boxes 32 32 3"]:
    """What each box (x1, y1, x2, y2; in [0, 1]) of an RGB picture shows, resampled to 32 x 32 pixels.

    A box smaller than that is interpolated, with the pixel next to it at its border.
    """
    corners = np.asarray(boxes, np.float64) * np.array([picture.width, picture.height] * 2)
    crops = [picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=tuple(corner)) for corner in corners]
    return np.stack([np.asarray(crop) for crop in crops])


def describe(crops: UInt8[np.ndarray, "n 32 32 3"]) -> Float[np.ndarray, "n 240"]:
    """The descriptor of each crop: colour layout (48), colour histogram (64), edge directions (128); float32.

    Each part is scaled so that its entries have a root mean square of about 1 and none drowns another.
    """
    if crops.ndim != 4 or crops.shape[1:] != (SIDE, SIDE, 3) or crops.dtype != np.uint8:
        raise ValueError(
            f"crops have shape {crops.shape} and type {crops.dtype}: expected (n, {SIDE}, {SIDE}, 3) uint8"
        )
    parts = [_layout(crops), _histogram(crops), _edges(crops)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _layout(crops: np.ndarray) -> Float[np.ndarray, "n 48"]:
    """Mean colour of each of the 4 x 4 cells, from -2 (dark) to 2."""
    step = SIDE // CELLS
    cells = crops.reshape(-1, CELLS, step, CELLS, step, 3).mean(axis=(2, 4))  # (n, cells, cells, 3)
    return (cells / 127.5 - 1).reshape(len(crops), -1) * 2


def _histogram(crops: np.ndarray) -> Float[np.ndarray, "n 64"]:
    """Square roots of the shares of 4 x 4 x 4 colours: near in Hellinger distance are like mixtures of colour."""
    red, green, blue = np.moveaxis(crops.reshape(len(crops), -1, 3) // (256 // LEVELS), 2, 0).astype(int)
    return _shares((red * LEVELS + green) * LEVELS + blue, np.ones(red.shape), LEVELS**3)


def _edges(crops: np.ndarray) -> Float[np.ndarray, "n 128"]:
    """Square roots of the shares of 8 edge directions in 4 x 4 cells, weighted by the edges' strength."""
    down, across = np.gradient(crops.mean(axis=3), axis=(1, 2))  # (n, 32, 32) each
    strength, angle = np.hypot(down, across), np.arctan2(down, across) % np.pi
    direction = (angle / np.pi * ANGLES).astype(int) % ANGLES
    cell = np.arange(SIDE) // (SIDE // CELLS)
    place = cell[:, None] * CELLS + cell  # (32, 32): the cell of each pixel
    return _shares((place * ANGLES + direction).reshape(len(crops), -1), strength.reshape(len(crops), -1), 128)


def _shares(bins: np.ndarray, weights: np.ndarray, count: int) -> Float[np.ndarray, "n count"]:
    """Root of each bin's share of its row's weight, times the root of the number of bins; 0 without any weight."""
    index = bins + count * np.arange(len(bins))[:, None]
    sums = np.bincount(index.ravel(), weights.ravel(), minlength=count * len(bins)).reshape(len(bins), count)
    return np.sqrt(count * sums / np.maximum(sums.sum(axis=1, keepdims=True), 1e-12))


def describe_pictures(
    pictures: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
) -> Float[np.ndarray, "total 240"]:
    """Descriptors of all boxes of several pictures, one after the other."""
    return describe(np.concatenate([crop_boxes(*pair) for pair in zip(pictures, boxes, strict=True)]))
