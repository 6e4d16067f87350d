"""The eight grounds: cheap functions of the coordinates, sines and value noise.

Noise interpolates a small lattice first down and then across, and a star is a product f(y) g(x): both cost little more
than the picture has pixels. No matrix product is used, because its threads get in each other's way when several
processes draw, and because it may round differently from machine to machine.
"""

from __future__ import annotations

import numpy as np


def paint_ground(name: str, axis: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The ground as float32 (size, size, 3) in [0, 1]; `axis` (size,) holds the pixel centres' coordinates."""
    return _GROUNDS[name](axis[None, :], axis[:, None], rng)


def _mix(amount: np.ndarray, first: tuple, second: tuple) -> np.ndarray:
    """From colour `first` (amount 0) to `second` (amount 1): (size, size, 3)."""
    low, high = np.array(first, np.float32), np.array(second, np.float32)
    return low + amount[..., None] * (high - low)


def _lattice_cells(axis: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """For each coordinate the lattice line before it, and how far it has come to the next, smoothly in [0, 1]."""
    along = axis.ravel() * np.float32(cells)
    before = np.minimum(along.astype(int), cells - 1)
    t = along - before.astype(np.float32)
    return before, t * t * (3.0 - 2.0 * t)


def _noise(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, across: int, down: int) -> np.ndarray:
    """Value noise (size, size) in [0, 1] on a lattice of `across` by `down` cells."""
    lattice = rng.random((down + 1, across + 1), dtype=np.float32)
    row, t = _lattice_cells(y, down)
    rows = lattice[row] + t[:, None] * (lattice[row + 1] - lattice[row])
    column, s = _lattice_cells(x, across)
    left = rows[:, column]
    return left + s * (rows[:, column + 1] - left)


def _wave(t: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.sin(np.float32(2 * np.pi) * t)


def _grass(x, y, rng):
    blades = _noise(x, y, rng, 48, 16)
    patches = _noise(x, y, rng, 5, 4)
    return _mix(0.55 * blades + 0.45 * patches, (0.33, 0.50, 0.20), (0.64, 0.78, 0.40))


def _sand(x, y, rng):
    bend = _noise(x, y, rng, 4, 4)
    ripples = _wave(11 * y + 1.6 * bend + 1.3 * x)
    grain = _noise(x, y, rng, 50, 50)
    return _mix(0.45 * ripples + 0.25 * grain + 0.3 * bend, (0.80, 0.68, 0.46), (0.95, 0.87, 0.68))


def _water(x, y, rng):
    bend = _noise(x, y, rng, 6, 6)
    swell = _wave(6 * y + 2.0 * bend + x)
    glints = _wave(9 * y - 2.6 * bend + 3 * _noise(x, y, rng, 7, 3)) ** 6
    return _mix(0.6 * swell + 0.5 * glints, (0.20, 0.46, 0.66), (0.60, 0.82, 0.92))


def _wood(x, y, rng):
    planks = 5
    plank = np.minimum((y * planks).astype(int), planks - 1)
    shade = rng.random(planks, dtype=np.float32)[plank]
    grain = _wave(16 * y + 1.8 * _noise(x, y, rng, 3, 20) + 3 * shade)
    amount = 0.35 * grain + 0.35 * shade + 0.3 * _noise(x, y, rng, 6, 50)
    seam = np.clip(np.abs((y * planks) % 1.0 - 0.5) * 40 - 19, 0.0, 1.0)
    return _mix(amount, (0.50, 0.33, 0.19), (0.76, 0.57, 0.37)) * (1.0 - 0.5 * seam[..., None])


def _brick(x, y, rng):
    rows, columns = 9, 5
    row = np.minimum((y * rows).astype(int), rows - 1)
    along = x * columns + 0.5 * (row % 2)
    tone = rng.random((rows, columns + 1), dtype=np.float32)[row, along.astype(int)]
    body = _mix(0.7 * tone + 0.3 * _noise(x, y, rng, 40, 40), (0.50, 0.25, 0.19), (0.68, 0.38, 0.29))
    return _joints(body, along, y * rows, 0.055, 0.10, (0.74, 0.70, 0.64))


def _joints(body, along, down, width, height, colour):
    """Cover the lines between the cells of a wall with mortar."""
    across = 0.5 - np.abs(along % 1.0 - 0.5)
    upright = 0.5 - np.abs(down % 1.0 - 0.5)
    mortar = np.maximum(np.clip(2 - across / (0.5 * width), 0, 1), np.clip(2 - upright / (0.5 * height), 0, 1))
    return body + mortar[..., None] * (np.array(colour, np.float32) - body)


def _snow(x, y, rng):
    drifts = _wave(2.2 * y + 1.2 * _noise(x, y, rng, 3, 3))
    soft = _noise(x, y, rng, 14, 14)
    return _mix(0.6 * drifts + 0.4 * soft, (0.70, 0.79, 0.91), (0.91, 0.94, 0.99))


def _night_sky(x, y, rng):
    clouds = _noise(x, y, rng, 4, 4) * (0.4 + 0.6 * y)
    sky = _mix(clouds, (0.07, 0.09, 0.24), (0.22, 0.26, 0.50))
    stars = rng.random((48, 3), dtype=np.float32)
    glow_x = np.exp(-(((x.reshape(-1, 1) - stars[:, 0]) / 0.006) ** 2))
    glow_y = np.exp(-(((y.reshape(-1, 1) - stars[:, 1]) / 0.006) ** 2))
    light = np.einsum("yk,xk->yx", glow_y * (0.3 + 0.7 * stars[:, 2] ** 2), glow_x)
    return sky + 0.9 * light[..., None] * np.array((1.0, 0.98, 0.88), np.float32)


def _stone(x, y, rng):
    rows, columns = 5, 5
    bend = _noise(x, y, rng, 9, 9) - 0.5
    lean = _noise(x, y, rng, 9, 9) - 0.5
    down = np.clip(y * rows + 0.55 * bend, 0.0, rows - 0.001)
    row = down.astype(int)
    along = np.clip(x * columns + 0.5 * (row % 2) + 0.55 * lean, 0.0, columns + 0.999)
    tone = rng.random((rows, columns + 1), dtype=np.float32)[row, along.astype(int)]
    body = _mix(0.65 * tone + 0.35 * _noise(x, y, rng, 36, 36), (0.55, 0.56, 0.58), (0.76, 0.76, 0.75))
    return _joints(body, along, down, 0.09, 0.09, (0.42, 0.42, 0.43))


_GROUNDS = {
    "grass": _grass, "sand": _sand, "water": _water, "wood": _wood,
    "brick": _brick, "snow": _snow, "night sky": _night_sky, "stone": _stone,
}  # fmt: skip
