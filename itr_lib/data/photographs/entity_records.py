"""The files of Flickr30k Entities, record by record: pictures with captions, boxes and phrases.

They come as JSON, ``entities.json`` beside Karpathy's, or as XML and text
(:mod:`itr_lib.data.photographs.entity_files`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from itr_lib.data.boxes import MAX_REGIONS, SHOWN, iou
from itr_lib.data.photographs.box_units import FLIPPED, SLACK, are_numbers, expect_corners, usable_box
from itr_lib.data.photographs.entity_files import is_original, read_original
from itr_lib.data.photographs.folders import Listing, find_images
from itr_lib.data.photographs.karpathy import read_entries
from itr_lib.data.photographs.pictures import find_file, is_file, picture_size
from itr_lib.data.photographs.problems import Problems, read_json
from itr_lib.data.photographs.records import SPLITS, expect_some
from itr_lib.data.unicode import composed, half_character

NO_ENTITY = "0"  # the entity of a phrase that is not to be seen


@dataclass(frozen=True, eq=False)
class PhraseRecord:
    """A phrase: place of its caption, characters ``[from, to)`` of it, which boxes are right, the entity's type."""

    caption: int
    span: tuple[int, int]
    right: Bool[np.ndarray, " boxes"]
    kind: str


@dataclass(frozen=True, eq=False)
class Picture:
    """One usable record; ``boxes`` are divided by width and height, ``unboxed`` counts phrases without a box."""

    filename: str
    path: Path
    captions: tuple[str, ...]
    boxes: Float[np.ndarray, "boxes 4"]
    phrases: tuple[PhraseRecord, ...]
    unboxed: int


def read_pictures(
    root: Path, splits: Sequence[str] | None, limit: int | None, problems: Problems
) -> tuple[str, dict[str, list[Picture]]]:
    """The data set's name, and the usable pictures of each split (None: of those there are; the first ``limit``)."""
    if not root.is_dir():
        raise ValueError(f"the folder {str(root)!r} does not exist: it should hold entities.json and images/")
    original = is_original(root) and not (root / "entities.json").is_file()
    images = find_images(Listing.of(root)) or root / "images"
    if original:
        name, where = "flickr30k", root / "Sentences"
        records, truth = read_original(root, splits, limit, problems)
    else:
        name, where, records, truth = _from_json(root, problems)
    expect_some(records, where, problems)
    counts, pictures = Counter(record["split"] for record in records), {}
    for split in splits or [split for split in SPLITS if counts[split]]:
        if split not in SPLITS or not counts[split]:
            raise ValueError(f"{where} has no image of split {split!r}: it has {dict(counts)}")
        chosen = [record for record in records if record["split"] == split][:limit]
        read = [_read_picture(record, truth, images, problems) for record in chosen]
        pictures[split] = [picture for picture in read if picture is not None]
    flipped = {problem.record for problem in problems.found if problem.cause == FLIPPED}
    expect_corners(len(flipped), len(flipped) + sum(map(len, pictures.values())), where)
    return name, pictures


def _from_json(root: Path, problems: Problems) -> tuple[str, Path, list[dict], dict[str, dict]]:
    """The data set's name, its file of captions, and what the two JSON files hold."""
    files = sorted(root.glob("dataset_*.json"))
    if len(files) != 1:
        raise ValueError(f"{str(root)!r} holds {[file.name for file in files]}: expected one dataset_<name>.json")
    title, entries = read_entries(files[0], problems)
    records, truth = [entry for _, entry in entries], _read_truth(root / "entities.json")
    for filename in sorted(truth.keys() - {record["filename"] for record in records}):
        sentence = f"{root / 'entities.json'} knows {filename!r}, which {files[0].name} does not: another data set?"
        problems.add("file name without captions", filename, sentence)
    return title, files[0], records, truth


