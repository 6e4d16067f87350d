"""Labelled boxes of objects: the regions of a picture, before there are features of them.

- ``boxes.json``: an object ``images``; by file name the ``size`` [width, height] that the boxes were measured on, and
  ``objects``, each with its ``box`` [x1, y1, x2, y2] in pixels and its ``label``.
- COCO's ``instances_*.json``: the same as ``annotations`` with ``bbox`` [x, y, width, height] and ``category_id``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from itr_lib.data.photographs.box_units import (
    NO_CORNERS,
    are_numbers,
    expect_corners,
    expect_whole_pictures,
    relative_boxes,
)
from itr_lib.data.photographs.problems import Problems, read_json
from itr_lib.data.photographs.records import Record, Regions
from itr_lib.data.unicode import composed


@dataclass(frozen=True, eq=False)
class LabelledBoxes:
    """The boxes of one picture, divided by its width and height, and what each shows."""

    boxes: Float[np.ndarray, "boxes 4"]
    labels: tuple[str, ...]


def read_boxes(path: Path, problems: Problems) -> dict[str, LabelledBoxes]:
    """The boxes of each picture that a file names, by file name. A picture whose boxes make no sense has none.

    Raises:
        ValueError: the file is in another format, or its boxes as a whole are no corners.
    """
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        entries, image = _from_instances(content, path, problems), "image of COCO"
    else:
        entries, image = _from_entries(content, path), "picture"
    read, flipped = {}, 0
    for name, (size, corners, labels) in entries.items():
        boxes, wrong = _relative(size, corners, labels)
        if wrong:
            flipped += wrong == NO_CORNERS
            problems.add("boxes that cannot be used", name, f"The boxes of {image} {name!r} in {path}: {wrong}.")
        else:
            read[composed(name)] = _seen(boxes, labels, name, path, problems)
    expect_corners(flipped, len(entries), path)
    expect_whole_pictures([one.boxes for one in read.values()], path)
    return read


def _seen(boxes: np.ndarray, labels: Sequence[str], name: str, path: Path, problems: Problems) -> LabelledBoxes:
    """The boxes that cover something."""
    covers = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not covers.all():
        sentence = f"{(~covers).sum()} of {len(boxes)} boxes of {name!r} in {path} cover nothing of the picture."
        problems.add("box outside the picture", name, sentence)
    return LabelledBoxes(boxes[covers], tuple(label for label, seen in zip(labels, covers, strict=True) if seen))


def boxes_of_records(paths: Sequence[Path], records: Sequence[Record], problems: Problems) -> Regions:
    """The boxes of all records, padded; an image without any is kept, with no region."""
    read = {name: boxes for path in paths for name, boxes in read_boxes(path, problems).items()}
    own = [read.get(record.filename) for record in records]
    width = max((len(one.labels) for one in own if one), default=0)
    longest = max((len(label) for one in own if one for label in one.labels), default=1)
    boxes, mask = np.zeros((len(records), width, 4), np.float32), np.zeros((len(records), width), bool)
    labels = np.zeros((len(records), width), f"U{longest}")
    for row, one in enumerate(own):
        if one:
            real = len(one.labels)
            boxes[row, :real], mask[row, :real], labels[row, :real] = one.boxes, True, one.labels
    features = np.zeros((len(records), width, 0), np.float16)
    return Regions(np.arange(len(records)), features, boxes, mask, labels)


def _from_entries(content, path: Path) -> dict[str, tuple]:
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, dict):
        raise ValueError(
            f"{path} is in another format: expected an object 'images' with 'size' and 'objects' by file name, or"
            " COCO's instances_*.json"
        )
    entries = {}
    for name, entry in images.items():
        objects = entry.get("objects") if isinstance(entry, dict) else None
        whole = isinstance(objects, list) and all(isinstance(one, dict) for one in objects)
        boxes = [one.get("box") for one in objects] if whole else None
        labels = [one.get("label", "") for one in objects] if whole else []
        entries[name] = (entry.get("size") if whole else None, boxes, labels)
    return entries


def _from_instances(content: dict, path: Path, problems: Problems) -> dict[str, tuple]:
    """COCO's annotations by file name, their boxes as corners."""
    if not all(isinstance(content.get(key), list) for key in ("images", "categories")):
        raise ValueError(f"{path} is no file of COCO's instances: expected the lists 'images' and 'categories' too")
    names, sizes, labels = {}, {}, {}
    for number, one in enumerate(content["images"]):
        keys = ("id", "file_name", "width", "height")
        image, name, *size = (one.get(key) if isinstance(one, dict) else None for key in keys)
        if type(image) is int and isinstance(name, str):
            names[image], sizes[name] = name, size
        else:
            sentence = f"Image {number} of {path} lacks 'id' or 'file_name': its boxes are not known."
            problems.add("record of another format", f"image {number}", sentence)
    for one in content["categories"]:
        if isinstance(one, dict) and type(one.get("id")) is int:
            labels[one["id"]] = one.get("name")
    found = defaultdict(lambda: ([], []))
    for number, one in enumerate(content["annotations"]):
        keys = ("image_id", "category_id", "bbox")
        image, category, box = (one.get(key) if isinstance(one, dict) else None for key in keys)
        if not (_known(image, names) and _known(category, labels) and are_numbers(box, 4)):
            sentence = f"Annotation {number} of {path} needs 'image_id' and 'category_id' that are known, and 'bbox'."
            problems.add("annotation that cannot be used", f"annotation {number}", sentence)
            continue
        boxes, shown = found[names[image]]
        boxes.append([box[0], box[1], box[0] + box[2], box[1] + box[3]])
        shown.append(labels[category])
    return {name: (sizes[name], *own) for name, own in found.items()}


def _known(key, names: dict) -> bool:
    return type(key) is int and key in names


def _relative(size, corners, labels) -> tuple[Float[np.ndarray, "boxes 4"], str | None]:
    """The boxes of one picture in [0, 1], and what is wrong with them, or None."""
    empty = np.zeros((0, 4), np.float32)
    if not are_numbers(size, 2) or min(size) <= 0 or corners is None:
        return empty, f"its size is {size!r}, expected [width, height] in pixels, and a list 'objects'"
    if not all(are_numbers(box, 4) for box in corners):
        bad = next(box for box in corners if not are_numbers(box, 4))
        return empty, f"a box is {bad!r}, expected four numbers"
    if not all(isinstance(label, str) for label in labels):
        return empty, "the label of an object is no text"
    return relative_boxes(np.array(corners, np.float32).reshape(-1, 4), tuple(size)) if corners else (empty, None)
