"""Twins: pairs of scenes that differ in one thing, with a caption for each that is false of the other.

A "swap" exchanges an attribute between two objects, so that the captions are the same bag of words and the pictures the
same bag of attributes: only a model that binds attributes to objects can tell them apart (the idea of Winoground,
Thrush et al. 2022, and ARO, Yuksekgonul et al. 2023). A "replace" changes one attribute to a value that is absent: the
control, which a bag of words can solve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from itr_lib.data.scenes.grammar import Caption, noun_phrase, pick, relate, say
from itr_lib.data.scenes.lexicon import CANONICAL, SYNONYMS, article
from itr_lib.data.scenes.meaning import Description, Meaning, Relation, is_true
from itr_lib.data.scenes.world import COLOURS, SHAPES, TEXTURES, Scene, make_scene

KINDS = ("swap", "replace")
VALUES = {"colour": COLOURS, "texture": TEXTURES, "shape": SHAPES}


@dataclass(frozen=True)
class Twins:
    """Two scenes, the caption of each, `kind` ("swap" or "replace") and the attribute in which they differ."""

    scenes: tuple[Scene, Scene]
    captions: tuple[Caption, Caption]
    kind: str
    attribute: str


def make_twins(rng: np.random.Generator, kind: str) -> Twins:
    """Draw a pair; ground, seed, places and all other attributes are the same in both scenes.

    Raises:
        ValueError: `kind` is neither "swap" nor "replace".
    """
    if kind not in KINDS:
        raise ValueError(f"make_twins: kind is {kind!r}, expected one of {KINDS}.")
    change = _swap if kind == "swap" else _replace
    while True:
        scene = make_scene(rng)
        twins = change(scene, rng)
        if twins is not None and _each_true_of_its_own_only(twins):
            return twins


def _each_true_of_its_own_only(twins: Twins) -> bool:
    verdicts = [[is_true(caption.meaning, scene) for scene in twins.scenes] for caption in twins.captions]
    return verdicts == [[True, False], [False, True]]


def _swap(scene: Scene, rng: np.random.Generator) -> Twins | None:
    attribute = pick(("colour", "colour", "texture"), rng)
    i, j = (int(k) for k in rng.permutation(len(scene.objects))[:2])
    a, b = scene.objects[i], scene.objects[j]
    one, other = getattr(a, attribute), getattr(b, attribute)
    if a.shape == b.shape or one == other:
        return None
    twin = _change(scene, {i: {attribute: other}, j: {attribute: one}})
    return _twins(scene, twin, (i, j), (attribute, attribute), attribute, "swap", rng)


def _replace(scene: Scene, rng: np.random.Generator) -> Twins | None:
    attribute = pick(tuple(VALUES), rng)
    i, j = (int(k) for k in rng.permutation(len(scene.objects))[:2])
    present = {getattr(thing, attribute) for thing in scene.objects}
    absent = [value for value in VALUES[attribute] if value not in present]
    if not absent or scene.objects[i].shape == scene.objects[j].shape:
        return None
    twin = _change(scene, {i: {attribute: pick(absent, rng)}})
    said = "colour" if attribute == "shape" else attribute
    return _twins(scene, twin, (i, j), (said, said), attribute, "replace", rng)


def _change(scene: Scene, changes: dict[int, dict[str, str]]) -> Scene:
    objects = [replace(thing, **changes.get(i, {})) for i, thing in enumerate(scene.objects)]
    return replace(scene, objects=tuple(objects))


def _twins(scene, twin, pair, said, attribute, kind, rng) -> Twins | None:
    """Put both scenes into words with the same lots, so that the captions differ in the changed attribute only."""
    related = relate(scene, *pair, rng) if rng.random() < 0.6 else None
    lot = int(rng.integers(2**31))
    captions = tuple(_caption(s, pair, said, related, lot) for s in (scene, twin))
    if kind == "replace" and _differing_words(*captions) != 1:
        return None  # "a" became "an"
    return Twins((scene, twin), captions, kind, attribute)


def _differing_words(first: Caption, second: Caption) -> int:
    return sum(a.text != b.text for a, b in zip(first.words, second.words, strict=True))


def _caption(scene: Scene, pair: tuple[int, int], said: tuple[str, str], related, lot: int) -> Caption:
    """ "a red circle and a blue square", or with a relation instead of "and"."""
    described, phrases = [], []
    for index, name in zip(pair, said, strict=True):
        thing = scene.objects[index]
        described.append(Description(thing.shape, **{name: getattr(thing, name)}))
        phrases.append(_plain_phrase(described[-1], index, lot))
    link_words, relations = say("and", "function"), ()
    if related is not None:
        link_words, name, exchanged = related
        relations = (Relation(1, name, 0) if exchanged else Relation(0, name, 1),)
    return Caption((*phrases[0], *link_words, *phrases[1]), Meaning(tuple(described), relations))


def _plain_phrase(described: Description, index: int, lot: int):
    """A noun phrase in which each value always gets the same synonym, whichever object it is said of."""
    words = noun_phrase(described, (index,), np.random.default_rng(0))
    fixed = []
    for word in words[1:]:
        choices = SYNONYMS[word.kind][CANONICAL[word.text][1]]
        fixed.append(replace(word, text=choices[lot % len(choices)]))
    return [replace(words[0], text=article(fixed[0].text)), *fixed]
