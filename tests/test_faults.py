"""Faults that public bug reports are full of: each becomes a sentence or a counted skip, never a wrong number."""

from __future__ import annotations

import codecs
import io
import json
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from itr_lib.data.photographs import arrays as array_files
from itr_lib.data.photographs.arrays import load_arrays
from itr_lib.data.photographs.box_units import expect_whole_pictures, relative_boxes
from itr_lib.data.photographs.entities import load_entities
from itr_lib.data.photographs.features import read_features
from itr_lib.data.photographs.layouts import load_folder
from itr_lib.data.photographs.pictures import open_photograph, picture_size
from itr_lib.data.photographs.problems import Problems
from itr_lib.lessons.markdown import plain_dollars

NAMES = [f"{number}.jpg" for number in range(4)]
SIZE = (60, 40)  # of each picture
GRINNING = "\ud83d"  # half of it


@pytest.fixture
def folder(tmp_path):
    """Four pictures with two captions each, three to train, and a feature file."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        Image.new("RGB", SIZE, (9, 90, 200)).save(tmp_path / "images" / name)
    write(tmp_path, NAMES)
    store(tmp_path)
    return tmp_path


def write(folder, names, caption="a dog runs", encode=str.encode):
    sentences = [{"raw": text, "tokens": text.split()} for text in (caption, "a brown dog")]
    splits = ["train"] * (len(names) - 1) + ["val"]
    images = [{"filename": n, "split": s, "sentences": sentences} for n, s in zip(names, splits, strict=True)]
    (folder / "dataset_flickr8k.json").write_bytes(encode(json.dumps({"images": images})))


def store(folder, names=NAMES, **arrays):
    np.savez(folder / "clip.npz", **{"filenames": names, "features": np.ones((len(names), 2, 3), np.float32), **arrays})


def pixel_boxes(*corners):
    return np.tile(np.float32(corners), (len(NAMES), 1, 1))


def causes(data):
    return [problem.cause for problem in data.problems]


# Boxes


def test_pixel_boxes_of_a_larger_picture_are_no_boxes_of_this_one(folder):
    boxes = pixel_boxes([0, 0, 30, 20], [10, 10, 60, 41])  # a pixel beyond the edge is nothing
    boxes[1] *= 8
    store(folder, boxes=boxes)
    data = load_folder("flickr8k", folder)
    assert data["train"].image_ids == ("0.jpg", "2.jpg") and causes(data) == ["features that cannot be used"]
    assert "(480, 328)" in str(data.problems[0]) and "60 x 40" in str(data.problems[0])
    assert data["train"].boxes.max() == 1
    with pytest.raises(ValueError, match="picture of another size; store that size beside them as image_w and image_h"):
        load_folder("flickr8k", folder, strict=True)


def test_the_size_that_a_file_tells_counts_in_one_file_and_in_many(folder):
    boxes = 8 * pixel_boxes([0, 0, 30, 20], [10, 10, 60, 40])
    store(folder, boxes=boxes, image_w=[480] * 4, image_h=[320] * 4)
    assert load_folder("flickr8k", folder, strict=True)["train"].boxes[0, 0].tolist() == [0, 0, 0.5, 0.5]
    store(folder, boxes=boxes, image_w=[480] * 3, image_h=[320] * 4)
    with pytest.raises(ValueError, match="must be 4 numbers above 0, one a picture"):
        load_folder("flickr8k", folder)
    many = folder / "many"
    many.mkdir()
    for name in NAMES:
        np.savez(many / f"{name}.npz", x=np.ones((2, 3), np.float32), bbox=boxes[0], image_w=480, image_h=320)
    found = read_features(many, NAMES, Problems(strict=True))
    assert found.boxes[3, 1].tolist() == pytest.approx([1 / 6, 0.25, 1, 1])


def test_pixel_boxes_of_smaller_pictures_show_in_the_whole_set():
    boxes = np.float32([[0, 0, 12, 8], [2, 2, 20, 13]])
    small = [relative_boxes(boxes, SIZE)[0] for _ in range(20)]
    expect_whole_pictures(small[:19], "few.npz")
    with pytest.raises(ValueError, match="20 pictures in f.npz reaches beyond 33% .* measured on smaller pictures"):
        expect_whole_pictures(small, "f.npz")


def test_width_and_height_are_not_taken_for_a_corner(folder):
    good, sized = np.float32([[20, 10, 50, 40], [0, 0, 9, 9]]), np.float32([[40, 10, 20, 30], [0, 0, 9, 9]])
    store(folder, boxes=np.stack([good, sized, good, good]))
    data = load_folder("flickr8k", folder)
    assert data["train"].image_ids == ("0.jpg", "2.jpg") and "not (x, y, w, h)" in str(data.problems[0])
    store(folder, boxes=np.stack([sized / 60] * 4))  # relative ones as well
    with pytest.raises(ValueError, match=r"for 4 of 4 pictures, boxes whose second .* add x to w and y to h"):
        load_folder("flickr8k", folder)


def write_entities(folder, boxes, size=SIZE):
    entry = {
        "size": list(size),
        "entities": {"1": {"boxes": boxes}},
        "phrases": [{"s": 0, "span": [0, 2], "text": "a dog", "e": "1", "types": ["animals"]}],
    }
    (folder / "entities.json").write_text(json.dumps({"images": dict.fromkeys(NAMES, entry)}))


@pytest.mark.parametrize(
    ("boxes", "size", "strict", "words"),
    [
        ([[100, 90, 300, 200], [5, 5, 20, 20]], SIZE, True, "1 of 2 boxes that reach beyond its size, 60 x 40"),
        ([[0, 0, 40, 60]], (40, 60), True, "60 x 40 pixels, upright, and boxes drawn on 40 x 60"),
        ([[40, 10, 20, 30], [1, 1, 9, 9]], SIZE, False, r"for 4 of \d pictures, .* not \(x, y, w, h\)"),
    ],
)
def test_entities_drawn_on_another_picture(folder, boxes, size, strict, words):
    write_entities(folder, boxes, size)
    with pytest.raises(ValueError, match=words):
        load_entities(folder, progress=False, strict=strict)
    write_entities(folder, [[0, 0, 240, 160]], (240, 160))  # a copy scaled down is the same picture
    assert load_entities(folder, progress=False, strict=True)["train"].boxes.max() == 1


# Pictures


@pytest.mark.parametrize(("orientation", "upright"), [(1, (60, 40)), (3, (60, 40)), (6, (40, 60)), (8, (40, 60))])
def test_a_picture_stands_upright(tmp_path, orientation, upright):
    """Taken with the camera on its side: the red end, stored left, is below, right, above or where it was."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.jpg", "a.png"):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
        picture = open_photograph(tmp_path / name)
        assert picture.size == picture_size(tmp_path / name) == upright
        x, y = {1: (10, 20), 3: (50, 20), 6: (20, 10), 8: (20, 50)}[orientation]
        opposite = (upright[0] - 1 - x, upright[1] - 1 - y)
        assert picture.getpixel((x, y))[0] > 200 and picture.getpixel(opposite)[0] < 50


