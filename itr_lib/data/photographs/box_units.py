"""Boxes as files give them: corners in pixels of the right picture, or something else that only looks like it.

Clipping makes any four numbers a box, so what does not fit must be told before: boxes that were measured on a picture
of another size, and (x, y, width, height) in place of two corners. One picture may not give it away; a file does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Real

from itr_lib.data.boxes import WHOLE
from itr_lib.data.photographs.problems import Problems

SizeOf = Callable[[str], tuple[int, int]]  # file name of an image -> width and height in pixels

SLACK = 0.05  # of the picture's side: detectors and annotators go a little beyond the edge
TELLING = 20  # pictures from which on boxes that never come near the far edges cannot be chance
FAR = 0.8
FLIPPED = "box that ends before it begins"
NO_CORNERS = "boxes whose second corner lies left of the first or above it: expected (x1, y1, x2, y2), not (x, y, w, h)"


def are_numbers(values, count: int) -> bool:
    """Whether JSON gave a list of so many numbers that are finite, not NaN, and no nonsense."""
    plain = isinstance(values, list) and len(values) == count
    return plain and all(type(value) in (int, float) and abs(value) < 1e9 for value in values)


def relative_boxes(
    boxes: Real[np.ndarray, "boxes 4"], size: tuple[float, float]
) -> tuple[Float[np.ndarray, "boxes 4"], str | None]:
    """Boxes divided by the picture's ``size`` (width, height) and clipped to it, and what is wrong with them, or None.

    Boxes that are relative already have the size (1, 1).
    """
    divided = boxes.astype(np.float32) / np.float32([*size, *size])
    if not np.isfinite(divided).all():
        return divided, "boxes with NaN or infinite values"
    if not_corners(boxes):
        return divided, NO_CORNERS
    low, high = divided.min(initial=0), divided.max(initial=0)
    if low < -SLACK or high > 1 + SLACK:
        width, height = boxes[:, 2].max(), boxes[:, 3].max()
        return divided, (
            f"boxes that reach to ({width:g}, {height:g}) or start below 0, in a picture of {size[0]:g} x {size[1]:g}:"
            " they were measured on a picture of another size; store that size beside them as image_w and image_h"
        )
    return divided.clip(0, 1), None


def relative_to_picture(
    boxes: np.ndarray | None, regions: int, name: str, size: tuple[float, float] | None, size_of: SizeOf | None
) -> tuple[Float[np.ndarray, "regions 4"] | None, str | None]:
    """Boxes of the picture ``name``, relative or in pixels, as relative ones; and what is wrong with them, or None.

    The pixels are those of ``size``, else of the picture itself. No boxes: each region is the whole picture.
    """
    if boxes is None:
        return np.tile(WHOLE, (regions, 1)), None
    if not boxes.max() > 1.5:  # divided already
        return relative_boxes(boxes, (1, 1))
    if size is None and size_of is None:
        return None, "boxes in pixels, and no image folder to take the picture's size from"
    try:
        return relative_boxes(boxes, size or size_of(name))
    except (OSError, ValueError):
        return None, "boxes in pixels, and the picture to take the size from cannot be read"


def not_corners(boxes: Real[np.ndarray, "boxes 4"]) -> bool:
    """Whether a box ends before it begins."""
    return bool((boxes[:, 2:] < boxes[:, :2]).any())


def usable_box(box, size: Sequence[float], where: str, name: str, problems: Problems) -> tuple[float, ...] | None:
    """A box in pixels, as a file gives it, divided by the picture's ``size`` and cut to it, or None (and a problem).

    It may stick out by :data:`SLACK`, and covers half a pixel at least. ``where`` says whose box it is, ``name`` is the
    picture's.
    """
    if not are_numbers(box, 4):
        return problems.add("box that is none", name, f"A box of {where} is {box!r}: expected four numbers.")
    corners = np.array([box], float)
    if not_corners(corners):
        return problems.add(FLIPPED, name, f"The box {box} of {where} is one of the {NO_CORNERS}.")
    (inside,), problem = relative_boxes(corners, (size[0], size[1]))
    if problem or min((inside[2:] - inside[:2]) * size) < 0.5:
        sentence = f"The box {box} of {where}, {size[0]} x {size[1]}: {problem or 'a box that covers no pixel'}."
        return problems.add("box outside the picture", name, sentence)
    return tuple(inside.tolist())


def expect_whole_pictures(boxes: list[Float[np.ndarray, "_ 4"]], path) -> None:
    """Raise ``ValueError`` where the boxes of many pictures all keep away from the right and the lower edge."""
    far = max((float(own[:, 2:].max()) for own in boxes if len(own)), default=1.0)
    if len(boxes) >= TELLING and far < FAR:
        raise ValueError(
            f"No box of the {len(boxes)} pictures in {path} reaches beyond {far:.0%} of width or height: they were"
            " measured on smaller pictures; divide them by the width and height of these before you store them"
        )


def expect_corners(flipped: int, pictures: int, path) -> None:
    """Raise ``ValueError`` where boxes end before they begin in a quarter of the pictures: a matter of the file."""
    if flipped > 2 and 4 * flipped >= pictures:
        raise ValueError(f"{path} has, for {flipped} of {pictures} pictures, {NO_CORNERS}; add x to w and y to h")
