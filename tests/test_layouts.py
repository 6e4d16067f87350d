"""The field's layouts: each is written here as it is passed on, and read back; what is wrong with it is told."""

from __future__ import annotations

import csv
import json
import random
import re

import numpy as np
import pytest
from PIL import Image

from itr_lib.data import load_splits, tokenise, train_tokenizer
from itr_lib.data.batches import image_batch
from itr_lib.data.photographs import shards
from itr_lib.data.photographs.layouts import load_folder
from itr_lib.data.rows import Rows

IDS = [f"{1000 + 7 * row}" for row in range(40)]
SAY = ["a dog , running", "two cats", 'a "red" ball', "a man | a hat", "people on grass"]


def captions(row: int) -> list[str]:
    return [f"{text} {row}" for text in SAY]


def pictures(folder, names, size=(60, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", size, (9, 90, 200)).save(folder / name)
    (folder / "Thumbs.db").write_text("x")
    (folder / f"._{names[0]}").write_text("x")


def karpathy(folder, names, name="flickr8k", split=lambda row: ["train", "train", "val", "test"][row % 4], **more):
    images = [
        {
            "filename": file,
            "imgid": row,
            "split": split(row),
            "sentences": [{"raw": text} for text in captions(row)],
            **{key: value[row] for key, value in more.items()},
        }
        for row, file in enumerate(names)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"dataset_{name}.json").write_text(json.dumps({"dataset": name, "images": images}))


def kaggle8k(root):
    names = [f"{one}.jpg" for one in IDS]
    pictures(root / "Images", names)
    lines = [
        f'{name},"{text}"' if row % 2 and '"' not in text else f"{name},{text}"
        for row, name in enumerate(names)
        for text in captions(row)
    ]
    (root / "captions.txt").write_text("\n".join(["image,caption", *lines, ""]))
    (root / "__MACOSX").mkdir()
    for hidden in (root / "._captions.txt", root / "__MACOSX" / "dataset_flickr8k.json", root / "._clip.npz"):
        hidden.write_bytes(b"\0\5\x16\7")


def kaggle30k(root):
    names = [f"{one}.jpg" for one in IDS]
    folder = root / "flickr30k_images"
    pictures(folder / "flickr30k_images", names)
    lines = [f"{name}| {at}| {text}" for row, name in enumerate(names) for at, text in enumerate(captions(row))]
    lines[9] = lines[9].replace("| 4| ", "| 4   ")  # the line of Kaggle's file that lacks its second bar
    (folder / "results.csv").write_text("\n".join(["image_name| comment_number| comment", *lines, ""]))


def original8k(root):
    names = [f"{one}.jpg" for one in IDS]
    pictures(root / "Flicker8k_Dataset", names)
    text = root / "Flickr8k_text"
    text.mkdir()
    lines = [f"{name}#{at}\t{said}" for row, name in enumerate(names) for at, said in enumerate(captions(row))]
    lines.insert(0, "2258277193_586949ec62.jpg.1#0\tpeople waiting")  # of the original; there is no such picture
    (text / "Flickr8k.token.txt").write_text("\n".join([*lines, ""]))
    for told, some in {"train": names[:20], "dev": names[20:30], "test": names[30:38]}.items():
        (text / f"Flickr_8k.{told}Images.txt").write_text("\n".join([*some, ""]))


def scan(root, repeats=1, ids=1, features=True):
    rows = {"train": range(24), "dev": range(24, 32), "test": range(32, 40)}
    root.mkdir(parents=True, exist_ok=True)
    for split, some in rows.items():
        lines = [text for row in some for text in captions(row)]
        (root / f"{split}_caps.txt").write_text("\n".join([*lines, ""]))
        if ids:
            (root / f"{split}_ids.txt").write_text("\n".join(IDS[row] for row in some for _ in range(ids)) + "\n")
        if features:
            array = np.stack([np.full((3, 4), row, np.float32) for row in some])
            np.save(root / f"{split}_ims.npy", array.repeat(repeats, axis=0))


def coco(root, boxes=False):
    for part, rows in {"train2017": range(20), "val2017": range(20, 30)}.items():
        names = [f"{int(IDS[row]):012d}.jpg" for row in rows]
        pictures(root / part, names)
        images = [
            {"id": int(IDS[row]), "file_name": name, "width": 60, "height": 40}
            for row, name in zip(rows, names, strict=True)
        ]
        said = [
            {"id": row * 5 + at, "image_id": int(IDS[row]), "caption": t}
            for row in rows
            for at, t in enumerate(captions(row))
        ]
        random.Random(0).shuffle(said)
        said.sort(key=lambda one: one["id"] % 5)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"captions_{part}.json").write_text(json.dumps({"images": images, "annotations": said}))
        if boxes:
            marks = [
                {"image_id": int(IDS[r]), "category_id": 7, "bbox": [30, 10, 30, 20 + k]} for r in rows for k in (0, 10)
            ]
            content = {"images": images, "annotations": marks, "categories": [{"id": 7, "name": "dog"}]}
            (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))


