"""Boxes of regions ``(x1, y1, x2, y2)``, of scenes and of photographs alike. No torch: worker processes import this."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

MAX_REGIONS = 36  # a picture, as in bottom-up attention (Anderson et al., CVPR 2018)
WHOLE = np.float32([[0, 0, 1, 1]])  # the one box of a picture that is seen as a whole
SHOWN = 0.5  # a box shows an object from this intersection over union on


def iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of each pair of boxes; 0 where both are empty."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-12)
