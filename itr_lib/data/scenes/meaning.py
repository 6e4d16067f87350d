"""What a caption means, of which scenes it is true, and how much of it a scene supports.

The meaning is a small structure that a machine can check; `is_true` is the definition, `truth_matrix` the same for
many scenes and captions at once, and `graph_relevance` the graded counterpart for NDCG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float, Int

from itr_lib.data.scenes.world import POSITIONS, Scene, SceneObject, position_holds, relation_holds, relation_tuple


@dataclass(frozen=True)
class Description:
    """What is said of one object, in canonical names; None: left unsaid."""

    shape: str
    colour: str | None = None
    size: str | None = None
    texture: str | None = None
    position: str | None = None

    def fits(self, thing: SceneObject) -> bool:
        """Does everything that is said hold of this object?"""
        named = all(
            getattr(self, name) in (None, getattr(thing, name)) for name in ("shape", "colour", "size", "texture")
        )
        return named and (self.position is None or position_holds(self.position, thing))


@dataclass(frozen=True)
class Relation:
    """`objects[first]` stands in the canonical relation `name` to `objects[second]`."""

    first: int
    name: str
    second: int


@dataclass(frozen=True)
class Meaning:
    """The claims of a caption.

    Attributes:
        objects: one description for each object spoken of; different descriptions mean different objects.
        relations: between these objects, by their place in `objects`.
        ground: canonical name, or None.
        count: (description, n): exactly n objects of the scene fit, as "two red stars" says.
    """

    objects: tuple[Description, ...]
    relations: tuple[Relation, ...] = ()
    ground: str | None = None
    count: tuple[Description, int] | None = None

    def tuples(self) -> frozenset[tuple]:
        """The claims as scene-graph tuples, in the forms of `Scene.graph`."""
        claims: set[tuple] = {("object", self.ground)} if self.ground else set()
        for described in self.objects:
            claims.add(("object", described.shape))
            for field in fields(described)[1:]:
                value = getattr(described, field.name)
                if value is not None:
                    claims.add(("attribute", described.shape, value))
        for link in self.relations:
            first, second = self.objects[link.first].shape, self.objects[link.second].shape
            claims.add(relation_tuple(first, link.name, second))
        if self.count:
            described, number = self.count
            claims.add(("count", described.shape, described.colour, number))
        return frozenset(claims)


def is_true(meaning: Meaning, scene: Scene) -> bool:
    """Can the described objects be found in the scene, each a different one, so that every claim holds?

    The plain definition, by trying every assignment of scene objects to descriptions.
    """
    if meaning.ground not in (None, scene.ground):
        return False
    if meaning.count is not None:
        described, number = meaning.count
        if sum(described.fits(thing) for thing in scene.objects) != number:
            return False
    return any(_satisfies(meaning, chosen) for chosen in permutations(scene.objects, len(meaning.objects)))


def _satisfies(meaning: Meaning, chosen: tuple[SceneObject, ...]) -> bool:
    fit = all(described.fits(thing) for described, thing in zip(meaning.objects, chosen, strict=True))
    return fit and all(relation_holds(r.name, chosen[r.first], chosen[r.second]) for r in meaning.relations)


def truth_matrix(scenes: Sequence[Scene], captions: Sequence) -> Bool[np.ndarray, "scenes captions"]:
    """Entry (i, j): is caption j true of scene i? Equal to `is_true` everywhere, but fast.

    Search in two steps, as large retrieval systems do: an index gives each caption a short list of scenes that hold
    an object for every description; `is_true` then judges only these. The index never loses a true scene.
    """
    truth = np.zeros((len(scenes), len(captions)), bool)
    index = _index(scenes)
    grounds = np.array([scene.ground for scene in scenes])
    holding: dict[Description, np.ndarray] = {}
    for j, caption in enumerate(captions):
        meaning = caption.meaning
        shortlist = np.ones(len(scenes), bool) if meaning.ground is None else grounds == meaning.ground
        for described in set(meaning.objects):
            if described not in holding:
                holding[described] = _scenes_holding(described, index)
            shortlist = shortlist & holding[described]
        for i in np.flatnonzero(shortlist):
            truth[i, j] = is_true(meaning, scenes[i])
    return truth


def _index(scenes: Sequence[Scene]) -> dict[tuple[str, str], Bool[np.ndarray, "slots scenes"]]:
    """For each (attribute, value): which object of which scene has it; scenes with fewer objects leave slots empty."""
    slots = max((len(scene.objects) for scene in scenes), default=0)
    index: dict[tuple[str, str], np.ndarray] = {("", ""): np.zeros((slots, len(scenes)), bool)}
    for i, scene in enumerate(scenes):
        for slot, thing in enumerate(scene.objects):
            keys = [(name, getattr(thing, name)) for name in ("shape", "colour", "size", "texture")]
            keys += [("position", position) for position in POSITIONS if position_holds(position, thing)]
            for key in keys:
                index.setdefault(key, np.zeros((slots, len(scenes)), bool))[slot, i] = True
    return index


def _scenes_holding(described: Description, index: dict) -> Bool[np.ndarray, " scenes"]:
    """Scenes with at least one object that the description fits."""
    said = [(field.name, getattr(described, field.name)) for field in fields(described)]
    fitting = [index.get(key, index["", ""]) for key in said if key[1] is not None]
    return np.logical_and.reduce(fitting).any(axis=0)


def graph_relevance(
    scenes: Sequence[Scene],
    captions: Sequence,
    image_of_caption: Int[np.ndarray, " captions"] | None = None,
) -> Float[np.ndarray, "scenes captions"]:
    """Graded relevance in [0, 1]: F-score of the caption's scene-graph tuples against those of the image.

    The measure is that of SPICE (Anderson et al., ECCV 2016) without its parser, because here the tuples are known:
    precision is the share of the caption's tuples found in the reference, recall the share of the reference's tuples
    found in the caption, F their harmonic mean. Tuples are canonical, so synonyms match.

    With `image_of_caption` (row of each caption's own image) the reference of image i is the union of its own
    captions' tuples, as in SPICE and in the NDCG of TERAN: use this one for NDCG, as long as every image has
    captions. Without it the reference is the scene's whole graph. That needs no captions, but a scene with few objects
    has a small graph and so a high recall, and can outrank a fuller scene of which more of the caption is true.
    Either way a caption's precision against its own scene is 1.

    Raises:
        ValueError: `image_of_caption` has another length than `captions` or names a row that does not exist.
    """
    said = [caption.meaning.tuples() for caption in captions]
    references = [scene.graph() for scene in scenes]
    if image_of_caption is not None:
        references = _own_tuples(said, image_of_caption, len(scenes))
    vocabulary: dict[tuple, int] = {}
    for claims in said:
        for claim in claims:
            vocabulary.setdefault(claim, len(vocabulary))
    # float32 counts are exact below 2**24, and the product of two 0/1 matrices counts common tuples
    common = _indicator(references, vocabulary) @ _indicator(said, vocabulary).T
    sizes = np.array([len(r) for r in references])[:, None] + np.array([len(s) for s in said])[None, :]
    return 2.0 * common / np.maximum(sizes, 1)  # the harmonic mean of c/a and c/b is 2c / (a + b)


def _own_tuples(said: list[frozenset], image_of_caption: np.ndarray, images: int) -> list[frozenset]:
    rows = np.asarray(image_of_caption)
    if rows.shape != (len(said),) or (len(rows) and not 0 <= rows.min() <= rows.max() < images):
        raise ValueError(
            f"image_of_caption has shape {rows.shape}, expected ({len(said)},) with rows in 0..{images - 1}."
        )
    own: list[set] = [set() for _ in range(images)]
    for row, claims in zip(rows, said, strict=True):
        own[row] |= claims
    return [frozenset(claims) for claims in own]


def _indicator(sets: list[frozenset], vocabulary: dict[tuple, int]) -> Float[np.ndarray, "sets tuples"]:
    matrix = np.zeros((len(sets), len(vocabulary)), np.float32)
    for row, members in enumerate(sets):
        matrix[row, [vocabulary[m] for m in members if m in vocabulary]] = 1.0
    return matrix
