"""The little world of the course: what a scene is, when a relation holds in it, and how one is drawn by lot.

A scene is a square picture of side 1, x to the right and y downwards, with 3 to 6 objects on a ground. Nothing here
knows about pixels (`rendering.py`) or about language (`grammar.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np

SHAPES = (
    "circle", "square", "triangle", "star", "heart", "diamond",
    "arrow", "cross", "ring", "crescent", "flower", "drop",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "white", "black")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "spotted", "checked")
GROUNDS = ("grass", "sand", "water", "wood", "brick", "snow", "night sky", "stone")

POSITIONS = ("left", "right", "top", "bottom", "upper left", "upper right", "lower left", "lower right", "middle")
RELATIONS = ("left of", "above", "near")  # canonical: "right of" and "below" are the same with the objects exchanged

RADII = {"small": 0.067, "medium": 0.102, "large": 0.150}  # a factor of 1.5 between neighbours, jitter 5 %
MAX_OBJECTS = 6

# What a shape covers around its centre, in units of its radius: left, top, right, bottom (y downwards).
EXTENTS = {
    "circle": (0.95, 0.95, 0.95, 0.95), "square": (0.84, 0.84, 0.84, 0.84), "triangle": (0.98, 0.95, 0.98, 0.78),
    "star": (1.0, 1.0, 1.0, 0.90), "heart": (1.026, 0.996, 1.026, 0.88), "diamond": (0.80, 1.0, 0.80, 1.0),
    "arrow": (0.85, 1.0, 0.85, 0.95), "cross": (0.93, 0.93, 0.93, 0.93), "ring": (0.95, 0.95, 0.95, 0.95),
    "crescent": (0.75, 0.95, 0.743, 0.95), "flower": (0.921, 0.95, 0.921, 0.839), "drop": (0.62, 1.0, 0.62, 0.94),
}  # fmt: skip

# When is "left of" true? A viewer doubts small differences, so a relation needs a clear gap, and a speaker
# (`grammar.py`) asks for SPEAKER_MARGIN more than the truth does: what is uttered is never a borderline case.
MIN_OFFSET = 0.12  # between centres, for "left of" and "above"
MAX_GAP = 0.06  # between outlines, for "near"
SPEAKER_MARGIN = 0.03
LOW, HIGH = 0.38, 0.62  # the picture's left and right (top and bottom) parts


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene: its attributes' names, its centre (x, y) and radius in units of the picture's side."""

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        allowed = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"SceneObject.{name} is {getattr(self, name)!r}, expected one of {values}.")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Tight box (x1, y1, x2, y2) of what is drawn, shadow aside, in [0, 1]."""
        left, top, right, bottom = EXTENTS[self.shape]
        r = self.radius
        return (self.x - left * r, self.y - top * r, self.x + right * r, self.y + bottom * r)


@dataclass(frozen=True)
class Scene:
    """A ground and its objects in painting order; `seed` fixes what has no name (noise, phases of textures)."""

    ground: str
    objects: tuple[SceneObject, ...]
    seed: int

    def __post_init__(self) -> None:
        if self.ground not in GROUNDS:
            raise ValueError(f"Scene.ground is {self.ground!r}, expected one of {GROUNDS}.")
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise ValueError(f"A scene has 1 to {MAX_OBJECTS} objects, got {len(self.objects)}.")

    def graph(self) -> frozenset[tuple]:
        """Every tuple that holds, in the forms of SPICE (Anderson et al. 2016) and with its set semantics.

        ("object", shape or ground), ("attribute", shape, value) with value a colour, size, texture or position,
        ("count", shape, colour or None, n) for n >= 2, and ("relation", shape, name, shape) with a canonical name.
        Two red stars give one ("attribute", "star", "red"): a tuple names kinds of things, not individuals.
        """
        return _graph(self)


@lru_cache(maxsize=8192)
def _graph(scene: Scene) -> frozenset[tuple]:
    tuples = {("object", scene.ground)}
    for thing in scene.objects:
        tuples.add(("object", thing.shape))
        values = [thing.colour, thing.size, thing.texture]
        values += [position for position in POSITIONS if position_holds(position, thing)]
        tuples.update(("attribute", thing.shape, value) for value in values)
    for a, b in permutations(scene.objects, 2):
        tuples.update(relation_tuple(a.shape, name, b.shape) for name in RELATIONS if relation_holds(name, a, b))
    for colour in (None, *COLOURS):
        for shape in SHAPES:
            count = sum(t.shape == shape and colour in (None, t.colour) for t in scene.objects)
            if count >= 2:
                tuples.add(("count", shape, colour, count))
    return frozenset(tuples)


def relation_tuple(first: str, name: str, second: str) -> tuple[str, str, str, str]:
    """The relation's tuple; "near" is symmetric, so its shapes stand in alphabetical order."""
    if name == "near":
        first, second = sorted((first, second))
    return ("relation", first, name, second)