def test_grey_of_sixteen_bits_keeps_its_greys(tmp_path):
    ramp = np.linspace(0, 65535, 60 * 40).reshape(40, 60)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "grey.png")
    opened = np.asarray(open_photograph(tmp_path / "grey.png"))
    assert (opened == (ramp.astype(int) // 256)[..., None]).all()
    for kind, words in ((np.float32, "floating point"), (np.int32, "more than 16 bits")):
        Image.fromarray(100 * ramp.astype(kind)).save(tmp_path / "odd.tif")
        with pytest.raises(ValueError, match=f"odd.tif cannot be read .{words}.*save it anew as 8-bit RGB"):
            open_photograph(tmp_path / "odd.tif")


def test_a_bomb_is_no_picture(folder, monkeypatch):
    Image.new("1", (600, 400)).save(folder / "images" / "0.jpg", "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    data = load_folder("flickr8k", folder)
    assert causes(data) == ["unreadable picture"] and "too large to be decoded safely" in str(data.problems[0])
    with pytest.raises(ValueError, match="0.jpg is too large to be decoded safely .*: scale it down, or leave it out"):
        open_photograph(folder / "images" / "0.jpg")


@pytest.mark.filterwarnings("ignore")  # Pillow's own, of what it reads all the same
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tif"])
def test_a_damaged_picture_opens_or_gets_its_sentence(tmp_path, name):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / name
    Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(path, exif=exif)
    for harmed in damaged(path.read_bytes(), rng, times=20):
        path.write_bytes(harmed)
        for look in (picture_size, open_photograph):
            try:
                look(path)
            except ValueError as error:
                assert str(path) in str(error)


# Feature files


def damaged(whole, rng, times):
    """The bytes cut short, with some changed, with a piece left out, and empty."""
    yield b""
    for _ in range(times):
        at, harmed = int(rng.integers(len(whole))), bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 4)):
            harmed[place] = rng.integers(256)
        yield from (whole[:at], bytes(harmed), whole[:at] + whole[at + int(rng.integers(1, 40)) :])


@pytest.mark.parametrize("kind", ["npy", "npz", "zipped"])
def test_a_damaged_feature_file_is_read_whole_or_gets_its_sentence(tmp_path, kind):
    rng, path, stored = np.random.default_rng(0), tmp_path / f"x.{kind[:3]}", io.BytesIO()
    features = rng.normal(size=(5, 4)).astype(np.float32)
    if kind == "npy":
        np.save(stored, features)
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(stored, x=features)
    read = 0
    for harmed in damaged(stored.getvalue(), rng, times=100):
        path.write_bytes(harmed)
        try:
            arrays = load_arrays(path)
        except ValueError as error:
            assert str(path) in str(error)
            continue
        read += 1
        if kind != "npy":  # which has no checksum
            assert all(np.array_equal(array, features) for array in arrays.values())
    assert read < 150


def test_a_damaged_feature_file_of_many_is_skipped(folder):
    (folder / "clip.npz").unlink()
    (folder / "features").mkdir()
    for name in NAMES:
        np.savez_compressed(folder / "features" / f"{name}.npz", feat=np.ones((2, 9000), np.float32))
    path = folder / "features" / "0.jpg.npz"
    harmed = bytearray(path.read_bytes())
    harmed[60:90] = bytes(30)  # zlib.error
    path.write_bytes(harmed)
    (folder / "features" / "1.jpg.npz").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4  \n")  # TokenError
    (folder / "features" / "2.jpg.npz").write_bytes(b"GIF89a")
    data = load_folder("flickr8k", folder)
    assert list(data.splits) == ["val"] and causes(data) == ["features that cannot be used"] * 3 + ["split left empty"]
    with pytest.raises(ValueError, match="for none of the images.* 3 problems: .*0.jpg.npz cannot be read as plain"):
        load_folder("flickr8k", folder, splits=["train"])


def test_a_bomb_is_no_feature_file(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "BOMB_BYTES", 100_000)
    np.savez_compressed(tmp_path / "x.npz", features=np.zeros((1000, 1000), np.float32))
    with pytest.raises(ValueError, match=r"x.npz cannot be read .*.features.npy would take 0.0 GB, from \d+ bytes"):
        load_arrays(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "x.npz", features=np.random.default_rng(0).random((200, 200)))
    assert zipfile.is_zipfile(tmp_path / "x.npz") and load_arrays(tmp_path / "x.npz")["features"].shape == (200, 200)


def test_precision_is_the_widest_of_all_files(tmp_path):
    """The first file in float16 made the set float16, where the second's numbers are infinite."""
    np.save(tmp_path / "0.jpg.npy", np.ones((2, 3), np.float16))
    np.save(tmp_path / "1.jpg.npy", np.full((2, 3), 1e5, ">f4"))
    np.save(tmp_path / "2.jpg.npy", np.full((2, 3), 1e39))
    problems = Problems()
    found = read_features(tmp_path, NAMES[:3], problems)
    assert found.features.dtype == np.float32 and found.features.max() == 1e5 and found.rows.tolist() == [0, 1]
    assert "some too large for 32 bits" in str(problems.found[0])
    found = read_features(tmp_path, NAMES[:1], problems)
    assert found.features.dtype == np.float16


def test_what_a_feature_array_may_be_called_and_what_is_said_otherwise(tmp_path):
    np.savez(tmp_path / "0.jpg.npz", feat=np.ones((2, 3), np.float32))
    assert read_features(tmp_path, NAMES[:1], Problems(strict=True)).features.shape == (1, 2, 3)
    np.savez(tmp_path / "0.jpg.npz", vectors=np.ones((2, 3), np.float32))
    with pytest.raises(
        ValueError, match=r"holds \['vectors'\]: expected one of the arrays \['features', 'x', 'feat'\]"
    ):
        read_features(tmp_path, NAMES[:1], Problems())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [({"mask": np.array([["a", "b"]] * 4)}, "has type <U1, expected numbers or bools"),
     ({"num_boxes": np.array(["2"] * 4)}, "has type <U1"),
     ({"boxes": np.full((4, 2, 4), "0")}, "type <U1, expected .2, 4. numbers")],
)  # fmt: skip
def test_arrays_of_another_kind_are_named(folder, arrays, words):
    store(folder, **arrays)
    with pytest.raises(ValueError, match=words):
        load_folder("flickr8k", folder)