def said(data) -> dict[str, list[str]]:
    """The captions of each image in all splits, by the number in its name."""
    found = {}
    for part in data.splits.values():
        for row, name in enumerate(part.image_ids):
            found[str(int(name.split(".")[0].split("_")[-1]))] = part.captions_of(row)
    return found


EVERYBODY = {one: [" ".join(text.split()) for text in captions(row)] for row, one in enumerate(IDS)}
SOURCES = {
    "kaggle8k": (kaggle8k, 40, "captions.txt"),
    "kaggle30k": (kaggle30k, 40, "results.csv"),
    "original8k": (original8k, 38, "Flickr8k.token.txt"),
    "scan": (scan, 40, "SCAN's layout"),
    "coco": (coco, 30, "captions_train2017.json, .*captions_val2017.json"),
    "karpathy": (lambda root: karpathy(root, [f"{one}.jpg" for one in IDS]), 40, "Karpathy's JSON"),
}


@pytest.mark.parametrize("layout", SOURCES)
def test_each_layout_gives_each_image_its_own_captions(layout, tmp_path):
    write, images, told = SOURCES[layout]
    write(tmp_path / "data")
    data = load_folder("flickr8k" if layout != "coco" else "coco", tmp_path / "data", strict=True)
    found = said(data)
    assert len(found) == images and all(sorted(EVERYBODY[one]) == sorted(texts) for one, texts in found.items())
    assert data.problems == () and "Read: " in data.notes[0]
    assert re.search(told, data.notes[0])
    if layout not in ("scan", "karpathy"):
        assert data["train"].picture(0).size == (60, 40)
    splits = load_splits("flickr8k" if layout != "coco" else "coco", str(tmp_path / "data"))
    parts = [set(part.image_ids) for part in (splits.train, splits.val, splits.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2]) and data.notes[0] in splits.notes


# --- SCAN's layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("repeats", "ids"), [(1, 1), (5, 1), (5, 5), (1, 5), (5, 0), (1, 0)])
def test_scan_keeps_each_image_once_with_its_own_features(repeats, ids, tmp_path):
    scan(tmp_path, repeats, ids)
    data = load_folder("f30k", tmp_path, strict=True)
    first = {"train": 0, "val": 24, "test": 32}
    for split, part in data.splits.items():
        assert (part.features[:, 0, 0] == np.arange(first[split], first[split] + len(part))).all()
        assert part.boxes[0, 2].tolist() == [0, 0, 1, 1] and part.features.shape[1:] == (3, 4)
        if ids:
            assert part.image_ids == tuple(IDS[first[split] : first[split] + len(part)])
        assert part.captions_of(2) == EVERYBODY[IDS[first[split] + 2]]


def test_scan_with_one_caption_an_image(tmp_path):
    scan(tmp_path)
    for split, some in {"train": range(24), "dev": range(24, 32), "test": range(32, 40)}.items():
        (tmp_path / f"{split}_caps.txt").write_text("".join(f"{captions(row)[0]}\n" for row in some))
    train = load_folder("f30k", tmp_path, strict=True)["train"]
    assert len(train) == 24 == len(train.captions) and train.captions_of(3) == EVERYBODY[IDS[3]][:1]


def test_scan_of_coco_reports_on_all_5000_and_keeps_the_1000(tmp_path):
    scan(tmp_path)
    for what in ("caps.txt", "ids.txt", "ims.npy"):
        (tmp_path / f"testall_{what}").write_bytes((tmp_path / f"dev_{what}").read_bytes())
    splits = load_splits("coco", str(tmp_path))
    assert splits.test.image_ids == tuple(IDS[24:32]) and splits.probes["test_1k"].image_ids == tuple(IDS[32:])
    assert "testall" in splits.notes


