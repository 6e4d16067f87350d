"""COCO's own files: ``captions_train2017.json``, ``captions_val2017.json`` and ``instances_*.json``, or those of 2014.

Each is an object with ``images`` (``id``, ``file_name``) and ``annotations`` (``image_id``, ``caption``). The pictures
of a part lie in a folder of its name, ``train2017``. COCO keeps the captions of its test pictures to itself, and the
field's split, 5,000 to validate and 5,000 to test, is Karpathy's: these files alone have train and val.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from itr_lib.data.photographs.box_units import are_numbers
from itr_lib.data.photographs.problems import Problems, read_json
from itr_lib.data.photographs.records import Record, Source, capital, expect_some, usable_captions, usable_name

NOTE = "COCO's own split: its val is what there is to report on. The papers' 5,000 test images are Karpathy's split."


def read_coco(paths: Sequence[Path], problems: Problems) -> Source:
    """The good records of COCO's caption files, one file a split."""
    records: dict[str, Record] = {}
    for path in paths:
        for record in _read_part(path, problems):
            if record.filename in records:
                sentence = f"Image {record.filename!r} of {path} stands in a file before it too: the first one counts."
                problems.add("file name that stands twice", record.filename, sentence)
            else:
                records[record.filename] = record
    expect_some(list(records.values()), paths[0], problems)
    named = ", ".join(str(path) for path in paths)
    return Source(f"COCO's captions, {named}", "coco", tuple(records.values()), (NOTE,))


def _read_part(path: Path, problems: Problems) -> list[Record]:
    content = read_json(path)
    lists = [content.get(key) for key in ("images", "annotations")] if isinstance(content, dict) else [None]
    if not all(isinstance(one, list) for one in lists):
        raise ValueError(f"{path} is not in COCO's format: expected an object with lists 'images' and 'annotations'")
    images, annotations = lists
    part = path.stem.removeprefix("captions_")  # train2017
    names = _names(images, path, problems)
    said = defaultdict(list)
    for number, one in enumerate(annotations):
        image, caption = (one.get(key) if isinstance(one, dict) else None for key in ("image_id", "caption"))
        if type(image) is int and image in names and isinstance(caption, str):
            said[image].append(caption)
        else:
            sentence = f"Annotation {number} of {path} needs an 'image_id' that 'images' has, and a 'caption'."
            problems.add("annotation that cannot be used", f"annotation {number}", sentence)
    read = []
    for image, (filename, size) in names.items():
        captions = usable_captions(said[image], filename, f"image {image} of {path}", problems)
        keys = (str(image), f"{image:012d}")
        if captions:
            read.append(Record(filename, part.rstrip("0123456789"), captions, part, keys, None, size))
    return read


def _names(images: list, path: Path, problems: Problems) -> dict[int, tuple[str, tuple[float, float] | None]]:
    """File name and size of each image, by its id."""
    names = {}
    for number, one in enumerate(images):
        where = f"image {number} of {path}"
        image, name = (one.get(key) if isinstance(one, dict) else None for key in ("id", "file_name"))
        if type(image) is not int or not isinstance(name, str):
            sentence = f"{capital(where)} lacks 'id' or 'file_name'."
            problems.add("record of another format", f"image {number}", sentence)
        elif image in names:
            problems.add("id that stands twice", str(image), f"Id {image} stands twice in {path}: the first counts.")
        elif filename := usable_name(name, where, problems):
            sides = [one.get(key) for key in ("width", "height")]
            whole = all(type(side) in (int, float) and side > 0 for side in sides)
            names[image] = (filename, tuple(sides) if whole else None)
    return names


def objects_of(content: dict, path: Path, problems: Problems) -> dict[str, dict]:
    """Size and objects of each picture of COCO's ``instances_*.json``, their boxes as corners."""
    if not all(isinstance(content.get(key), list) for key in ("images", "categories")):
        raise ValueError(f"{path} is no file of COCO's instances: expected the lists 'images' and 'categories' too")
    pictures, labels = _names(content["images"], path, problems), {}
    for one in content["categories"]:
        if isinstance(one, dict) and type(one.get("id")) is int:
            labels[one["id"]] = one.get("name")
    found = defaultdict(list)
    for number, one in enumerate(content["annotations"]):
        keys = ("image_id", "category_id", "bbox")
        image, category, box = (one.get(key) if isinstance(one, dict) else None for key in keys)
        if not (_known(image, pictures) and _known(category, labels) and are_numbers(box, 4)):
            sentence = f"Annotation {number} of {path} needs 'image_id' and 'category_id' that are known, and 'bbox'."
            problems.add("annotation that cannot be used", f"annotation {number}", sentence)
            continue
        x, y, width, height = box
        corners = {"label": labels[category], "box": [x, y, x + width, y + height]}
        found[pictures[image][0]].append({**corners, "crowd": one.get("iscrowd", 0)})
    size_of = dict(pictures.values())
    return {name: {"size": list(size_of[name] or ()), "objects": own} for name, own in found.items()}


def _known(key, names: dict) -> bool:
    return type(key) is int and key in names