def test_file_names_in_bytes_are_file_names(folder):
    store(folder, names=[name.encode() for name in NAMES])
    assert len(load_folder("flickr8k", folder, strict=True)["train"]) == 3


# Text


def test_half_a_character_in_a_caption(folder):
    write(folder, NAMES, f"a dog {GRINNING} runs")
    data = load_folder("flickr8k", folder)
    assert causes(data) == ["caption with half a character"] * 4 and data["train"].captions == ("a brown dog",) * 3
    with pytest.raises(ValueError, match=r"Caption 0 of image '0.jpg' .* holds '\\ud83d', half a character"):
        load_folder("flickr8k", folder, strict=True)
    write_entities(folder, [[0, 0, 30, 20]])
    entities = load_entities(folder, progress=False)
    assert "caption with half a character" in causes(entities) and "phrase outside its sentence" in causes(entities)


def test_half_a_character_in_a_name_can_be_told(folder):
    write(folder, [*NAMES[:3], f"{GRINNING}.jpg", NAMES[3]])
    report = load_folder("flickr8k", folder).report()
    assert report.encode() and r"\ud83d.jpg" in report


def test_a_name_that_no_file_can_have_is_a_missing_picture(folder):
    long = "a" * 300 + ".jpg"
    write(folder, [*NAMES[:3], long, NAMES[3]])
    store(folder, [*NAMES, long])
    assert causes(load_folder("flickr8k", folder)) == ["missing picture"]
    write_entities(folder, [[0, 0, 60, 40]])
    content = json.loads((folder / "entities.json").read_text())
    content["images"][long] = content["images"]["0.jpg"]
    (folder / "entities.json").write_text(json.dumps(content))
    assert causes(load_entities(folder, progress=False)) == ["missing picture"]


