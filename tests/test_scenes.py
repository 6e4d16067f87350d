"""Scenes: what is said is true, what is true is found, and the picture shows what the scene holds."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from itr_lib.data import scenes as S
from itr_lib.data.scenes.lexicon import GROUND_PHRASES, POSITION_PHRASES, RELATION_PHRASES
from itr_lib.data.scenes.rendering import render
from itr_lib.data.scenes.world import EXTENTS, RADII


def thing(shape="circle", colour="red", size="medium", texture="plain", x=0.5, y=0.5):
    return S.SceneObject(shape, colour, size, texture, x, y, RADII[size])


def sentence(*objects, **claims):
    return S.Caption((S.Word("any", "function"),), S.Meaning(objects, **claims))


def digest(seed: int) -> str:
    """Everything that chance decides for one seed, as a hash."""
    rng = np.random.default_rng(seed)
    scene = S.make_scene(rng)
    twins = [S.make_twins(rng, kind) for kind in ("swap", "replace")]
    said = repr((scene, S.make_captions(scene, rng), twins))
    return hashlib.sha256(said.encode() + render(scene, 64).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def world():
    """1,000 scenes with five captions each, and the row of each caption's scene."""
    rng = np.random.default_rng(7)
    scenes = [S.make_scene(rng) for _ in range(1000)]
    captions = [caption for scene in scenes for caption in S.make_captions(scene, rng)]
    return scenes, captions, np.repeat(np.arange(1000), 5)


# --- determinism and errors ------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_in_this_and_in_a_fresh_process():
    here = [digest(seed) for seed in range(4)]
    assert here == [digest(seed) for seed in range(4)]
    assert len(set(here)) == 4
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(digest, range(4)) == here


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: S.make_twins(np.random.default_rng(0), "mirror"), "mirror"),
        (lambda: S.make_captions(S.make_scene(np.random.default_rng(0)), np.random.default_rng(0), 0), "count is 0"),
        (lambda: S.make_captions(S.Scene("sand", (thing(),), 0), np.random.default_rng(0)), "1 objects"),
        (lambda: render(S.make_scene(np.random.default_rng(0)), 15), "15"),
        (lambda: thing(colour="mauve"), "mauve"),
        (lambda: S.Scene("lava", (thing(),), 0), "lava"),
        (lambda: S.Scene("sand", (), 0), "got 0"),
        (lambda: S.relation_holds("inside", thing(), thing()), "inside"),
        (lambda: S.position_holds("centre", thing()), "centre"),
        (lambda: S.graph_relevance([], [sentence(S.Description("star"))], np.array([0])), "image_of_caption"),
    ],
)
def test_bad_arguments_are_named(call, hint):
    with pytest.raises(ValueError, match=hint):
        call()


# --- scenes and pictures ---------------------------------------------------------------------------------------------


def test_scenes_have_three_to_six_objects_inside_the_picture_that_hardly_overlap(world):
    scenes = world[0]
    assert {len(scene.objects) for scene in scenes} == {3, 4, 5, 6}
    assert {scene.ground for scene in scenes} == set(S.GROUNDS)
    for scene in scenes:
        for i, a in enumerate(scene.objects):
            assert min(a.box) > 0 and max(a.box) < 1
            for b in scene.objects[:i]:
                assert np.hypot(a.x - b.x, a.y - b.y) >= 0.96 * (a.radius + b.radius)


def test_sizes_are_distinct(world):
    radii = {size: [o.radius for s in world[0] for o in s.objects if o.size == size] for size in S.SIZES}
    assert max(radii["small"]) * 1.3 < min(radii["medium"])
    assert max(radii["medium"]) * 1.3 < min(radii["large"])


@pytest.mark.parametrize("shape", S.SHAPES)
def test_the_box_is_tight_around_what_is_drawn(shape, monkeypatch):
    monkeypatch.setattr("itr_lib.data.scenes.rendering.SHADOW_STRENGTH", 0.0)
    size = 400
    for ground, colour, name in [("sand", "blue", "large"), ("night sky", "yellow", "small")]:
        scene = S.Scene(ground, (thing("circle", x=0.2, y=0.2), thing(shape, colour, name, x=0.63, y=0.58)), seed=3)
        drawn = render(scene, size).astype(int)
        without = render(replace(scene, objects=scene.objects[:1]), size).astype(int)
        rows, columns = np.nonzero(np.abs(drawn - without).max(axis=2) > 12)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / size
        np.testing.assert_allclose(seen, scene.objects[1].box, atol=1.6 / size)