def lines_of(path, alter):
    lines = path.read_text().split("\n")[:-1]
    alter(lines)
    path.write_text("\n".join([*lines, ""]))


def rows_of(path, alter):
    np.save(path, alter(np.load(path)))


WRONG_COUNTS = [
    (lambda f: lines_of(f / "train_caps.txt", lambda lines: lines.pop(7)), "119 lines in train_caps.txt"),
    (lambda f: lines_of(f / "train_caps.txt", lambda lines: lines.insert(7, "one more")), "121 lines"),
    (lambda f: lines_of(f / "train_ids.txt", lambda lines: lines.pop()), "23 in train_ids.txt"),
    (lambda f: lines_of(f / "train_ids.txt", lambda lines: lines.__setitem__(1, lines[0])), "'1000' twice"),
    (lambda f: lines_of(f / "train_ids.txt", lambda lines: lines.__setitem__(1, " ")), "line 2 of .* is empty"),
    (lambda f: rows_of(f / "dev_ims.npy", lambda rows: rows[:-1]), "7 in dev_ims.npy"),
    (lambda f: rows_of(f / "dev_ims.npy", lambda rows: rows.astype(int)), "expected floats"),
    (lambda f: (f / "dev_ims.npy").write_bytes((f / "dev_ims.npy").read_bytes()[:-3]), "cannot be mapped"),
]