def test_half_a_character_does_not_stop_a_tokenizer_namelessly():
    from itr_lib.data import tokenise, train_tokenizer  # transformers: slow, and nothing else here needs it

    tokenizer = train_tokenizer(["a dog runs", "a dog"] * 2)
    for call in (lambda texts: tokenise(tokenizer, texts), train_tokenizer):
        with pytest.raises(ValueError, match=r"Caption 1, 'a \\ud83d', holds '\\ud83d', half a character"):
            call(["a dog", f"a {GRINNING}"])


def test_accents_do_not_make_a_word_unknown():
    from itr_lib.data.tokenisation import train_tokenizer, unknown_words

    tokenizer = train_tokenizer(["ein Mädchen rennt", "das Mädchen"] * 3)
    assert unknown_words(tokenizer, "Das Ma\u0308dchen! Mädchen, Jungen") == ["jungen"]


@pytest.mark.parametrize(
    "encode",
    [lambda t: codecs.BOM_UTF8 + t.encode(), lambda t: t.encode("utf-16"), lambda t: t.encode("utf-32")],
    ids=["utf-8", "utf-16", "utf-32"],
)
def test_a_byte_order_mark_is_no_fault(folder, encode):
    write(folder, NAMES, "ein Mädchen", encode)
    assert load_folder("flickr8k", folder, strict=True)["train"].captions[0] == "ein Mädchen"
    write_entities(folder, [[0, 0, 60, 40]])
    (folder / "entities.json").write_bytes(encode((folder / "entities.json").read_text()))
    assert len(load_entities(folder, progress=False)["train"]) == 3


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": ["\xff'])
def test_json_that_is_none_gets_its_sentence(folder, text):
    (folder / "dataset_flickr8k.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="dataset_flickr8k.json is not JSON .*: it was cut short or is another file"):
        load_folder("flickr8k", folder)


@pytest.mark.parametrize("annotated", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_accents_of_file_names_may_be_stored_in_two_ways(folder, annotated, stored):
    names = ["Mädchen.jpg", "Café.jpg", "a.jpg"]
    for name in names:
        Image.new("RGB", SIZE).save(folder / "images" / unicodedata.normalize(stored, name))
    write(folder, [unicodedata.normalize(annotated, name) for name in names])
    store(folder, [unicodedata.normalize(stored, name) for name in names])
    train = load_folder("flickr8k", folder, strict=True)["train"]
    assert train.image_ids == ("Mädchen.jpg", "Café.jpg") and train.picture(0).size == SIZE
    (folder / "features").mkdir()
    for name in names:
        np.save(folder / "features" / f"{unicodedata.normalize(stored, name)}.npy", np.ones((2, 3), np.float32))
    assert len(load_folder("flickr8k", folder, features=folder / "features", strict=True)["train"]) == 2


def test_dollars_in_a_lesson_s_sentences():
    dollar = "<span>&#36;</span>"
    assert plain_dollars("a $5 bill, $6") == f"a {dollar}5 bill, {dollar}6"
    assert plain_dollars("$ → nowhere · $ → 3") == f"{dollar} → nowhere · {dollar} → 3"
    for formulas in ("Here $K / B$ is **3**.", "$\\tau$, $x_1$", "$$a + b$$", r"costs \$5"):
        assert plain_dollars(formulas) == formulas
