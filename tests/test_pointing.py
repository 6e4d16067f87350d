"""Pointing: the right tokens are asked, the right region wins, and what is wrong is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from itr_lib.data import tokenise, train_tokenizer
from itr_lib.data.dataset import RetrievalData, SceneTruth
from itr_lib.data.photographs.entities import Phrases
from itr_lib.data.questions import Questions, phrase_questions, scene_questions, token_spans
from itr_lib.data.scenes import make_captions, make_scene
from itr_lib.data.scenes.detector import CLASSES, Detector
from itr_lib.data.scenes.regions import candidate_boxes, pad_boxes, region_object
from itr_lib.data.scenes.world import COLOURS, SHAPES, TEXTURES
from itr_lib.evaluation.pointing import detector_ceiling, largest_box_accuracy, pointing_accuracy

ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES}


def scenes(images=12, seed=0):
    """Scenes with boxes, and features that say class by class what a box shows."""
    rng = np.random.default_rng(seed)
    drawn = [make_scene(rng) for _ in range(images)]
    captions = [caption for scene in drawn for caption in make_captions(scene, rng)]
    some = [candidate_boxes(scene, rng) for scene in drawn]
    boxes, mask = pad_boxes(some)
    shown, features = np.full(mask.shape, -1), np.zeros((*mask.shape, sum(CLASSES.values())), np.float16)
    for row, (scene, own) in enumerate(zip(drawn, some, strict=True)):
        shown[row, : len(own)] = region_object(scene, own)
        for column in np.flatnonzero(shown[row] >= 0):
            thing, start = scene.objects[shown[row, column]], 0
            for head, names in ATTRIBUTES.items():
                features[row, column, start + names.index(getattr(thing, head))] = 10
                start += CLASSES[head]
    return RetrievalData(
        name="scenes",
        split="test",
        image_ids=tuple(str(row) for row in range(images)),
        captions=tuple(caption.text for caption in captions),
        image_of_caption=np.repeat(np.arange(images), 5),
        features=features,
        boxes=boxes,
        region_mask=mask,
        truth=SceneTruth(tuple(drawn), tuple(captions), shown),
    )


@pytest.fixture(scope="module")
def data():
    return scenes()


@pytest.fixture(scope="module")
def tokenizer(data):
    """So few entries that most words come in pieces."""
    return train_tokenizer(data.captions, vocabulary_size=90)


def unit(*shape, seed=0):
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()
    return torch.nn.functional.normalize(values, dim=-1)


def questions(caption, start, stop, right, kind=None):
    kind = kind or ["shape"] * len(caption)
    arrays = (np.array(values) for values in (caption, start, stop, right, kind))
    return Questions(*arrays, item=np.zeros(len(caption), int))


def looped(regions, mask, words, owner, asked):
    """The definition, one question at a time."""
    hits = []
    for caption, start, stop, right in zip(asked.caption, asked.start, asked.stop, asked.right, strict=True):
        image, best, hit = owner[caption], -np.inf, False
        for r in range(regions.shape[1]):
            if not mask[image, r]:
                continue
            score = np.mean([float(regions[image, r] @ words[caption, t]) for t in range(start, stop)])
            if score > best:
                best, hit = score, bool(right[r])
        hits.append(hit)
    return np.array(hits)


def test_agrees_with_the_loop(data, tokenizer):
    asked = scene_questions(data, tokenizer)
    width = int(asked.stop.max()) + 1
    for seed in range(3):
        regions, words = unit(12, 36, 6, seed=seed), unit(60, width, 6, seed=seed + 9)
        mask = torch.from_numpy(data.region_mask)
        got = pointing_accuracy(
            regions, mask, words, torch.ones(60, width, dtype=torch.bool), data.image_of_caption, asked
        )
        hits = looped(regions, data.region_mask, words, data.image_of_caption, asked)
        assert got["all"] == pytest.approx(100 * hits.mean())
        for kind in ("shape", "colour", "size", "texture"):
            assert got[kind] == pytest.approx(100 * hits[asked.kind == kind].mean())
        real = data.region_mask[data.image_of_caption[asked.caption]]
        assert got["chance"] == pytest.approx(100 * (asked.right.sum(1) / real.sum(1)).mean())


def test_by_hand():
    """Two regions, two captions: the second word of the first caption, and both words of the second."""
    regions = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    words = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.8, 0.6], [0.8, 0.6]]])
    asked = questions([0, 1], [1, 0], [2, 2], [[False, True], [False, True]], ["shape", "colour"])
    got = pointing_accuracy(
        regions, torch.ones(1, 2, dtype=bool), words, torch.ones(2, 2, dtype=bool), np.zeros(2, int), asked
    )
    assert got == {"all": 50, "shape": 100, "colour": 0, "chance": 50}


def one(regions, mask, right, word=(1.0, 0.0), dtype=torch.float32):
    """One question with one token about one image."""
    asked = questions([0], [0], [1], [right])
    words, there = torch.tensor([[word]]), torch.ones(1, 1, dtype=torch.bool)
    vectors = torch.tensor([regions], dtype=dtype)
    return pointing_accuracy(vectors, torch.tensor([mask]), words, there, np.zeros(1, int), asked)


def test_padding_is_never_pointed_at():
    """All real alignments are negative: zeros in the padding would win if they were candidates."""
    worse, bad, blank = [-1.0, 0.0], [-0.6, 0.8], [0.0, 0.0]
    assert one([worse, bad, blank], [True, True, False], [False, True, False])["all"] == 100
    assert one([bad, worse, blank], [True, True, False], [False, True, False])["all"] == 0
    nan = [float("nan")] * 2  # what stands in the padding does not matter
    assert one([worse, bad, nan], [True, True, False], [False, True, False])["all"] == 100
    assert one([bad, blank], [True, False], [True, True])["chance"] == 100


@pytest.mark.parametrize("right", [[True, False, False], [False, False, True], [True, True, False]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ties_count_as_misses(right, dtype):
    alike = [[0.6, 0.8]] * 3
    assert one(alike, [True] * 3, right, dtype=dtype)["all"] == 0
    assert one([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [True] * 3, [True, True, False])["all"] == 100  # two right ones
    assert one(alike, [True] * 3, [True] * 3)["all"] == 100  # no wrong one to point at


def test_a_collapsed_model_points_nowhere(data, tokenizer):
    """Rounding in large matrix products must not break the ties of equal regions."""
    asked = scene_questions(data, tokenizer)
    width = int(asked.stop.max())
    regions, words = unit(12, 1, 256).expand(12, 36, 256), unit(60, width, 256, seed=1)
    everything = torch.ones(60, width, dtype=torch.bool)
    got = pointing_accuracy(
        regions, torch.from_numpy(data.region_mask), words, everything, data.image_of_caption, asked
    )
    assert got["all"] == 0


def test_order_of_regions_does_not_matter(data, tokenizer):
    asked = scene_questions(data, tokenizer)
    width = int(asked.stop.max())
    regions, words = unit(12, 36, 8), unit(60, width, 8, seed=1)
    everything, mask = torch.ones(60, width, dtype=torch.bool), torch.from_numpy(data.region_mask)
    expected = pointing_accuracy(regions, mask, words, everything, data.image_of_caption, asked)
    order = np.random.default_rng(0).permutation(36)
    moved = replace(asked, right=asked.right[:, order])
    again = pointing_accuracy(regions[:, order], mask[:, order], words, everything, data.image_of_caption, moved)
    assert again == expected
    backwards = replace(asked, **{name: getattr(asked, name)[::-1] for name in vars(asked) if name != "dropped"})
    assert pointing_accuracy(regions, mask, words, everything, data.image_of_caption, backwards) == expected


def test_scene_questions_ask_for_their_words(data, tokenizer):
    """The pieces between ``start`` and ``stop`` are those of the word alone, without special tokens."""
    asked, tokens = scene_questions(data, tokenizer), tokenise(tokenizer, data.captions)
    pieces = asked.stop - asked.start
    assert pieces.max() > 2 and asked.start.min() > 0
    for row, (caption, start, stop, item) in enumerate(
        zip(asked.caption, asked.start, asked.stop, asked.item, strict=True)
    ):
        word = data.truth.captions[caption].words[item]
        assert tokenizer.decode(tokens.ids[caption, start:stop]) == word.text and word.kind == asked.kind[row]
        shown = data.truth.region_object[data.image_of_caption[caption]]
        assert set(np.flatnonzero(asked.right[row])) == {r for r, o in enumerate(shown) if o in word.objects}
    told = [word for caption in data.truth.captions for word in caption.words if word.kind in ATTRIBUTES]
    assert len(scene_questions(data, tokenizer, kinds=tuple(ATTRIBUTES))) == len(told) and asked.dropped == {}


def test_questions_that_cannot_be_asked_are_counted(data, tokenizer):
    whole = scene_questions(data, tokenizer)
    short = scene_questions(data, tokenizer, max_tokens=12)
    assert short.dropped["cut off"] == len(whole) - len(short) > 0
    assert short.stop.max() == 11  # [SEP] stands in the last place
    hidden = data.truth.region_object.copy()
    hidden[hidden == 0] = -1
    blind = scene_questions(replace(data, truth=replace(data.truth, region_object=hidden)), tokenizer)
    assert blind.dropped["no right region"] == len(whole) - len(blind) > 0
    real = data.region_mask.copy()
    real[0] = False
    assert 0 not in data.image_of_caption[scene_questions(replace(data, region_mask=real), tokenizer).caption]


def test_token_spans_of_awkward_text():
    """Characters, not bytes; phrases of several words; a phrase half cut off; a span without a token."""
    tokenizer = train_tokenizer(["a café by the sea , a dog"] * 3, vocabulary_size=200)
    captions, text = ["a café by   the sea", "dog"], "a café by   the sea"
    spans = [(2, 6), (2, 9), (0, len(text)), (9, 12)]
    start, stop, problem = token_spans(tokenizer, captions, np.zeros(4, int), np.array(spans))
    assert list(zip(start, stop, strict=True))[:3] == [(2, 3), (2, 4), (1, 6)]
    assert problem.tolist() == ["", "", "", "no token"]
    cut = token_spans(tokenizer, captions, np.zeros(3, int), np.array(spans[:3]), max_tokens=5)
    assert cut[2].tolist() == ["", "", "cut off"]
    start, stop, problem = token_spans(tokenizer, captions, np.array([1]), np.array([(0, 3)]))  # padded caption
    assert (start[0], stop[0], problem[0]) == (1, 2, "")


def test_phrase_questions(data, tokenizer):
    right = np.zeros((2, 36), bool)
    right[:, 1] = True
    phrases = Phrases(np.array([0, 7]), np.array([(0, 8), (2, 5)]), right, np.array(["people", "scene"]), 0)
    asked = phrase_questions(data, tokenizer, phrases)
    assert asked.caption.tolist() == [0, 7] and asked.kind.tolist() == ["people", "scene"]
    with pytest.raises(ValueError, match="caption 60, 'test' has 60: another split"):
        phrase_questions(data, tokenizer, replace(phrases, caption=np.array([0, 60])))


def test_largest_box():
    boxes = np.float32([[[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0, 0, 0.7, 0.7], [0, 0, 0.9, 0.9]]])
    mask = np.array([[True, True, True, False]])
    for right, expected in [([0, 0, 1, 0], 100), ([0, 1, 0, 0], 0), ([1, 0, 0, 0], 0)]:
        asked = questions([0], [1], [2], [np.array(right, bool)])
        assert largest_box_accuracy(boxes, mask, np.zeros(1, int), asked)["all"] == expected
    alone = questions([0], [1], [2], [[True, False, False, False]])
    assert largest_box_accuracy(boxes, np.array([[True, False, False, False]]), np.zeros(1, int), alone)["all"] == 100


def reader(noise=0.0, seed=0):
    """A detector whose heads read the classes off the features; with noise, one that errs."""
    net, start = Detector(), 0
    rng = np.random.default_rng(seed)
    for head, classes in CLASSES.items():
        weight = noise * rng.normal(size=(classes, sum(CLASSES.values())))
        weight[:, start : start + classes] += np.eye(classes)
        net.heads[head] = torch.nn.Linear(sum(CLASSES.values()), classes)
        net.heads[head].weight.data = torch.from_numpy(weight).float()
        net.heads[head].bias.data.zero_()
        start += classes
    return net.eval()


def looped_ceiling(data, asked, net):
    hits = []
    for caption, item, right in zip(asked.caption, asked.item, asked.right, strict=True):
        image, words = data.image_of_caption[caption], data.truth.captions[caption].words
        scores = np.zeros(36)
        for word in words:
            if word.objects == words[item].objects and word.kind in ATTRIBUTES:
                name = getattr(data.truth.scenes[image].objects[word.objects[0]], word.kind)
                values = net.heads[word.kind](torch.from_numpy(data.features[image]).float())
                log_p = torch.log_softmax(values, dim=-1).detach().numpy()
                scores += log_p[:, ATTRIBUTES[word.kind].index(name)]
        scores[~data.region_mask[image]] = -np.inf
        best = np.flatnonzero(scores >= scores.max() - 1e-6)
        hits.append(right[best].all())
    return 100 * np.mean(hits)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_ceiling_agrees_with_the_loop(data, tokenizer, noise):
    asked, net = scene_questions(data, tokenizer), reader(noise)
    got = detector_ceiling(data, asked, detector=net)
    assert got["all"] == pytest.approx(looped_ceiling(data, asked, net))
    assert got["all"] > 90 if noise == 0 else got["all"] < 99.9


def test_what_is_wrong_is_said(data, tokenizer):
    asked = scene_questions(data, tokenizer)
    width = int(asked.stop.max())
    mask, everything = torch.from_numpy(data.region_mask), torch.ones(60, width, dtype=torch.bool)
    good = dict(regions=unit(12, 36, 4), region_mask=mask, words=unit(60, width, 4), word_mask=everything)
    good |= dict(image_of_caption=data.image_of_caption, questions=asked)
    broken = good["regions"].clone()
    broken[0, 0] = float("nan")
    none = Questions(*(np.zeros((0, 36) if at == 3 else 0, int).astype(bool if at == 3 else int) for at in range(6)))
    for change, words in [
        ({"words": unit(60, width, 5)}, "expected .N, R, D., .M, W, D."),
        ({"region_mask": mask[:, :30]}, r"region_mask has shape \(12, 30\), expected \(12, 36\)"),
        ({"word_mask": everything[:, 1:]}, "expected 60 captions"),
        ({"words": unit(60, 3, 4), "word_mask": everything[:, :3]}, "asks for padding"),
        ({"word_mask": everything & False}, "asks for padding"),
        ({"regions": unit(12, 30, 4), "region_mask": mask[:, :30]}, "the questions know 36 regions"),
        ({"regions": broken}, "NaN"),
        ({"questions": none}, "no question"),
    ]:
        with pytest.raises(ValueError, match=words):
            pointing_accuracy(**{**good, **change})
    with pytest.raises(ValueError, match="'flavour'.*expected some of"):
        scene_questions(data, tokenizer, kinds=("flavour",))
    with pytest.raises(ValueError, match="has no word-region truth"):
        scene_questions(replace(data, truth=None), tokenizer)
    with pytest.raises(ValueError, match="question 0 has no right region"):
        questions([0], [1], [2], [[False, False]])
    with pytest.raises(ValueError, match="no token"):
        questions([0], [2], [2], [[True, False]])
    with pytest.raises(ValueError, match="differ in length"):
        questions([0, 1], [1], [2], [[True]])


class Wrong:
    """Plausible mistakes, each a way to build or to score questions."""

    @staticmethod
    def words_not_pieces(asked):
        return replace(asked, start=asked.item + 1, stop=asked.item + 2)

    @staticmethod
    def without_cls(asked):
        return replace(asked, start=asked.start - 1, stop=asked.stop - 1)

    @staticmethod
    def with_the_next_token(asked):
        return replace(asked, stop=asked.stop + 1)


@pytest.mark.parametrize("mistake", ["words_not_pieces", "without_cls", "with_the_next_token"])
def test_a_perfect_model_tells_wrong_tokens(data, tokenizer, mistake):
    """Shape words that are one with their objects' regions: right tokens give 100, wrong ones do not."""
    asked = scene_questions(data, tokenizer, kinds=("shape",))
    width = int(asked.stop.max()) + 1
    regions = unit(12, 36, 64)
    words = 20 * regions[data.image_of_caption, :1].repeat(1, width, 1)  # other tokens: the whole picture, loudly
    for caption, start, stop, right in zip(asked.caption, asked.start, asked.stop, asked.right, strict=True):
        words[caption, start:stop] = regions[data.image_of_caption[caption], right.argmax()]
    rest = (
        regions,
        torch.from_numpy(data.region_mask),
        words,
        torch.ones(60, width, dtype=bool),
        data.image_of_caption,
    )
    assert pointing_accuracy(*rest, asked)["all"] == 100
    assert pointing_accuracy(*rest, getattr(Wrong, mistake)(asked))["all"] < 99