@pytest.mark.parametrize(("harm", "words"), WRONG_COUNTS)
def test_scan_counts_that_do_not_fit_always_stop(harm, words, tmp_path):
    scan(tmp_path)
    harm(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_folder("f30k", tmp_path)


def test_scan_repeats_that_differ_stop(tmp_path):
    scan(tmp_path, repeats=5)
    rows_of(tmp_path / "dev_ims.npy", lambda rows: np.roll(rows, 1, axis=0))
    with pytest.raises(ValueError, match="rows 0 to 4 of .*dev_ims.npy differ"):
        load_folder("f30k", tmp_path)
    scan(tmp_path, repeats=5, ids=5)
    lines_of(tmp_path / "dev_ids.txt", lambda lines: lines.insert(0, lines.pop()))
    with pytest.raises(ValueError, match="lines 1 to 5 of .*dev_ids.txt"):
        load_folder("f30k", tmp_path)


def test_scan_an_empty_caption_and_a_nan_leave_the_others_in_place(tmp_path):
    scan(tmp_path)
    lines_of(tmp_path / "train_caps.txt", lambda lines: lines.__setitem__(11, " "))
    array = np.load(tmp_path / "train_ims.npy")
    array[5, 1] = np.nan
    np.save(tmp_path / "train_ims.npy", array)
    data = load_folder("f30k", tmp_path)
    train = data["train"]
    assert train.image_ids == tuple(one for row, one in enumerate(IDS[:24]) if row != 5)
    assert train.features[5:, 0, 0].tolist() == list(range(6, 24))
    assert train.captions_of(2) == [EVERYBODY[IDS[2]][at] for at in (0, 2, 3, 4)]
    assert [problem.cause for problem in data.problems] == ["empty caption", "features that cannot be used"]


def test_scan_reads_lines_as_the_field_does(tmp_path):
    """Signs at which Python splits a text, and no other reader: no caption after them moves."""
    scan(tmp_path)
    lines_of(tmp_path / "train_caps.txt", lambda lines: lines.__setitem__(3, "a\x0bb\x85c\u2028d\x1ce"))
    assert load_folder("f30k", tmp_path, strict=True)["train"].captions_of(1) == EVERYBODY[IDS[1]]


def test_scan_pictures_by_id_mapping(tmp_path):
    scan(tmp_path / "precomp")
    pictures(tmp_path / "flickr30k-images", [f"p{one}.jpg" for one in IDS])
    assert "no id_mapping.json" in " ".join(load_folder("f30k", tmp_path).notes)
    (tmp_path / "id_mapping.json").write_text(json.dumps({one: f"p{one}.jpg" for one in IDS}))
    train = load_folder("f30k", tmp_path, strict=True)["train"]
    assert train.image_ids[0] == "p1000.jpg" and train.picture(0).size == (60, 40)


def test_large_precomputed_features_stay_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("itr_lib.data.rows.SMALL_BYTES", 100)
    scan(tmp_path, repeats=5)
    train = load_folder("f30k", tmp_path)["train"]
    assert isinstance(train.features, Rows) and image_batch(train, np.array([3])).features[0, 0, 0] == 3


# --- one caption a line, COCO ----------------------------------------------------------------------------------------


def test_files_without_a_split_get_the_same_one_everywhere(tmp_path):
    kaggle8k(tmp_path)
    first = load_folder("flickr8k", tmp_path)
    assert {split: len(part) for split, part in first.splits.items()} == {"train": 32, "val": 4, "test": 4}
    assert "SHA-256" in first.report() and "no published" in first.report()
    lines_of(tmp_path / "captions.txt", lambda lines: lines.__setitem__(slice(1, None), lines[:0:-1]))
    again = load_folder("flickr8k", tmp_path)
    assert {split: set(part.image_ids) for split, part in again.splits.items()} == {
        split: set(part.image_ids) for split, part in first.splits.items()
    }


def test_karpathys_file_beside_brings_the_split(tmp_path):
    kaggle8k(tmp_path)
    karpathy(tmp_path, [f"{one}.jpg" for one in IDS])
    data = load_folder("flickr8k", tmp_path, strict=True)
    assert len(data["test"]) == 10 and "captions.txt, since what was read is the field's split" in data.report()
    assert len(load_folder("flickr8k", tmp_path, layout="captions")["test"]) == 4
    with pytest.raises(ValueError, match="no files of layout 'coco': it has .'karpathy', 'captions'"):
        load_folder("flickr8k", tmp_path, layout="coco")


def test_a_lost_quote_swallows_no_line(tmp_path):
    kaggle8k(tmp_path)
    lines_of(tmp_path / "captions.txt", lambda lines: lines.__setitem__(3, '1000.jpg,"a lost quote'))
    lines_of(tmp_path / "captions.txt", lambda lines: lines.__setitem__(4, "no comma"))
    data = load_folder("flickr8k", tmp_path)
    assert sum(len(part.captions) for part in data.splits.values()) == 199
    assert [problem.cause for problem in data.problems] == ["line of another format"]


def test_images_in_no_list_are_counted_and_lists_of_others_refused(tmp_path):
    original8k(tmp_path)
    data = load_folder("flickr8k", tmp_path, strict=True)
    assert "3 images that are in none of them" in data.report()
    lines_of(tmp_path / "Flickr8k_text" / "Flickr_8k.devImages.txt", lambda lines: lines.append("1000.jpg"))
    with pytest.raises(ValueError, match="names '1000', which the list of train names too"):
        load_folder("flickr8k", tmp_path)


def test_coco_with_the_boxes_of_its_objects(tmp_path):
    coco(tmp_path, boxes=True)
    data = load_folder("coco", tmp_path, strict=True)
    val = data["val"]
    assert val.region_labels[0].tolist() == ["dog", "dog"] and val.features.shape == (10, 2, 0)
    np.testing.assert_allclose(val.boxes[3], [[0.5, 0.25, 1, 0.75], [0.5, 0.25, 1, 1]])
    assert val.take([4]).region_labels.shape == (1, 2) and "2.0 boxes an image, no features yet" in data.report()


def test_regions_of_many_are_no_objects_of_coco(tmp_path):
    """Its ``iscrowd``: one box around a herd. Left out and counted, and no fault that a strict run would stop at."""
    coco(tmp_path, boxes=True)
    path = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    for at, one in enumerate(content["annotations"]):
        one["iscrowd"] = int(at in (1, 2, 3))  # one of the first picture's two boxes, both of the second's
    path.write_text(json.dumps(content))
    data = load_folder("coco", tmp_path, strict=True)
    assert data["val"].region_mask.sum(axis=1).tolist() == [1, 0, *[2] * 8]
    np.testing.assert_allclose(data["val"].boxes[0, 0], [0.5, 0.25, 1, 0.75])
    first, second = data["val"].image_ids[:2]
    assert f"3 skipped: region of many objects ({first}, {second}, {second})" in data.report()


def test_a_feature_set_in_a_sub_folder_is_found_with_its_labels(tmp_path):
    names = [f"{one}.jpg" for one in IDS]
    karpathy(tmp_path, names)
    features = np.random.default_rng(0).random((40, 2, 3)).astype(np.float16)
    boxes, mask = np.float32([[[0, 0, 1, 1]] * 2] * 40), np.ones((40, 2), bool)
    labels = np.array([[f"dog {row}", "cat"] for row in range(40)])
    for number, own in enumerate((slice(30, 40), slice(0, 30))):  # names in another order than the captions
        arrays = features[own], boxes[own], mask[own]
        shards.write_shard(tmp_path / "by a detector", number, names[own], *arrays, labels=labels[own])
    shards.finish(tmp_path / "by a detector", {"model": "none"})
    splits = load_splits("flickr8k", str(tmp_path), strict=True)
    for part in (splits.train, splits.val, splits.test):
        rows = [names.index(image) for image in part.image_ids]
        assert np.array_equal(part.features, features[rows]) and np.array_equal(part.region_labels, labels[rows])


def test_coco_of_two_years_asks_which(tmp_path):
    coco(tmp_path)
    notes = tmp_path / "annotations"
    for part in ("train", "val"):
        (notes / f"captions_{part}2014.json").write_bytes((notes / f"captions_{part}2017.json").read_bytes())
    assert len(load_folder("coco", tmp_path)["train"]) == 20  # its pictures are those of 2017
    for part in ("train", "val"):
        (tmp_path / f"{part}2017").rename(tmp_path / f"{part}-")
    with pytest.raises(ValueError, match="COCO's captions of .'2014', '2017'.*coco2017"):
        load_folder("coco", tmp_path)


# --- which of several ------------------------------------------------------------------------------------------------


def test_two_layouts_with_features_ask_which(tmp_path):
    scan(tmp_path)
    names = [f"{one}.jpg" for one in IDS]
    karpathy(tmp_path, names)
    assert "SCAN's layout" in load_folder("flickr8k", tmp_path).notes[0]
    np.savez(tmp_path / "clip.npz", filenames=names, features=np.ones((40, 8), np.float32))
    with pytest.raises(ValueError, match="'karpathy' .* and 'precomputed' .*features for both: say which with layout="):
        load_folder("flickr8k", tmp_path)
    assert load_splits("flickr8k", str(tmp_path), layout="karpathy").train.feature_dim == 8


def test_a_feature_set_beside_scans_own_features_is_told(tmp_path):
    """It may be better, and it stays unread: the report says so, and nobody takes its encoder for that of the data."""
    scan(tmp_path)
    assert "Features: " not in load_folder("f30k", tmp_path).report()
    made, arrays = tmp_path / "clip", (np.ones((40, 1, 8)), np.float32([[[0, 0, 1, 1]]] * 40), np.ones((40, 1), bool))
    shards.write_shard(made, 0, IDS, *arrays)
    shards.finish(made, {"model": "clip"})
    data, splits = load_folder("f30k", tmp_path), load_splits("f30k", str(tmp_path))
    assert data["train"].feature_dim == 4 and data.features is splits.features is None
    own = f"SCAN's layout, {tmp_path}"
    assert f"Features: those of {own} itself. Not read: {made}; features=PATH reads it." in data.report()
    asked = load_splits("f30k", str(tmp_path), features=str(made))
    assert asked.train.feature_dim == 8 and asked.features == made
    assert f"Features: {made}." in asked.notes and f"Not read: the features of {own} itself" in asked.notes


@pytest.mark.parametrize("name", ["scenes", "entities"])
def test_what_has_no_choice_takes_none(name, tmp_path):
    with pytest.raises(ValueError, match=f"with '{name}' there is no choice"):
        load_splits(name, str(tmp_path), layout="coco")


def test_a_folder_with_nothing_known_says_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match="no folder: expected one with dataset_<name>.json"):
        load_splits("flickr8k", str(tmp_path / "nowhere"))
    (tmp_path / "captions.txt").write_text("just a text\n")
    with pytest.raises(ValueError, match="no other captions: expected .*it has .'captions.txt'"):
        load_splits("flickr8k", str(tmp_path))
    karpathy(tmp_path, ["1.jpg"], "coco")
    with pytest.raises(ValueError, match="holds no dataset_flickr8k.json but .'dataset_coco.json'"):
        load_splits("flickr8k", str(tmp_path))
    assert load_folder("mine", tmp_path).splits


