"""Candidate boxes of a scene, as a detector hands them out, and which object each one shows.

Bottom-up attention (Anderson et al., CVPR 2018) describes a picture by up to 36 boxes: several around each
object, none of them exact, and many of background. Here they are drawn by lot around the true boxes, so that the
truth stays known. No torch here: worker processes import this module.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from itr_lib.data.boxes import MAX_REGIONS, SHOWN, iou
from itr_lib.data.scenes.world import Scene

MIN_REGIONS = 20
DUPLICATES = (2, 4)  # boxes an object


def candidate_boxes(scene: Scene, rng: np.random.Generator) -> Float[np.ndarray, "regions 4"]:
    """Boxes (x1, y1, x2, y2) in [0, 1]: first the whole picture, then the others in random order.

    20 to 36 boxes; each object has one box close to its own and one to three that are further off; the rest falls
    anywhere. How much is drawn depends on the number of objects alone, so that two scenes that differ in a
    colour get the same boxes from the same ``rng``.
    """
    count = int(rng.integers(MIN_REGIONS, MAX_REGIONS + 1))
    boxes = []
    for thing in scene.objects:
        repeats = int(rng.integers(DUPLICATES[0], DUPLICATES[1] + 1))
        spread = np.array([0.04] + [0.11] * (repeats - 1))[:, None]
        boxes.append(_jittered(thing.box, spread, rng))
    closest, further = [some[:1] for some in boxes], [some[1:] for some in boxes]
    objects = np.concatenate(closest + further)[: count - 1]  # where there are too many, the further ones go
    anywhere = boxes_anywhere(count - 1 - len(objects), rng)
    others = rng.permutation(np.concatenate([objects, anywhere]))
    return np.concatenate([[(0.0, 0.0, 1.0, 1.0)], others]).clip(0, 1).astype(np.float32)


def _jittered(box: Sequence[float], spread: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copies (n, 4) of a box, each shifted and stretched by about ``spread`` (n, 1) of its sides."""
    x1, y1, x2, y2 = box
    sides = np.array([x2 - x1, y2 - y1])
    centres = np.array([x1 + x2, y1 + y2]) / 2 + rng.normal(size=(len(spread), 2)) * spread * sides
    sides = sides * np.exp(rng.normal(size=(len(spread), 2)) * spread + 0.03)
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


def boxes_anywhere(count: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes (count, 4) of any place, with sides of 0.12 to 0.5."""
    sides = rng.uniform(0.12, 0.5, size=(count, 2))
    corners = rng.random((count, 2)) * (1 - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def pad_boxes(
    boxes: Sequence[Float[np.ndarray, "_ 4"]],
) -> tuple[Float[np.ndarray, "images 36 4"], Bool[np.ndarray, "images 36"]]:
    """Boxes of several images with zeros up to 36, and the mask of the real ones."""
    padded, mask = np.zeros((len(boxes), MAX_REGIONS, 4), np.float32), np.zeros((len(boxes), MAX_REGIONS), bool)
    for row, some in enumerate(boxes):
        padded[row, : len(some)] = some
        mask[row, : len(some)] = True
    return padded, mask


def region_object(scene: Scene, boxes: Float[np.ndarray, "regions 4"]) -> Int[np.ndarray, " regions"]:
    """For each box the index of the object it overlaps most, if by an IoU of at least 0.5; otherwise -1 (int16)."""
    overlap = iou(boxes, np.array([thing.box for thing in scene.objects]))
    return np.where(overlap.max(1) >= SHOWN, overlap.argmax(1), -1).astype(np.int16)
