"""Flickr30k Entities: what is read, which boxes are right, and a sentence for each thing that can be wrong."""

import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from itr_lib.data import tokenise, train_tokenizer
from itr_lib.data.cache import cache_folder
from itr_lib.data.photographs import entities
from itr_lib.data.photographs.assembly import PhotographData
from itr_lib.data.photographs.crop_features import CROP_DIM, crop_boxes, describe
from itr_lib.data.photographs.entities import load_entities
from itr_lib.data.photographs.given_boxes import read_boxes
from itr_lib.data.photographs.problems import Problems
from itr_lib.data.questions import phrase_questions
from itr_lib.evaluation.pointing import largest_box_accuracy

TOKENS = [["two", "dogs", "chase", "a", "red", "ball"], ["the", "dog", "on", "grass"]]
LEFT, RIGHT, BALL = [0, 0, 20, 30], [40.0, 10, 60, 40], [30, 0, 36, 6]


def phrase(sentence, start, stop, entity, kind="animals", **more):
    text = " ".join(TOKENS[sentence][start:stop]) if stop <= len(TOKENS[sentence]) else "beyond"
    return {"s": sentence, "span": [start, stop], "text": text.capitalize(), "e": entity, "types": [kind], **more}


def entry():
    boxes = {"1": [LEFT, RIGHT], "2": [[1, 0, 20, 30]], "3": [BALL], "4": []}
    return {
        "size": [60, 40],
        "entities": {name: {"types": ["animals"], "boxes": own} for name, own in boxes.items()},
        "phrases": [
            phrase(0, 0, 2, "1"),
            phrase(0, 3, 6, "3", "other"),
            phrase(1, 0, 2, "2"),
            phrase(1, 3, 4, "4", "scene"),
            phrase(1, 2, 4, "0", "notvisual"),
        ],
    }