# --- bottom-up features ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["coco id", "number", "name"])
def test_bottom_up_folders(by, tmp_path):
    """TERAN's folders: features and boxes apart, boxes in pixels, named by COCO's id or by the image's number."""
    ids = [int(one) for one in IDS]
    names = [f"COCO_val2014_{one:012d}.jpg" if by == "coco id" else f"{one}.jpg" for one in ids]
    more = {"cocoid": ids} if by == "coco id" else {}
    karpathy(tmp_path, names, **more)
    pictures(tmp_path / "images", names)
    folders = [tmp_path / "features_36" / name for name in ("bu_att", "bu_box")]
    for folder in folders:
        folder.mkdir(parents=True)
    for row, one in enumerate(ids):
        stem = {"coco id": str(one), "number": str(row), "name": names[row].removesuffix(".jpg")}[by]
        np.savez(folders[0] / f"{stem}.npz", feat=np.full((2, 4), row, np.float32))
        np.save(folders[1] / f"{stem}.npy", np.float32([[0, 0, 30, 40], [30, 0, 60, 20]]))
    data = load_folder("flickr8k", tmp_path, strict=True)
    rows = [names.index(name) for name in data["train"].image_ids]
    assert data["train"].features[:, 1, 0].tolist() == rows
    np.testing.assert_allclose(data["train"].boxes[3], [[0, 0, 0.5, 1], [0.5, 0, 1, 0.5]])