def test_every_shape_has_its_extents_and_fits_its_radius():
    assert set(EXTENTS) == set(S.SHAPES)
    assert all(0.6 <= value <= 1.03 for extents in EXTENTS.values() for value in extents)


def test_every_resolution_shows_the_same_picture(world):
    for scene in world[0][:16]:
        fine = render(scene, 224).astype(float).reshape(112, 2, 112, 2, 3).mean(axis=(1, 3))
        coarse = render(scene, 112).astype(float)
        assert coarse.shape == (112, 112, 3)
        assert np.abs(fine - coarse).mean() < 3.0
        other = render(replace(scene, seed=scene.seed + 1), 112).astype(float)
        assert np.abs(fine - other).mean() > 2 * np.abs(fine - coarse).mean()  # the bound above tells pictures apart


@pytest.mark.parametrize("ground", S.GROUNDS)
def test_every_colour_stands_out_from_every_ground(ground):
    """By its body or, as white on snow does, by its outline; the body always differs visibly."""
    bare = render(S.Scene(ground, (thing(x=0.9, y=0.9),), 5), 112).astype(float)
    axis = (np.arange(112) + 0.5) / 112 - 0.4
    distance = np.hypot(axis[None, :], axis[:, None]) / (0.95 * RADII["medium"])
    body, rim = distance < 0.8, (distance > 0.88) & (distance < 1.0)
    for colour in S.COLOURS:
        scene = S.Scene(ground, (thing(x=0.9, y=0.9), thing("circle", colour, "medium", x=0.4, y=0.4)), 5)
        contrast = np.abs(render(scene, 112) - bare).max(axis=2)
        assert max(np.median(contrast[body]), np.median(contrast[rim])) > 70, f"{colour} on {ground}"
        assert np.median(contrast[body]) > 25, f"{colour} on {ground}"


@pytest.mark.parametrize("name", ["shape", "colour", "size", "texture"])
def test_every_attribute_changes_the_picture(name):
    """No two values of an attribute look alike at the detector's resolution, small size included."""
    values = {"shape": S.SHAPES, "colour": S.COLOURS, "size": S.SIZES, "texture": S.TEXTURES}[name]
    options = [{"size": "small", "texture": "striped"} | {name: value} for value in values]
    pictures = [render(S.Scene("wood", (thing(**option),), 1), 112).astype(float) for option in options]
    window = (slice(46, 66), slice(46, 66))
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other)[window].mean() > 4


# --- captions --------------------------------------------------------------------------------------------------------


def test_captions_are_true_of_their_scene(world):
    scenes, captions, own = world
    assert all(S.is_true(c.meaning, scenes[i]) for c, i in zip(captions, own, strict=True))


def test_captions_have_six_to_twenty_one_words_and_differ(world):
    _, captions, own = world
    assert all(6 <= len(c.words) <= 21 for c in captions)
    assert all(c.text == c.text.lower() and c.text.replace(" ", "").isalpha() for c in captions)
    assert all(len({c.meaning for c in captions[5 * i : 5 * i + 5]}) == 5 for i in range(own.max() + 1))


def test_captions_of_an_image_speak_of_most_of_its_objects(world):
    scenes, captions, _ = world
    spoken = [
        len({i for c in captions[5 * k : 5 * k + 5] for w in c.words for i in w.objects}) / len(scene.objects)
        for k, scene in enumerate(scenes)
    ]
    assert np.mean(spoken) > 0.9


def test_every_attribute_word_is_true_of_the_objects_it_speaks_of(world):
    scenes, captions, own = world
    seen = Counter()
    for caption, row in zip(captions, own, strict=True):
        for word in caption.words:
            seen[word.kind] += 1
            if word.kind in ("shape", "colour", "size", "texture"):
                kind, name = S.CANONICAL[word.text]
                assert kind == word.kind and word.objects
                assert {getattr(scenes[row].objects[i], kind) for i in word.objects} == {name}
            elif word.kind == "number":
                assert S.CANONICAL[word.text] == ("number", str(len(word.objects)))
            elif word.kind in ("function", "ground"):
                assert word.objects == ()
    kinds = {"shape", "colour", "size", "texture", "position", "relation", "ground", "number", "function"}
    assert set(seen) == kinds and min(seen.values()) > 100


def starred(phrase):
    return [word.strip("*") for word in phrase.split() if word.startswith("*")]


def test_relation_words_hold_between_their_two_objects(world):
    scenes, captions, own = world
    readings = {w: (name, back) for name, back, phrases in RELATION_PHRASES for p in phrases for w in starred(p)}
    checked = 0
    for caption, row in zip(captions, own, strict=True):
        for word in caption.words:
            if word.kind == "relation":
                a, b = (scenes[row].objects[i] for i in word.objects)
                name, exchanged = readings[word.text]
                assert S.relation_holds(name, b, a) if exchanged else S.relation_holds(name, a, b)
                checked += 1
    assert checked > 1000


