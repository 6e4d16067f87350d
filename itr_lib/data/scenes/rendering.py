"""From a scene to a picture: signed-distance shapes with shadow, shading, outline and texture on procedural grounds.

Everything is a function of coordinates in [0, 1], never of pixel indices, so that every resolution shows the same
picture. An object is computed only inside its own window, which keeps a 112-pixel picture at a few milliseconds.
"""

from __future__ import annotations

import numpy as np

from itr_lib.data.scenes.grounds import paint_ground
from itr_lib.data.scenes.shapes import signed_distance
from itr_lib.data.scenes.world import Scene, SceneObject

PALETTE = {
    "red": (0.86, 0.10, 0.12), "orange": (0.98, 0.50, 0.06), "yellow": (0.99, 0.87, 0.12),
    "green": (0.05, 0.52, 0.16), "turquoise": (0.10, 0.78, 0.76), "blue": (0.10, 0.27, 0.88),
    "purple": (0.49, 0.14, 0.68), "pink": (1.00, 0.52, 0.74),
    "white": (0.97, 0.97, 0.97), "black": (0.10, 0.10, 0.11),
}  # fmt: skip
# The second tone of a texture keeps the hue: lighter for deep colours, darker for light ones.
SECOND_TONE = {
    "red": (1.00, 0.66, 0.62), "orange": (1.00, 0.83, 0.58), "yellow": (0.80, 0.60, 0.02),
    "green": (0.55, 0.88, 0.52), "turquoise": (0.02, 0.44, 0.46), "blue": (0.60, 0.76, 1.00),
    "purple": (0.85, 0.66, 0.96), "pink": (0.80, 0.20, 0.48),
    "white": (0.60, 0.62, 0.66), "black": (0.50, 0.50, 0.53),
}  # fmt: skip
OUTLINE_WIDTH = 0.011
SHADOW_OFFSET = (0.012, 0.020)
SHADOW_BLUR = 0.030
SHADOW_STRENGTH = 0.42


def render(scene: Scene, size: int = 128) -> np.ndarray:
    """Draw the scene as uint8 (size, size, 3), the same picture at any size; ValueError below 16 pixels."""
    if size != int(size) or size < 16:
        raise ValueError(f"render: size is {size!r}, expected a whole number of at least 16 pixels.")
    rng = np.random.default_rng(scene.seed)
    axis = (np.arange(int(size), dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    canvas = paint_ground(scene.ground, axis, rng)
    for thing, phase in zip(scene.objects, rng.random((len(scene.objects), 2)), strict=True):
        _paint_object(canvas, axis, thing, phase)
    np.clip(canvas, 0.0, 1.0, out=canvas)
    return (canvas * 255.0 + 0.5).astype(np.uint8)


def _paint_object(canvas: np.ndarray, axis: np.ndarray, thing: SceneObject, phase: np.ndarray) -> None:
    """Blend one object and its shadow into the canvas (size, size, 3), in place."""
    pixel = 1.0 / len(axis)
    reach = 1.05 * thing.radius + SHADOW_OFFSET[1] + SHADOW_BLUR
    columns = slice(*np.searchsorted(axis, (thing.x - reach, thing.x + reach)))
    rows = slice(*np.searchsorted(axis, (thing.y - reach, thing.y + reach)))
    u = ((axis[columns] - thing.x) / thing.radius).astype(np.float32)[None, :]
    v = ((axis[rows] - thing.y) / thing.radius).astype(np.float32)[:, None]
    body, shadow = _distances(thing, u, v)

    window = canvas[rows, columns]
    window *= 1.0 - _shadow_alpha(shadow)[..., None]
    # anti-aliasing: the share of the pixel that lies inside
    coverage = np.clip(0.5 - body / pixel, 0.0, 1.0)[..., None]
    window += coverage * (_surface(thing, u, v, body, phase, pixel) - window)


def _distances(thing: SceneObject, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances (rows, columns), negative inside, to the object and to its shadow, in units of the picture."""
    dx, dy = (offset / thing.radius for offset in SHADOW_OFFSET)
    both_u = np.stack([u, u - np.float32(dx)])  # one evaluation for the two
    both_v = np.stack([v, v - np.float32(dy)])
    body, shadow = signed_distance(thing.shape, both_u, both_v) * np.float32(thing.radius)
    return body, shadow


def _shadow_alpha(distance: np.ndarray) -> np.ndarray:
    t = np.clip(0.5 - distance / SHADOW_BLUR, 0.0, 1.0)
    return SHADOW_STRENGTH * t * t * (3.0 - 2.0 * t)


def _surface(thing: SceneObject, u, v, distance, phase, pixel) -> np.ndarray:
    """Colour (rows, columns, 3) of the object itself: two tones, light from the upper left, dark outline."""
    base, second = (np.array(tones[thing.colour], np.float32) for tones in (PALETTE, SECOND_TONE))
    light = 1.0 - 0.10 * (u + v)
    gloss = np.clip(1.0 - 2.2 * ((u + 0.32) ** 2 + (v + 0.38) ** 2), 0.0, 1.0)
    gloss = 0.22 * gloss * gloss
    colour = np.broadcast_to(base, (*distance.shape, 3))
    if thing.texture != "plain":
        colour = base + _pattern(thing, u, v, phase, pixel)[..., None] * (second - base)
    colour = colour * light[..., None]
    colour += gloss[..., None] * (1.0 - colour)
    edge = np.clip(0.5 + (distance + OUTLINE_WIDTH) / max(pixel, 0.004), 0.0, 1.0)
    # a light rim lets black be seen at night
    outline = 1.55 * second if thing.colour == "black" else 0.42 * base
    return colour + edge[..., None] * (outline - colour)


def _pattern(thing: SceneObject, u, v, phase, pixel) -> np.ndarray:
    """How much of the second tone shows, (rows, columns) in [0, 1]; edges are one pixel soft."""
    texture, scale = thing.texture, thing.radius
    sharp = scale / pixel
    a, b = (np.float32(2 * np.pi * p) for p in phase)
    if texture == "striped":
        k = np.float32(2 * np.pi / 0.62)
        wave = np.sin(k * 0.8 * u + k * 0.6 * v + a) / k
    elif texture == "checked":
        k = np.float32(np.pi / 0.42)
        wave = np.sin(k * u + a) * np.sin(k * v + b) / k
    else:  # spotted: a staggered lattice of discs
        cell = np.float32(0.62)
        row = np.floor(v / cell + phase[1])
        s = (u / cell + phase[0] + 0.5 * (row % 2)) % 1.0 - 0.5
        t = (v / cell + phase[1]) - row - 0.5
        wave = cell * (np.float32(0.31) - np.sqrt(s * s + t * t))
    return np.clip(0.5 + wave * np.float32(sharp), 0.0, 1.0)
