"""The field's layouts: each is written here as it is passed on, and read back; what is wrong with it is told."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from PIL import Image

from itr_lib.data import load_splits, tokenise, train_tokenizer
from itr_lib.data.batches import image_batch
from itr_lib.data.photographs.entities import load_entities
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
        said = [{"id": row * 5 + at, "image_id": int(IDS[row]), "caption": t} for row in rows for at, t in enumerate(captions(row))]
        random.Random(0).shuffle(said)
        said.sort(key=lambda one: one["id"] % 5)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"captions_{part}.json").write_text(json.dumps({"images": images, "annotations": said}))
        if boxes:
            marks = [{"image_id": int(IDS[r]), "category_id": 7, "bbox": [30, 10, 30, 20 + k]} for r in rows for k in (0, 10)]
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
    assert __import__("re").search(told, data.notes[0])
    if layout not in ("scan", "karpathy"):
        assert data["train"].picture(0).size == (60, 40)
    splits = load_splits("flickr8k" if layout != "coco" else "coco", str(tmp_path / "data"))
    parts = [set(part.image_ids) for part in (splits.train, splits.val, splits.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2]) and data.notes[0] in splits.notes
