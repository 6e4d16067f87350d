"""Signed distances of the twelve shapes: negative inside, zero on the outline, in units of the shape's radius.

A shape is a function of local coordinates u (to the right) and v (downwards), arrays that broadcast together.
The formulas for the heart and the polygon follow Inigo Quilez, "2D distance functions" (iquilezles.org).
"""

from __future__ import annotations

import numpy as np

POLYGONS = {
    "triangle": [(0, -0.87), (0.90, 0.70), (-0.90, 0.70)],
    "diamond": [(0, -0.96), (0.76, 0), (0, 0.96), (-0.76, 0)],
    "arrow": [(0, -1), (0.85, -0.02), (0.35, -0.02), (0.35, 0.95), (-0.35, 0.95), (-0.35, -0.02), (-0.85, -0.02)],
    "star": [(r * np.sin(k * np.pi / 5), 0.05 - r * np.cos(k * np.pi / 5)) for k, r in enumerate([1.05, 0.47] * 5)],
    "cone": [(0, -1), (0.547, 0.029), (-0.547, 0.029)],  # the drop's upper part, tangent to its circle
}
ROUNDING = {"triangle": 0.08, "diamond": 0.04}


def signed_distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance from the points (u, v) to the shape's outline; the result has their joint shape."""
    u, v = np.broadcast_arrays(u, v)
    if shape in POLYGONS:
        return _polygon(u, v, POLYGONS[shape]) - np.float32(ROUNDING.get(shape, 0.0))
    return _ROUND_SHAPES[shape](u, v)


def _length(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v)


def _polygon(u: np.ndarray, v: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    """Distance to the nearest edge; inside or outside by counting the edges that a ray crosses."""
    points = np.array(corners, np.float32)
    steps = np.roll(points, -1, axis=0) - points
    nearest = np.full(u.shape, np.inf, np.float32)
    inside = np.zeros(u.shape, bool)
    for (x, y), (ex, ey) in zip(points, steps, strict=True):
        du, dv = u - x, v - y
        along = np.clip((du * ex + dv * ey) * (1 / (ex * ex + ey * ey)), 0.0, 1.0)
        np.minimum(nearest, (du - ex * along) ** 2 + (dv - ey * along) ** 2, out=nearest)
        crosses = ((dv >= 0) != (dv - ey >= 0)) & ((dv * ex > du * ey) == (ey > 0))
        inside ^= crosses
    return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(nearest)


def _box(u: np.ndarray, v: np.ndarray, half_u: float, half_v: float) -> np.ndarray:
    du, dv = np.abs(u) - np.float32(half_u), np.abs(v) - np.float32(half_v)
    return _length(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0)


def _circle(u, v):
    return _length(u, v) - np.float32(0.95)


def _square(u, v):
    return _box(u, v, 0.76, 0.76) - np.float32(0.08)


def _cross(u, v):
    return np.minimum(_box(u, v, 0.89, 0.28), _box(u, v, 0.28, 0.89)) - np.float32(0.04)


def _ring(u, v):
    return np.abs(_length(u, v) - np.float32(0.665)) - np.float32(0.285)


def _crescent(u, v):
    u = u - np.float32(0.20)  # the horns point to the right; moved so that the crescent sits in the middle
    return np.maximum(_length(u, v) - np.float32(0.95), np.float32(0.78) - _length(u - np.float32(0.5), v))


def _flower(u, v):
    angles = np.arange(5) * (2 * np.pi / 5)
    nearest = _length(u, v) - np.float32(0.35)
    for su, cv in zip(np.sin(angles), np.cos(angles), strict=True):
        petal = _length(u - np.float32(0.58 * su), v + np.float32(0.58 * cv)) - np.float32(0.37)
        nearest = np.minimum(nearest, petal)
    return nearest


def _drop(u, v):
    ball = _length(u, v - np.float32(0.32)) - np.float32(0.62)
    return np.minimum(ball, _polygon(u, v, POLYGONS["cone"]))


def _heart(u, v):
    scale = np.float32(1.7)
    x, y = np.abs(u) / scale, (np.float32(0.88) - v) / scale  # the formula's tip is at the origin, y upwards
    lobe = _length(x - np.float32(0.25), y - np.float32(0.75)) - np.float32(np.sqrt(2) / 4)
    fold = np.float32(0.5) * np.maximum(x + y, 0)
    side = np.sqrt(np.minimum(x * x + (y - 1) ** 2, (x - fold) ** 2 + (y - fold) ** 2)) * np.sign(x - y)
    return np.where(x + y > 1, lobe, side) * scale


_ROUND_SHAPES = {
    "circle": _circle, "square": _square, "cross": _cross, "ring": _ring,
    "crescent": _crescent, "flower": _flower, "drop": _drop, "heart": _heart,
}  # fmt: skip
