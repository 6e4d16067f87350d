"""Captions: true sentences about a scene, with the meaning of the whole and the reference of every word.

A caption is planned first (which objects, which of their attributes, which relation) and then put into words. Plan and
words come from the same step, so that word-to-region truth is exact and nothing has to be parsed back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from itr_lib.data.scenes.lexicon import (
    GROUND_PHRASES,
    OPENINGS,
    POSITION_PHRASES,
    RELATION_PHRASES,
    SYNONYMS,
    article,
    plural,
)
from itr_lib.data.scenes.meaning import Description, Meaning, Relation
from itr_lib.data.scenes.world import POSITIONS, SPEAKER_MARGIN, Scene, position_holds, relation_holds

MIN_WORDS, MAX_WORDS = 6, 21
# How often a speaker mentions an attribute where the plan leaves the choice.
MENTION = {"colour": 0.74, "size": 0.40, "texture": 0.44}
GROUND_SHARE = 0.35


@dataclass(frozen=True)
class Word:
    """One word, its kind, and the objects (places in `Scene.objects`) that it speaks of.

    `kind` is "shape", "colour", "size", "texture", "position", "relation" (both objects), "number" (all counted ones),
    "ground" or "function" (no objects).
    """

    text: str
    kind: str
    objects: tuple[int, ...] = ()


@dataclass(frozen=True)
class Caption:
    """A sentence as its words, and what it claims."""

    words: tuple[Word, ...]
    meaning: Meaning

    @property
    def text(self) -> str:
        """The words in lower case, joined by single spaces, without punctuation."""
        return " ".join(word.text for word in self.words)


def make_captions(scene: Scene, rng: np.random.Generator, count: int = 5) -> tuple[Caption, ...]:
    """`count` captions true of the scene, different in meaning, together speaking of most of its objects.

    Raises:
        ValueError: `count` is not a whole number from 1 to 50, or the scene has fewer than three objects.
    """
    if count != int(count) or not 1 <= count <= 50:  # beyond, a plain scene runs out of different things to say
        raise ValueError(f"make_captions: count is {count!r}, expected a whole number from 1 to 50.")
    if len(scene.objects) < 3:
        raise ValueError(f"make_captions: the scene has {len(scene.objects)} objects, the grammar needs at least 3.")
    captions: list[Caption] = []
    mentions = np.zeros(len(scene.objects))
    plans: list = []
    while len(captions) < count:
        if not plans:  # every plan once before any comes again: five captions, five ways to look at the picture
            plans = [PLANS[i] for i in rng.permutation(len(PLANS))]
        caption = _try_caption(scene, plans.pop(), mentions, rng)
        if caption is None or caption.meaning in [c.meaning for c in captions]:
            continue
        captions.append(caption)
        for spoken_of in {i for word in caption.words for i in word.objects}:
            mentions[spoken_of] += 1
    return tuple(captions)


def _try_caption(scene: Scene, plan, mentions: np.ndarray, rng: np.random.Generator) -> Caption | None:
    """One caption by this plan; None where the scene does not offer it or the sentence has the wrong length."""
    # objects not yet spoken of come first, ties by lot
    order = [int(i) for i in np.argsort(mentions + rng.random(len(mentions)))]
    planned = plan(scene, order, rng)
    if planned is None:
        return None
    words, meaning, is_plural = planned
    if meaning.ground is None and (rng.random() < GROUND_SHARE or len(words) < MIN_WORDS):
        ground_words = say(pick(GROUND_PHRASES[scene.ground], rng), "ground")
        words = ground_words + words if rng.random() < 0.2 else words + ground_words
        meaning = replace(meaning, ground=scene.ground)
    opening = pick(OPENINGS, rng).format(be="are" if is_plural else "is")
    if words[0].kind == "function" and words[0].text in ("on", "in", "against"):
        opening = ""
    words = say(opening, "function") + words
    return Caption(tuple(words), meaning) if MIN_WORDS <= len(words) <= MAX_WORDS else None


# --- words -----------------------------------------------------------------------------------------------------------


def pick(choices: Iterable, rng: np.random.Generator):
    """One of the choices by lot, itself (numpy's `choice` would turn it into an array's element)."""
    choices = tuple(choices)
    return choices[int(rng.integers(len(choices)))]


def say(phrase: str, kind: str, objects: tuple[int, ...] = ()) -> list[Word]:
    """The words of a phrase: starred ones carry the kind and the objects, the others are function words."""
    return [
        Word(text.strip("*"), kind, objects) if text.startswith("*") else Word(text, "function")
        for text in phrase.split()
    ]


def noun_phrase(described: Description, objects: tuple[int, ...], rng: np.random.Generator) -> list[Word]:
    """ "a large striped red circle", or "two red stars" where it speaks of several objects."""
    many = len(objects) > 1
    words = []
    for kind in ("size", "texture", "colour", "shape"):
        name = getattr(described, kind)
        if name is not None:
            text = pick(SYNONYMS[kind][name], rng)
            words.append(Word(plural(text) if kind == "shape" and many else text, kind, objects))
    if many:
        return [Word(SYNONYMS["number"][str(len(objects))][0], "number", objects), *words]
    return [Word(article(words[0].text), "function"), *words]


def _position_words(described: Description, index: int, rng: np.random.Generator) -> list[Word]:
    if described.position is None:
        return []
    return say(pick(POSITION_PHRASES[described.position], rng), "position", (index,))


# --- plans: each returns (words, meaning, plural?) or None ------------------------------------------------------------


def _describe(scene: Scene, index: int, rng: np.random.Generator, *, at_least: int = 1) -> Description:
    """A partial description of one object: some attributes by lot, at least `at_least` of the three."""
    thing = scene.objects[index]
    while True:
        said = {name: getattr(thing, name) for name, share in MENTION.items() if rng.random() < share}
        if said.get("texture") == "plain" and rng.random() < 0.6:
            del said["texture"]  # people rarely call a thing plain
        if len(said) >= at_least:
            return Description(thing.shape, **said)


def _place(scene: Scene, index: int, described: Description, rng: np.random.Generator) -> Description | None:
    """The description with an absolute position that clearly holds; None where the object is somewhere between."""
    holding = [p for p in POSITIONS if position_holds(p, scene.objects[index], SPEAKER_MARGIN)]
    corners = [p for p in holding if " " in p]
    return replace(described, position=pick(corners or holding, rng)) if holding else None


def _relations(scene: Scene, first: int, second: int) -> list[tuple[str, bool, tuple[str, ...]]]:
    """The relation phrases a careful speaker would use: they hold with a margin and name the larger distance."""
    a, b = scene.objects[first], scene.objects[second]
    sideways = abs(a.x - b.x) >= abs(a.y - b.y)
    fitting = []
    for name, exchanged, phrases in RELATION_PHRASES:
        one, other = (b, a) if exchanged else (a, b)
        natural = name == "near" or sideways == (name == "left of")
        if natural and relation_holds(name, one, other, SPEAKER_MARGIN):
            fitting.append((name, exchanged, phrases))
    return fitting


def relate(scene: Scene, first: int, second: int, rng: np.random.Generator):
    """Words and canonical (name, exchanged) of a relation between two objects, or None where none clearly holds."""
    fitting = _relations(scene, first, second)
    if not fitting:
        return None
    name, exchanged, phrases = pick(fitting, rng)
    return say(pick(phrases, rng), "relation", (first, second)), name, exchanged


def _link(i: int, j: int, name: str, exchanged: bool) -> Relation:
    return Relation(j, name, i) if exchanged else Relation(i, name, j)


def _one_in_full(scene, order, rng):
    """A single object, said in detail, with its position: "a small dotted blue ring in the upper left"."""
    index = order[0]
    described = _place(scene, index, _describe(scene, index, rng, at_least=2), rng)
    if described is None:
        return None
    words = noun_phrase(described, (index,), rng) + _position_words(described, index, rng)
    return words, Meaning((described,)), False


def _pair_related(scene, order, rng):
    """Two objects and where one is from the other."""
    first, second = order[:2]
    related = relate(scene, first, second, rng)
    if related is None:
        return None
    link_words, name, exchanged = related
    a, b = _describe(scene, first, rng), _describe(scene, second, rng)
    words = noun_phrase(a, (first,), rng) + link_words + noun_phrase(b, (second,), rng)
    return words, Meaning((a, b), (_link(0, 1, name, exchanged),)), False


def _pair_placed(scene, order, rng):
    """Two objects with their own positions, one of them at least."""
    first, second = order[:2]
    a, b = (_place(scene, i, _describe(scene, i, rng), rng) for i in (first, second))
    a, b = a or _describe(scene, first, rng), b or _describe(scene, second, rng)
    words = noun_phrase(a, (first,), rng) + _position_words(a, first, rng) + say("and", "function")
    words += noun_phrase(b, (second,), rng) + _position_words(b, second, rng)
    return words, Meaning((a, b)), False


def _three_listed(scene, order, rng):
    """Three objects side by side in the sentence, nothing about where they are."""
    chosen = order[:3]
    described = tuple(_describe(scene, i, rng) for i in chosen)
    first, second, third = (noun_phrase(d, (i,), rng) for d, i in zip(described, chosen, strict=True))
    joint = pick(("together with", "and", "with"), rng)
    words = first + say(joint, "function") + second + say("and", "function") + third
    return words, Meaning(described), False


def _three_chained(scene, order, rng):
    """A is above B that is next to C."""
    i, j, k = order[:3]
    one, two = relate(scene, i, j, rng), relate(scene, j, k, rng)
    if one is None or two is None:
        return None
    described = tuple(_describe(scene, x, rng) for x in (i, j, k))
    a, b, c = (noun_phrase(d, (x,), rng) for d, x in zip(described, (i, j, k), strict=True))
    words = a + one[0] + b + say(pick(("that is", "which is"), rng), "function") + two[0] + c
    return words, Meaning(described, (_link(0, 1, *one[1:]), _link(1, 2, *two[1:]))), False


def _counted(scene, order, rng):
    """ "two red stars and a large ring": all that fit are counted, so the number is exact."""
    colour_said = rng.random() < 0.7
    for index in order:
        thing = scene.objects[index]
        counted = Description(thing.shape, colour=thing.colour if colour_said else None)
        group = tuple(i for i, other in enumerate(scene.objects) if counted.fits(other))
        others = [i for i in order if i not in group]
        if len(group) in (2, 3) and others:
            other = _describe(scene, others[0], rng)
            words = noun_phrase(counted, group, rng) + say("and", "function") + noun_phrase(other, (others[0],), rng)
            meaning = Meaning((*[counted] * len(group), other), count=(counted, len(group)))
            return words, meaning, True
    return None


PLANS = (_one_in_full, _pair_related, _pair_related, _pair_placed, _three_listed, _three_chained, _counted)