def test_numbers_of_another_folder_are_no_image_numbers(tmp_path):
    """0.npy, 1.npy and so on, by whoever wrote them: in which order?"""
    karpathy(tmp_path, [f"{one}.jpg" for one in IDS])
    (tmp_path / "features").mkdir()
    for row in range(40):
        np.save(tmp_path / "features" / f"{row}.npy", np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="usable features for none of the images"):
        load_folder("flickr8k", tmp_path)


# --- real files ------------------------------------------------------------------------------------------------------


def test_coco_mini_loads_with_pictures_and_labelled_boxes(shared_data):
    splits = load_splits("coco", str(shared_data / "coco_mini"), strict=True)
    assert len(splits.train) + len(splits.val) == 50 and len(splits.test) == 51
    data = load_folder("coco", shared_data / "coco_mini", strict=True)
    boxes = json.loads((shared_data / "coco_mini" / "boxes.json").read_text())["images"]
    for part in data.splits.values():
        for row, name in enumerate(part.image_ids):
            size, objects = boxes[name]["size"], [one for one in boxes[name]["objects"] if not one["crowd"]]
            assert part.region_labels[row][part.region_mask[row]].tolist() == [one["label"] for one in objects]
            expected = np.array([one["box"] for one in objects]) / (size + size)
            np.testing.assert_allclose(part.boxes[row][part.region_mask[row]], expected.clip(0, 1), atol=1e-6)
    assert max(data["val"].picture(0).size) > 200 and "12 skipped: region of many objects" in data.report()
    with pytest.raises(ValueError, match="'coco'/'train' has captions and no image features: extract them"):
        image_batch(splits.train, np.arange(2))


def test_flickr30k_text_loads_as_captions(shared_data):
    root = shared_data / "flickr30k_text"
    splits = load_splits("flickr30k", str(root), strict=True)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [29000, 1014, 1000]
    assert splits.test.image_ids == tuple((root / "test_ids.txt").read_text().split())
    lines = (root / "test_caps.txt").read_text().split("\n")[:-1]
    assert splits.test.captions_of(999) == [" ".join(line.split()) for line in lines[-5:]]
    tokens = tokenise(train_tokenizer(splits.test.captions, vocabulary_size=500), splits.test.captions)
    assert len(tokens.ids) == 5000 and "No features: " in splits.notes
    with pytest.raises(ValueError, match="'flickr30k'/'test' has captions and no image features"):
        image_batch(splits.test, np.arange(2))


def test_kaggles_files_of_real_captions(shared_data, tmp_path):
    """Flickr8k's own captions and pictures under Kaggle's names give what Karpathy's file gives."""
    root = shared_data / "flickr8k"
    images = json.loads((root / "dataset_flickr8k.json").read_text())["images"][::7]
    lines = [(one["filename"], said["raw"].strip()) for one in images for said in one["sentences"]]
    (tmp_path / "Images").symlink_to(root / "images")
    with (tmp_path / "captions.txt").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("image", "caption"), *lines])
    data = load_folder("flickr8k", tmp_path)
    found = {name: part.captions_of(row) for part in data.splits.values() for row, name in enumerate(part.image_ids)}
    for one in images:
        texts = [" ".join(said["raw"].split()) for said in one["sentences"]]
        assert found[one["filename"]] == [text for text in texts if text]