NAMES = [f"{number}.jpg" for number in range(5)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A good data set of five pictures, three train and two val, and a cache of its own."""
    monkeypatch.setenv("ITR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for name in NAMES:
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    sentences = [{"raw": " ".join(words).title() + " .", "tokens": words} for words in TOKENS]
    splits = ["train", "train", "train", "val", "val"]
    images = [
        {"filename": name, "split": split, "sentences": sentences} for name, split in zip(NAMES, splits, strict=True)
    ]
    write(tmp_path, "dataset_flickr8k.json", {"dataset": "flickr8k", "images": images})
    write(tmp_path, "entities.json", {"images": {name: entry() for name in NAMES}})
    return tmp_path


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def change(folder, alter, name="entities.json"):
    content = json.loads((folder / name).read_text())
    alter(content["images"])
    write(folder, name, content)


def load(folder, **options):
    return load_entities(folder, progress=False, **options)


def test_good_data(folder):
    data = load(folder, strict=True)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 3, "val": 2}
    train, phrases = data["train"], data.phrases["train"]
    assert train.captions[:2] == ("two dogs chase a red ball", "the dog on grass") and data.problems == ()
    assert train.features.shape == (3, 4, CROP_DIM) and train.region_mask.all()
    expected = np.array([LEFT, [1, 0, 20, 30], BALL, RIGHT]) / [60, 40, 60, 40]  # from left to right
    np.testing.assert_allclose(train.boxes[1], expected, atol=1e-6)
    assert [train.captions[c][a:b] for c, (a, b) in zip(phrases.caption, phrases.span, strict=True)] == [
        "two dogs",
        "a red ball",
        "the dog",
    ] * 3
    assert phrases.caption.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5] and phrases.unboxed == 6
    assert phrases.right[:3].tolist() == [
        [True, True, False, True],
        [False, False, True, False],
        [True, True] + [False] * 2,
    ]
    assert phrases.kind[:3].tolist() == ["animals", "other", "animals"]
    assert train.picture(2).size == (60, 40)
    with pytest.raises(KeyError, match="'test' is not there"):
        data["test"]


def test_the_report_is_that_of_any_photographs_and_tells_the_phrases(folder):
    (folder / "images" / "4.jpg").unlink()
    data = load(folder)
    assert isinstance(data, PhotographData) and data.report().split("\n") == [
        f"Read: Flickr30k Entities, {folder}.",
        "train: 4.0 boxes an image, 9 phrases with a box and 6 without",
        "val: 4.0 boxes an image, 3 phrases with a box and 2 without",
        f"flickr8k/train: 3 images, 6 captions, features 4 x {CROP_DIM}",
        f"flickr8k/val: 1 images, 2 captions, features 4 x {CROP_DIM}",
        "1 skipped: missing picture (4.jpg)",
    ]


def test_splits_can_be_pickled_whole_and_cut(folder):
    train = load(folder)["train"]
    cut = train.take(np.array([2, 0])).take(np.array([1]))
    for data in (train, cut):
        again = pickle.loads(pickle.dumps(data))
        assert (again.image_ids, again.captions) == (data.image_ids, data.captions)
        assert again.picture(0).tobytes() == data.picture(0).tobytes()
    assert cut.image_ids == train.image_ids[:1]


def test_questions_of_phrases(folder):
    data = load(folder)["val"]
    tokenizer = train_tokenizer(data.captions, vocabulary_size=40)
    asked = phrase_questions(data, tokenizer, load(folder).phrases["val"])
    ids = tokenise(tokenizer, data.captions).ids
    spoken = [tokenizer.decode(ids[c, a:b]) for c, a, b in zip(asked.caption, asked.start, asked.stop, strict=True)]
    assert spoken == ["two dogs", "a red ball", "the dog"] * 2
    report = largest_box_accuracy(data.boxes, data.region_mask, data.image_of_caption, asked)
    assert report["animals"] > report["other"] == 0


def test_limit_and_splits(folder):
    data = load(folder, splits=("train",), limit=2)
    assert data["train"].image_ids == ("0.jpg", "1.jpg") and list(data.splits) == ["train"]


def test_features_describe_the_crops(folder):
    data = load(folder)["train"]
    crops = crop_boxes(data.picture(0), data.boxes[0])
    np.testing.assert_allclose(data.features[0], describe(crops), atol=2e-2)


def test_features_are_made_once_until_something_changes(folder, monkeypatch):
    made, whole = [], entities.describe_pictures
    monkeypatch.setattr(entities, "describe_pictures", lambda *a: made.append(len(a[0])) or whole(*a))
    first, again = load(folder), load(folder)
    assert made == [3, 2] and (first["train"].features == again["train"].features).all()
    change(folder, lambda images: images["4.jpg"]["entities"]["3"].update(boxes=[[30, 0, 40, 10]]))
    load(folder)
    assert made == [3, 2, 2]
    Image.new("RGB", (60, 40)).save(folder / "images" / "0.jpg")
    assert (load(folder)["train"].features[0] != first["train"].features[0]).any() and made == [3, 2, 2, 3]
    assert not list(cache_folder().glob("*.making"))


def test_clip_vectors_are_appended(folder):
    vectors = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float16)
    np.savez(folder / "clip.npz", filenames=NAMES[1:], features=vectors)
    data = load(folder, clip=folder / "clip.npz")
    train = data["train"]
    assert train.features.shape == (2, 4, CROP_DIM + 16) and train.image_ids == ("1.jpg", "2.jpg")
    whole = train.features[0, :, CROP_DIM:].astype(float)
    assert (whole == whole[0]).all() and (whole**2).mean() == pytest.approx(1, abs=0.01)
    assert np.corrcoef(whole[0], vectors[0])[0, 1] > 0.999
    assert data.phrases["train"].caption.max() == 3 and data.problems[0].cause == "no features"
    np.savez(folder / "clip.npz", filenames=NAMES, features=np.ones((5, 2, 16), np.float16))
    with pytest.raises(ValueError, match="2 vectors an image: expected one"):
        load(folder, clip=folder / "clip.npz")


def test_different_numbers_of_boxes_and_too_many(folder):
    """No more than 36 boxes, those that phrases speak of first; what was cut is said."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (40, 2)).round(2)
    many = [[float(x), float(y), float(x) + 4, float(y) + 4] for x, y in corners]
    change(folder, lambda images: images["0.jpg"]["entities"].update({"9": {"boxes": many}}))
    data = load(folder)
    assert data["train"].region_mask.sum(1).tolist() == [36, 4, 4] and not data["train"].features[1, 4:].any()
    assert data.problems[0].cause == "boxes beyond 36" and "has 44 boxes" in str(data.problems[0])
    assert len(data.phrases["train"].caption) == 9 and data.phrases["train"].right[:3].any(axis=1).all()


def of_entry(alter, name="0.jpg"):
    return lambda folder: change(folder, lambda images: alter(images[name]))


def of_captions(alter):
    return lambda folder: change(folder, alter, "dataset_flickr8k.json")


def boxes(*values):
    return of_entry(lambda own: [one.update(boxes=list(values)) for one in own["entities"].values()])


def cut_picture(folder):
    path = folder / "images" / "0.jpg"
    os.truncate(path, path.stat().st_size // 2)


BAD_IMAGES = [
    ("missing picture", lambda f: (f / "images" / "0.jpg").unlink(), "Picture .*0.jpg does not exist"),
    ("unreadable picture", cut_picture, "0.jpg cannot be read"),
    ("no entities", lambda f: change(f, lambda i: i.pop("0.jpg")), "'0.jpg' does not stand in entities.json"),
    ("entities of another format", of_entry(lambda e: e.pop("size")), "'0.jpg' lacks 'size'"),
    ("entities of another format", of_entry(lambda e: e.update(phrases=[{"s": 0}])), "'phrases' with 's', 'span', 'e'"),
    ("entities of another format", of_entry(lambda e: e.update(size=[0, 40])), "lacks 'size'"),
    ("entities of another format", of_entry(lambda e: e["entities"].update({"1": [1]})), "with 'boxes'"),
    ("image without a box that can be used", boxes(), "Image '0.jpg' has no box"),
    ("record of another format", of_captions(lambda i: i[0].pop("sentences")), "Record 0 of .* not in Karpathy's f"),
    ("record of another format", of_captions(lambda i: i.__setitem__(0, 5)), "Record 0 of .* not in Karpathy's f"),
    ("unknown split", of_captions(lambda i: i[0].update(split="dev")), "'0.jpg' .record 0 .* is of split 'dev'"),
    ("file name that is none", of_captions(lambda i: i[0].update(filename="../0.jpg")), "names the picture '../0.jpg'"),
]


@pytest.mark.parametrize(("cause", "harm", "words"), BAD_IMAGES)
def test_a_bad_image_is_left_out_or_stops(folder, cause, harm, words):
    harm(folder)
    data = load(folder)
    assert data["train"].image_ids == ("1.jpg", "2.jpg") and cause in [problem.cause for problem in data.problems]
    assert len(data.phrases["train"].caption) == 6 and f"skipped: {cause}" in data.report()
    with pytest.raises(ValueError, match=words):
        load(folder, strict=True)


BAD_PARTS = [
    (
        "box outside the picture",
        [70, 0, 80, 10],
        r"\[70, 0, 80, 10\] of entity 1 of '0.jpg', 60 x 40: boxes that reach",
    ),
    ("box outside the picture", [-30, 20, 90, 60], r"\[-30, 20, 90, 60\] of entity 1 of '0.jpg', 60 x 40: boxes that"),
    ("box outside the picture", [5, 5, 5.4, 30], r"\[5, 5, 5.4, 30\] of entity 1 of '0.jpg', 60 x 40: .* no pixel"),
    ("box that ends before it begins", [20, 5, 10, 15], r"expected \(x1, y1, x2, y2\), not \(x, y, w, h\)"),
    ("box that is none", [1, 2, 3], "expected four numbers"),
    ("box that is none", [1, 2, 3, None], "expected four numbers"),
    ("box that is none", [1, 2, 3, float("nan")], "expected four numbers"),
]


@pytest.mark.parametrize(("cause", "box", "words"), BAD_PARTS)
def test_a_bad_box_leaves_the_others(folder, cause, box, words):
    of_entry(lambda own: own["entities"]["1"]["boxes"].append(box))(folder)
    data = load(folder)
    assert [problem.cause for problem in data.problems] == [cause] and data["train"].region_mask.all()
    with pytest.raises(ValueError, match=words):
        load(folder, strict=True)


def test_a_box_that_sticks_out_is_cut(folder):
    boxes([-2, 20, 62, 41.5])(folder)
    train = load(folder, strict=True)["train"]
    np.testing.assert_allclose(train.boxes[0, 0], [0, 0.5, 1, 1])
    assert train.region_mask.sum(1).tolist() == [1, 4, 4] and train.boxes.max() == 1


def test_both_readers_of_boxes_take_the_same(folder):
    """As regions of the phrases, and as boxes to extract features of: one file, one judgement of each box."""
    for box in ([-2, 20, 62, 41.5], *(box for _, box, _ in BAD_PARTS)):
        of_entry(lambda own, box=box: own["entities"]["1"]["boxes"].append(box))(folder)
    problems = Problems()
    given = read_boxes(folder / "entities.json", problems)["0.jpg"].boxes
    own = {tuple(row) for row in load(folder)["train"].boxes[0].tolist()}
    assert {tuple(row) for row in given.tolist()} == own and len(own) == 5
    assert [problem.cause for problem in load(folder).problems] == [cause for cause, *_ in BAD_PARTS]
    assert {problem.cause for problem in problems.found} == {cause for cause, *_ in BAD_PARTS}


BAD_PHRASES = [
    ("phrase outside its sentence", phrase(1, 3, 5, "2"), "is tokens 3 to 5 of sentence 1, which has 4"),
    ("phrase outside its sentence", {**phrase(1, 0, 1, "2"), "s": 7}, "of sentence 7, which has 0"),
    ("phrase outside its sentence", {**phrase(1, 0, 1, "2"), "span": [2, 2]}, "tokens 2 to 2"),
    ("phrase of an unknown entity", phrase(1, 0, 2, "77"), "'The dog' of '0.jpg' is of entity 77, which is unknown"),
    ("phrase of other words", {**phrase(1, 0, 2, "2"), "text": "a cat"}, "'a cat' of '0.jpg' should be 'the dog'"),
]


@pytest.mark.parametrize(("cause", "bad", "words"), BAD_PHRASES)
def test_a_bad_phrase_leaves_the_others(folder, cause, bad, words):
    of_entry(lambda own: own["phrases"].append(bad))(folder)
    data = load(folder)
    assert [problem.cause for problem in data.problems] == [cause] and len(data.phrases["train"].caption) == 9
    with pytest.raises(ValueError, match=words):
        load(folder, strict=True)


def test_a_fuzzy_phrase_may_have_other_words(folder):
    of_entry(lambda own: own["phrases"].append({**phrase(1, 0, 2, "2"), "text": "The hound", "fuzzy": 1}))(folder)
    assert len(load(folder, strict=True).phrases["train"].caption) == 10


def test_an_empty_sentence_moves_no_other(folder):
    of_captions(lambda images: images[0]["sentences"][0].update(tokens=[" "]))(folder)
    data = load(folder)
    assert data["train"].captions_of(0) == ["the dog on grass"]
    assert {problem.cause for problem in data.problems} == {"empty caption", "phrase outside its sentence"}
    first = data.phrases["train"].span[0]
    assert data["train"].captions[0][first[0] : first[1]] == "the dog"
    of_captions(lambda images: images[0]["sentences"][1].update(tokens=["the", 5]))(folder)
    assert {"caption without tokens", "image without a caption"} <= {problem.cause for problem in load(folder).problems}
    of_captions(lambda images: images[0].update(sentences=[]))(folder)
    assert "image without a caption" in [problem.cause for problem in load(folder).problems]


def test_restval_is_train_here_too(folder):
    of_captions(lambda images: images[0].update(split="restval"))(folder)
    assert load(folder, strict=True)["train"].image_ids == ("0.jpg", "1.jpg", "2.jpg")


def test_an_unknown_file_name_is_said(folder):
    change(folder, lambda images: images.update({"other.jpg": entry()}))
    problem = load(folder).problems[0]
    assert problem.cause == "file name without captions" and "another data set?" in str(problem)


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


BAD_FILES = [
    (lambda f: (f / "entities.json").unlink(), "entities.json' does not exist: Flickr30k Entities"),
    (lambda f: (f / "dataset_flickr8k.json").unlink(), "expected one dataset_<name>.json"),
    (text("dataset_other.json", "{}"), "'dataset_flickr8k.json', 'dataset_other.json'.*expected one"),
    (text("entities.json", '{"images": {'), "entities.json is not JSON"),
    (text("entities.json", '{"images": []}'), "in another format: expected an object 'images'"),
    (text("entities.json", "[]"), "in another format"),
    (text("dataset_flickr8k.json", "[]"), "not in Karpathy's format"),
    (text("dataset_flickr8k.json", '{"images": [1]}'), "has no image that can be used. The first of 6 problems"),
    (lambda f: [(f / "images" / name).unlink() for name in NAMES], "no image of split 'train'.*missing picture"),
    (lambda f: [(f / "images" / name).write_text("no") for name in NAMES], "no image of split 'train'.*unreadable"),
]


@pytest.mark.parametrize(("harm", "words"), BAD_FILES)
def test_a_file_that_cannot_be_used_always_stops(folder, harm, words):
    harm(folder)
    with pytest.raises(ValueError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"splits": ("test",)}, "no image of split 'test': it has"),
        ({"splits": "train"}, "expected a sequence"),
        ({"splits": ()}, "expected a sequence"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": 1.5}, "limit is 1.5"),
        ({"clip": "nowhere.npz"}, "'nowhere.npz' does not exist"),
    ],
)
def test_bad_arguments(folder, options, words):
    with pytest.raises(ValueError, match=words):
        load(folder, **options)
    with pytest.raises(ValueError, match="folder 'nowhere' does not exist"):
        load("nowhere")