def _read_truth(path: Path) -> dict[str, dict]:
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist: Flickr30k Entities in JSON is needed beside the captions")
    content = read_json(path)
    truth = content.get("images") if isinstance(content, dict) else None
    if not isinstance(truth, dict) or not truth:
        raise ValueError(
            f"{path} is in another format: expected an object 'images' with 'size', 'entities' and 'phrases' by"
            " file name"
        )
    return {composed(name): entry for name, entry in truth.items()}


def _read_picture(record: dict, truth: dict[str, dict], images: Path, problems: Problems) -> Picture | None:
    """One picture, or None (and a problem)."""
    filename, entry = record["filename"], truth.get(record["filename"])
    path = find_file(images, filename)
    if entry is None:
        return problems.add("no entities", filename, f"Image {filename!r} does not stand in entities.json.")
    if not _well_formed(entry):
        sentence = (
            f"The entry of {filename!r} lacks 'size', 'entities' with 'boxes', or 'phrases' with 's', 'span', 'e'."
        )
        return problems.add("entities of another format", filename, sentence)
    if not is_file(path):
        return problems.add("missing picture", filename, f"Picture {path} does not exist.")
    if misfit := _misfit(path, entry):
        return problems.add("boxes of another picture", filename, f"Image {filename!r} has {misfit}.")
    captions, boxes_of = _captions(record, problems), _boxes_by_entity(filename, entry, problems)
    everything = sorted({box for boxes in boxes_of.values() for box in boxes})  # by place: the order tells nothing
    if not captions or not everything:
        what = "box that can be used" if captions else "caption"
        return problems.add(f"image without a {what}", filename, f"Image {filename!r} has no {what}.")
    return _with_phrases(filename, path, captions, everything, boxes_of, entry["phrases"], problems)


def _well_formed(entry) -> bool:
    if not isinstance(entry, dict):
        return False
    size, entities, phrases = (entry.get(key) for key in ("size", "entities", "phrases"))
    return (
        are_numbers(size, 2)
        and min(size) > 0
        and isinstance(entities, dict)
        and all(isinstance(one, dict) and isinstance(one.get("boxes"), list) for one in entities.values())
        and isinstance(phrases, list)
        and all(isinstance(one, dict) and _phrase_well_formed(one) for one in phrases)
    )


def _phrase_well_formed(phrase: dict) -> bool:
    span, whole = phrase.get("span"), isinstance(phrase.get("s"), int)
    counted = are_numbers(span, 2) and all(isinstance(at, int) for at in span)
    return whole and counted and isinstance(phrase.get("e"), str)


def _captions(record: dict, problems: Problems) -> dict[int, list[str]]:
    """The tokens of each sentence that can be used, by its number."""
    captions = {}
    for number, sentence in enumerate(record["sentences"]):
        told, named = sentence.get("tokens"), f"{record['filename']}#{number}"
        if not isinstance(told, list) or not all(isinstance(token, str) for token in told):
            sentence = f"Caption {number} of {record['filename']!r} lacks 'tokens', which phrases count."
            problems.add("caption without tokens", named, sentence)
            continue
        tokens = ["".join(token.split()) for token in told]
        if half := half_character("".join(tokens)):
            sentence = (
                f"Caption {number} of {record['filename']!r} holds {half}, half a character: write it anew as UTF-8."
            )
            problems.add("caption with half a character", named, sentence)
        elif any(tokens):
            captions[number] = tokens
        else:
            problems.add("empty caption", named, f"Caption {number} of {record['filename']!r} has no token.")
    return captions


def _boxes_by_entity(filename: str, entry: dict, problems: Problems) -> dict[str, list[tuple[float, ...]]]:
    """The usable boxes of each entity, in [0, 1]."""
    boxes_of = {}
    for entity, about in entry["entities"].items():
        named = f"entity {entity} of {filename!r}"
        found = [usable_box(box, entry["size"], named, filename, problems) for box in about["boxes"]]
        boxes_of[entity] = [box for box in found if box is not None]
    return boxes_of