def test_position_and_ground_words_hold(world):
    scenes, captions, own = world
    sides = {"left": "left", "right": "right", "top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom",
             "middle": "middle", "centre": "middle"}  # fmt: skip
    assert {w for ps in POSITION_PHRASES.values() for p in ps for w in starred(p)} - set(sides) <= {
        "side", "part", "corner"}  # fmt: skip
    grounds = {g: {w for p in phrases for w in starred(p)} for g, phrases in GROUND_PHRASES.items()}
    checked = Counter()
    for caption, row in zip(captions, own, strict=True):
        for word in caption.words:
            if word.kind == "position" and word.text in sides:
                (index,) = word.objects
                assert S.position_holds(sides[word.text], scenes[row].objects[index])
            if word.kind == "ground":
                assert word.text in grounds[scenes[row].ground]
            checked[word.kind] += 1
    assert checked["position"] > 500 and checked["ground"] > 500


def test_articles_and_words_are_unambiguous():
    words = [w for names in S.SYNONYMS.values() for synonyms in names.values() for w in synonyms]
    assert len(words) == len(set(words))
    rng = np.random.default_rng(5)
    for _ in range(200):
        words = [w.text for c in S.make_captions(S.make_scene(rng), rng) for w in (*c.words, S.Word("|", "function"))]
        for first, second in zip(words, words[1:], strict=False):
            if first in ("a", "an"):
                assert first == ("an" if second[0] in "aeiou" else "a")


# --- truth -----------------------------------------------------------------------------------------------------------


def test_truth_needs_different_objects_for_different_descriptions():
    red, blue = S.Description("star", "red"), S.Description("star", "blue")
    scene = S.Scene("sand", (thing("star", "red", x=0.2), thing("ring", "blue", x=0.8)), 0)
    both = S.Scene("sand", (thing("star", "red", x=0.2), thing("star", "blue", x=0.8)), 0)
    assert not S.is_true(S.Meaning((red, red)), scene)
    assert not S.is_true(S.Meaning((S.Description("star"), S.Description("star"))), scene)
    assert S.is_true(S.Meaning((S.Description("star"), S.Description("star"))), both)
    assert S.is_true(S.Meaning((blue, red)), both)
    assert S.is_true(S.Meaning((red, blue), (S.Relation(0, "left of", 1),)), both)
    assert not S.is_true(S.Meaning((red, blue), (S.Relation(1, "left of", 0),)), both)
    assert not S.is_true(S.Meaning((red, blue), (S.Relation(0, "near", 1),)), both)
    assert not S.is_true(S.Meaning((red,), ground="snow"), both)


def test_a_count_is_exact():
    stars = tuple(thing("star", "red", x=x) for x in (0.15, 0.5, 0.85))
    two = S.Meaning((S.Description("star", "red"),) * 2, count=(S.Description("star", "red"), 2))
    assert S.is_true(two, S.Scene("sand", stars[:2], 0))
    assert not S.is_true(two, S.Scene("sand", stars, 0))
    assert not S.is_true(two, S.Scene("sand", stars[:1], 0))


def test_truth_matrix_equals_the_plain_definition(world):
    scenes, captions, _ = world
    rng = np.random.default_rng(3)
    rows, columns = rng.choice(1000, 120, replace=False), rng.choice(5000, 400, replace=False)
    some, said = [scenes[i] for i in rows], [captions[j] for j in columns]
    # weak captions as well, true of many scenes
    said += [sentence(S.Description(s)) for s in S.SHAPES]
    said += [sentence(S.Description("star"), S.Description(s, position=p)) for s in S.SHAPES for p in S.POSITIONS[:3]]
    said += [sentence(S.Description("ring"), S.Description(s), relations=(S.Relation(1, r, 0),))
             for s in S.SHAPES for r in S.RELATIONS]  # fmt: skip
    said += [sentence(S.Description(s), count=(S.Description(s), 1), ground="grass") for s in S.SHAPES]
    expected = np.array([[S.is_true(caption.meaning, scene) for caption in said] for scene in some])
    found = S.truth_matrix(some, said)
    assert found.dtype == bool and 300 < expected.sum() < 0.2 * expected.size
    np.testing.assert_array_equal(found, expected)


def test_a_perfect_reader_still_meets_ambiguous_captions(world):
    scenes, captions, own = world
    truth = S.truth_matrix(scenes, captions)
    assert truth[own, np.arange(len(captions))].all()
    reachable = (1 / truth.sum(axis=0)).mean()  # all true scenes tie at the top, one of them is the caption's own
    assert 0.80 < reachable < 0.93