def relation_holds(name: str, a: SceneObject, b: SceneObject, margin: float = 0.0) -> bool:
    """Is `a` left of / above / near `b`, by `margin` more than the threshold asks?"""
    if name == "left of":
        return b.x - a.x >= MIN_OFFSET + margin
    if name == "above":
        return b.y - a.y >= MIN_OFFSET + margin
    if name == "near":
        gap = float(np.hypot(a.x - b.x, a.y - b.y)) - a.radius - b.radius
        return gap <= MAX_GAP - margin
    raise ValueError(f"Unknown relation {name!r}, expected one of {RELATIONS}.")


def position_holds(name: str, thing: SceneObject, margin: float = 0.0) -> bool:
    """Does the object's centre lie in the named part of the picture, by `margin` more than asked?"""
    if name not in POSITIONS:
        raise ValueError(f"Unknown position {name!r}, expected one of {POSITIONS}.")
    low, high = LOW - margin, HIGH + margin
    if name == "middle":
        return max(abs(thing.x - 0.5), abs(thing.y - 0.5)) <= 0.5 - LOW - margin
    tests = {"left": thing.x <= low, "right": thing.x >= high, "top": thing.y <= low, "bottom": thing.y >= high,
             "upper": thing.y <= low, "lower": thing.y >= high}  # fmt: skip
    return all(tests[word] for word in name.split())


def make_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene of 3 to 6 objects that hardly overlap; the same generator state gives the same scene."""
    count = int(rng.integers(3, MAX_OBJECTS + 1))
    ground = str(rng.choice(GROUNDS))
    while True:
        things = [_draw_attributes(rng) for _ in range(count)]
        if rng.random() < 0.3:  # an alike pair now and then, so that counting and ambiguity within a scene occur
            things[1] = replace(things[1], shape=things[0].shape, colour=things[0].colour)
        placed = _place(things, rng)
        if placed is not None:
            return Scene(ground, tuple(placed), int(rng.integers(2**31)))


def _draw_attributes(rng: np.random.Generator) -> SceneObject:
    shape, colour, size = (str(rng.choice(names)) for names in (SHAPES, COLOURS, SIZES))
    texture = str(rng.choice(TEXTURES, p=(0.34, 0.22, 0.22, 0.22)))
    radius = round(RADII[size] * float(rng.uniform(0.95, 1.05)), 4)
    return SceneObject(shape, colour, size, texture, 0.5, 0.5, radius)


def _place(things: list[SceneObject], rng: np.random.Generator) -> list[SceneObject] | None:
    """Give each object a centre, the largest first; None where the lot left no room."""
    placed: dict[int, SceneObject] = {}
    for index in sorted(range(len(things)), key=lambda i: -things[i].radius):
        thing = things[index]
        for _ in range(40):
            x, y = (round(float(v), 4) for v in rng.uniform(thing.radius + 0.015, 0.985 - thing.radius, 2))
            if all(np.hypot(x - o.x, y - o.y) >= 0.97 * (thing.radius + o.radius) for o in placed.values()):
                placed[index] = replace(thing, x=x, y=y)
                break
        else:
            return None
    return [placed[i] for i in range(len(things))]
