"""Boxes that others drew on photographs: ``boxes.json`` with objects, ``entities.json`` of Flickr30k Entities, or
``instances_*.json`` of COCO (:func:`itr_lib.data.photographs.coco.objects_of`).

The first two are an object ``images`` by file name, with the ``size`` (width, height) that boxes were drawn on, in its
pixels: ``{"size": [640, 480], "objects": [{"label": "dog", "box": [x1, y1, x2, y2]}]}``, or ``entities`` as in
:mod:`itr_lib.data.photographs.entities`. An object with ``"crowd": 1``, COCO's ``iscrowd``, is a region of many and no
object: it is left out and counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from itr_lib.data.boxes import MAX_REGIONS, SHOWN, iou
from itr_lib.data.photographs.box_units import (
    FLIPPED,
    are_numbers,
    expect_corners,
    expect_whole_pictures,
    usable_box,
)
from itr_lib.data.photographs.coco import objects_of
from itr_lib.data.photographs.problems import Problems, read_json
from itr_lib.data.unicode import composed

KINDS = {"objects": list, "entities": dict}  # where the boxes stand


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """The boxes of one picture, divided by the ``size`` they were drawn on; at least one, 36 at most."""

    size: tuple[float, float]
    boxes: Float[np.ndarray, "boxes 4"]
    labels: tuple[str, ...]


def read_boxes(path: Path, problems: Problems) -> dict[str, GivenBoxes]:
    """Boxes by file name; a picture without any is not there.

    Of more than 36 the largest are kept, or in ``entities.json`` those that most phrases speak of. What cannot be
    used goes to ``problems``; ``ValueError`` where the file as a whole cannot.
    """
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist: give a boxes.json, or Flickr30k Entities' entities.json")
    content = read_json(path)
    images = content.get("images") if isinstance(content, dict) else None
    if isinstance(images, list) and isinstance(content.get("annotations"), list):
        images = objects_of(content, path, problems)
    if not isinstance(images, dict) or not images:
        raise ValueError(
            f"{path} is in another format: expected an object 'images' with 'size' and 'objects' (or"
            " 'entities') by file name, or COCO's instances_*.json"
        )
    found = {composed(name): _of_picture(composed(name), entry, problems) for name, entry in images.items()}
    flipped = len({problem.record for problem in problems.found if problem.cause == FLIPPED})
    expect_corners(flipped, len(found), path)
    usable = {name: given for name, given in found.items() if given is not None}
    if not usable:
        raise ValueError(f"{path} holds no box that can be used")
    expect_whole_pictures([given.boxes for given in usable.values()], path)
    return usable


def _of_picture(name: str, entry, problems: Problems) -> GivenBoxes | None:
    size = entry.get("size") if isinstance(entry, dict) else None
    if (
        not are_numbers(size, 2)
        or min(size) <= 0
        or not any(isinstance(entry.get(k), kind) for k, kind in KINDS.items())
    ):
        problems.add("boxes of another format", name, f"The entry of {name!r} lacks 'size', 'objects' or 'entities'.")
        return None
    size = tuple(size)
    labelled = _labelled(entry, name, problems)
    found = [(label, usable_box(box, size, repr(name), name, problems)) for label, box in labelled]
    usable = [(label, box) for label, box in found if box is not None]
    if not usable:
        return None
    labels, boxes = zip(*usable, strict=True)
    boxes = np.array(boxes, np.float32)
    if len(boxes) > MAX_REGIONS:
        kept = np.sort(np.argsort(-_weights(entry, boxes, size), kind="stable")[:MAX_REGIONS])
        sentence = f"{name!r} has {len(boxes)} boxes: {MAX_REGIONS} of them are kept."
        problems.add(f"boxes beyond {MAX_REGIONS}", name, sentence)
        boxes, labels = boxes[kept], [labels[at] for at in kept]
    return GivenBoxes(size, boxes, tuple(labels))


def _labelled(entry: dict, name: str, problems: Problems) -> Iterator[tuple[str, list[float]]]:
    """Label and box of each object; of entities each box once, by place, for several may share it."""
    if isinstance(entry.get("objects"), list):
        for one in entry["objects"]:
            label, box, crowd = (one.get(key) if isinstance(one, dict) else None for key in ("label", "box", "crowd"))
            if crowd == 1:
                problems.leave_out("region of many objects", name, f"A box of {name!r} is around many, {label!r}.")
            else:
                yield "" if label is None else str(label), box
        return
    kinds = {}
    for one in entry["entities"].values():
        types, boxes = (one.get(key) if isinstance(one, dict) else None for key in ("types", "boxes"))
        kind = str(types[0]) if isinstance(types, list) and types else ""
        for box in boxes if isinstance(boxes, list) else [boxes]:
            kinds.setdefault(tuple(box) if are_numbers(box, 4) else repr(box), (kind, box))
    yield from sorted(kinds.values(), key=lambda pair: tuple(pair[1]) if are_numbers(pair[1], 4) else ())


def _weights(entry: dict, boxes: np.ndarray, size) -> Float[np.ndarray, " boxes"]:
    """What speaks for keeping each box: how many phrases mean it, or its area."""
    if not isinstance(entry.get("entities"), dict) or not isinstance(entry.get("phrases"), list):
        return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    meant = defaultdict(int)
    for phrase in entry["phrases"]:
        meant[str(phrase.get("e")) if isinstance(phrase, dict) else None] += 1
    weights = np.zeros(len(boxes))
    for entity, about in entry["entities"].items():
        told = about.get("boxes") if isinstance(about, dict) else None
        own = [box for box in told if are_numbers(box, 4)] if isinstance(told, list) else []
        if own and meant[entity]:
            weights += meant[entity] * (iou(boxes, np.array(own) / [*size, *size]) >= SHOWN).any(axis=1)
    return weights