# --- graded relevance ------------------------------------------------------------------------------------------------


def test_graph_relevance_worked_by_hand():
    star, ring = thing("star", "red", x=0.2, y=0.5), thing("ring", "blue", "large", "striped", x=0.8, y=0.5)
    scene = S.Scene("sand", (star, ring), 0)
    # star red medium plain left, ring blue large striped right, star left of ring, sand
    graph = {("object", "sand"), ("object", "star"), ("object", "ring"), ("relation", "star", "left of", "ring")}
    graph |= {("attribute", "star", value) for value in ("red", "medium", "plain", "left")}
    graph |= {("attribute", "ring", value) for value in ("blue", "large", "striped", "right")}
    assert scene.graph() == graph and len(graph) == 12
    right = sentence(S.Description("star", "red"), S.Description("ring"), relations=(S.Relation(0, "left of", 1),))
    half = sentence(S.Description("star", "blue"))  # the star is there, a blue star is not
    wrong = sentence(S.Description("heart"))
    # against the graph: 4 of 4 and 12 tuples; 1 of 2 and 12; none
    found = S.graph_relevance([scene], [right, half, wrong])
    np.testing.assert_allclose(found, [[2 * 4 / 16, 2 * 1 / 14, 0.0]], rtol=1e-12)
    # against the image's own captions, here the first: its 4 tuples
    other = S.Scene("snow", (thing("heart"),), 0)
    found = S.graph_relevance([scene, other], [right, half, wrong], np.array([0, 1, 1]))
    np.testing.assert_allclose(found, [[1.0, 2 * 1 / 6, 0.0], [2 * 1 / 7, 2 * 2 / 5, 2 * 1 / 4]], rtol=1e-12)


def test_graph_relevance_equals_plain_sets_and_own_precision_is_one(world):
    scenes, captions, own = world
    scenes, captions, own = scenes[:40], captions[:200], own[:200]
    assert all(c.meaning.tuples() <= scenes[i].graph() for c, i in zip(captions, own, strict=True))
    found = S.graph_relevance(scenes, captions)
    for i, scene in enumerate(scenes):
        for j in range(0, 200, 7):
            said, graph = captions[j].meaning.tuples(), scene.graph()
            precision, recall = len(said & graph) / len(said), len(said & graph) / len(graph)
            expected = 2 * precision * recall / (precision + recall) if said & graph else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-12)
    for relevance in (found, S.graph_relevance(scenes, captions, own)):
        assert relevance.min() >= 0 and relevance.max() <= 1
        assert relevance[own, np.arange(200)].mean() > 3 * relevance.mean()


# --- twins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["swap", "replace"])
def test_twins_differ_in_one_thing_and_each_caption_is_true_of_its_own_scene_only(kind):
    rng = np.random.default_rng(11)
    attributes = set()
    for _ in range(150):
        twins = S.make_twins(rng, kind)
        one, other = twins.scenes
        first, second = twins.captions
        assert twins.kind == kind
        assert S.truth_matrix(twins.scenes, twins.captions).tolist() == [[True, False], [False, True]]
        assert (one.ground, one.seed) == (other.ground, other.seed)
        changed = [(a, b) for a, b in zip(one.objects, other.objects, strict=True) if a != b]
        assert len(changed) == (2 if kind == "swap" else 1)
        for a, b in changed:
            assert replace(a, **{twins.attribute: getattr(b, twins.attribute)}) == b
        differing = sum(a.text != b.text for a, b in zip(first.words, second.words, strict=True))
        if kind == "swap":
            assert Counter(first.text.split()) == Counter(second.text.split())
            values = [Counter(getattr(o, twins.attribute) for o in scene.objects) for scene in twins.scenes]
            assert values[0] == values[1]
        else:
            assert differing == 1
        attributes.add(twins.attribute)
    assert attributes == ({"colour", "texture"} if kind == "swap" else {"colour", "texture", "shape"})


@pytest.mark.parametrize("kind", ["swap", "replace"])
def test_words_of_twins_are_grounded(kind):
    rng = np.random.default_rng(12)
    for _ in range(50):
        twins = S.make_twins(rng, kind)
        for scene, caption in zip(twins.scenes, twins.captions, strict=True):
            assert len({i for word in caption.words for i in word.objects}) == 2
            for word in caption.words:
                if word.kind in ("shape", "colour", "texture"):
                    name = S.CANONICAL[word.text][1]
                    assert {getattr(scene.objects[i], word.kind) for i in word.objects} == {name}