def _misfit(path: Path, entry: dict) -> str | None:
    """What shows that the boxes were drawn on a picture of another size or turned otherwise, or None.

    A copy scaled down is fine: boxes are divided by the entry's own ``size``.
    """
    width, height = entry["size"]
    boxes = np.array([box for one in entry["entities"].values() for box in one["boxes"] if are_numbers(box, 4)])
    if len(boxes):
        beyond = (boxes.reshape(-1, 2, 2) / (width, height)).max(axis=(1, 2)) > 1 + SLACK
        if 2 * beyond.sum() >= len(boxes):
            return (
                f"{beyond.sum()} of {len(boxes)} boxes that reach beyond its size, {width} x {height}: correct 'size'"
            )
    try:
        across, up = picture_size(path)
    except ValueError:  # told when its features are made
        return None
    if abs(across / width - up / height) > 1 / width + 1 / height:  # more than rounding
        return (
            f"{across} x {up} pixels, upright, and boxes drawn on {width} x {height}: fetch the picture they belong to"
        )
    return None


def _with_phrases(filename, path, captions, everything, boxes_of, phrases, problems: Problems) -> Picture:
    """Put the phrases to the boxes, of which at most 36 are kept."""
    boxes = np.array(everything, np.float32)
    right_of = {e: (iou(boxes, np.array(own)) >= SHOWN).any(axis=1) for e, own in boxes_of.items() if own}
    fitting = [one for one in phrases if _fits(one, captions, boxes_of, filename, problems)]
    told = [(one, right_of[one["e"]]) for one in fitting if one["e"] in right_of]
    kept = np.arange(len(boxes))
    if len(boxes) > MAX_REGIONS:
        asked = np.sum([right for _, right in told], axis=0) if told else np.zeros(len(boxes))
        kept = np.sort(np.argsort(-asked, kind="stable")[:MAX_REGIONS])
        sentence = f"Image {filename!r} has {len(boxes)} boxes: the {MAX_REGIONS} that most phrases speak of are kept."
        problems.add(f"boxes beyond {MAX_REGIONS}", filename, sentence)
    place = {number: at for at, number in enumerate(captions)}
    records = [
        PhraseRecord(place[one["s"]], _characters(captions[one["s"]], one["span"]), right[kept], _kind(one))
        for one, right in told
        if right[kept].any()
    ]
    text = tuple(" ".join(tokens) for tokens in captions.values())
    return Picture(filename, path, text, boxes[kept], tuple(records), len(fitting) - len(records))


def _fits(phrase: dict, captions: dict[int, list[str]], boxes_of: dict, filename: str, problems: Problems) -> bool:
    """Whether a phrase lies in its sentence and its entity is known; otherwise a problem."""
    start, stop = phrase["span"]
    where = f"Phrase {phrase.get('text', '')!r} of {filename!r}"
    tokens = captions.get(phrase["s"], [])
    if not 0 <= start < stop <= len(tokens):
        sentence = f"{where} is tokens {start} to {stop} of sentence {phrase['s']}, which has {len(tokens)}."
        problems.add("phrase outside its sentence", filename, sentence)
    elif not phrase.get("fuzzy") and _letters(phrase.get("text", "")) not in ("", _letters(*tokens[start:stop])):
        problems.add("phrase of other words", filename, f"{where} should be {' '.join(tokens[start:stop])!r}.")
    elif phrase["e"] != NO_ENTITY and phrase["e"] not in boxes_of:
        problems.add("phrase of an unknown entity", filename, f"{where} is of entity {phrase['e']}, which is unknown.")
    else:
        return True
    return False


def _letters(*texts: str) -> str:
    """Letters and digits alone: sentences and phrases were tokenised by different hands."""
    return re.sub(r"[\W_]", "", composed("".join(map(str, texts)))).lower()


def _characters(tokens: list[str], span: Sequence[int]) -> tuple[int, int]:
    """Where the tokens ``[start, stop)`` stand in the tokens joined by single spaces."""
    start = sum(len(token) + 1 for token in tokens[: span[0]])
    return start, start + len(" ".join(tokens[span[0] : span[1]]))


def _kind(phrase: dict) -> str:
    types = phrase.get("types")
    return str(types[0]) if isinstance(types, list) and types else "other"