def test_descriptor_by_hand():
    """A crop that is red above and blue below: two cells' rows of colour, two colours, one horizontal edge."""
    crop = np.zeros((1, 32, 32, 3), np.uint8)
    crop[:, :16, :, 0] = crop[:, 16:, :, 2] = 255
    layout, colours, edges = np.split(describe(crop)[0], [48, 112])
    assert (layout.reshape(4, 4, 3)[:2] == [2, -2, -2]).all() and (layout.reshape(4, 4, 3)[2:] == [-2, -2, 2]).all()
    assert np.flatnonzero(colours).tolist() == [3, 48] and colours[3] == pytest.approx(np.sqrt(32))
    assert not edges.any()  # red and blue are equally bright
    crop[:, 16:] = 255
    edges = describe(crop)[0, 112:].reshape(4, 4, 8)
    assert set(np.argwhere(edges)[:, 2]) == {4} and set(np.argwhere(edges)[:, 0]) == {1, 2}  # direction: downwards
    assert (edges**2).mean() == pytest.approx(1)


def test_descriptor_ignores_other_crops_and_refuses_other_shapes():
    crops = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    together, alone = describe(crops), np.concatenate([describe(crop[None]) for crop in crops])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert not describe(np.full((1, 32, 32, 3), 7, np.uint8))[0, 112:].any()  # no edge: no NaN
    for bad in (crops[..., :2], crops.astype(float), crops[0]):
        with pytest.raises(ValueError, match="expected .n, 32, 32, 3. uint8"):
            describe(bad)


def test_crops_show_their_boxes():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:20, 30:45] = 255
    crops = crop_boxes(Image.fromarray(pixels), np.array([[0.5, 0.25, 0.75, 0.5], [0, 0.5, 1, 1], [0, 0, 0.01, 0.01]]))
    assert crops.shape == (3, 32, 32, 3) and crops[0, 3:-3, 3:-3].min() == 255 and not crops[1, 4:].any()


def test_flickr8k(shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("ITR_CACHE", str(tmp_path))
    data = load_entities(shared_data / "flickr8k", splits=("val",), limit=100, progress=False)
    val, phrases = data["val"], data.phrases["val"]
    assert len(val) == 100 and data.problems == () and len(phrases.caption) > 1000
    assert (val.features[val.region_mask].astype(float) ** 2).mean() == pytest.approx(1, abs=0.2)
