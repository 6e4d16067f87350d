"""What every layout is read into: one record an image, with its captions and its split.

A reader turns files into a :class:`Source`; :mod:`itr_lib.data.photographs.assembly` turns that into data. What a
reader cannot use goes to :class:`itr_lib.data.photographs.problems.Problems`, with a sentence that names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from itr_lib.data.photographs.problems import Problems
from itr_lib.data.rows import Rows, take_rows
from itr_lib.data.unicode import composed, half_character

SPLITS = ("train", "val", "test")
HELD = 1000  # images to validate on and to test on, as many as the field takes of Flickr8k and Flickr30k


@dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        filename: of its picture, accents composed; it stands for the image, and no other has it.
        split: one of :data:`SPLITS`, or another where a layout has more.
        captions: at least one, without line breaks.
        folder: the sub-folder of the image folder that its picture lies in.
        keys: other names that its features may go by, such as COCO's id.
        number: its number in the file, as text.
        size: width and height of the picture that its boxes were measured on, where the file tells.
    """

    filename: str
    split: str
    captions: tuple[str, ...]
    folder: str = ""
    keys: tuple[str, ...] = ()
    number: str | None = None
    size: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of some images, padded to the most that one of them has.

    Attributes:
        rows: which of the records these are.
        features: region vectors; of width 0 where there are boxes and no features yet.
        boxes: ``(x1, y1, x2, y2)`` divided by width and height; zero where padded.
        mask: True = a real region.
        labels: what each box shows, as its file names it; "" where padded.
    """

    rows: Int[np.ndarray, " found"]
    features: Float[np.ndarray | Rows, "found regions features"]
    boxes: Float[np.ndarray, "found regions 4"]
    mask: Bool[np.ndarray, "found regions"]
    labels: Shaped[np.ndarray, "found regions"] | None = None

    @classmethod
    def none(cls, images: int) -> Regions:
        """Of images that nothing is known of: no regions."""
        features, boxes = np.zeros((images, 0, 0), np.float16), np.zeros((images, 0, 4), np.float32)
        return cls(np.arange(images), features, boxes, np.zeros((images, 0), bool))

    def take(self, chosen: Sequence[int] | Int[np.ndarray, " some"]) -> Regions:
        """Some of them, in the order given."""
        chosen = np.asarray(chosen, int)
        labels = None if self.labels is None else self.labels[chosen]
        features = take_rows(self.features, chosen)
        return Regions(self.rows[chosen], features, self.boxes[chosen], self.mask[chosen], labels)


@dataclass(frozen=True)
class Source:
    """What a reader found.

    Attributes:
        layout: what kind of files it read, and which: for the notes.
        title: what the files call the data set.
        records: the images that can be used.
        notes: what a reader of the data should know, a sentence each.
        regions: of layouts that bring their features along: those of some records of one split.
    """

    layout: str
    title: str
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()
    regions: Callable[[str, Sequence[Record]], Regions] | None = None


def capital(words: str) -> str:
    """Words as they begin a sentence; ``str.capitalize`` would make paths in them small."""
    return words[:1].upper() + words[1:]


def plain(text: str) -> str:
    """A caption on one line, with single spaces."""
    return " ".join(text.split())


def usable_captions(texts: Iterable[str], filename: str, where: str, problems: Problems) -> tuple[str, ...]:
    """The captions of one image that can be used; ``where`` says where they stand."""
    captions = [plain(text) for text in texts]
    for at, caption in enumerate(captions):
        named = f"Caption {at} of image {filename!r} ({where})"
        if not caption:
            problems.add("empty caption", f"{filename}#{at}", f"{named} is empty.")
        elif half := half_character(caption):
            sentence = f"{named} holds {half}, half a character: write it anew as UTF-8."
            problems.add("caption with half a character", f"{filename}#{at}", sentence)
    usable = tuple(caption for caption in captions if caption and not half_character(caption))
    if not usable:
        problems.add("image without captions", filename, f"Image {filename!r} ({where}) has no caption.")
    return usable


def usable_name(name: str, where: str, problems: Problems) -> str | None:
    """A file name with its accents composed; None and a problem for one that leads elsewhere or cannot be written."""
    path = PurePosixPath(name.replace("\\", "/"))
    if half_character(name) or "\0" in name or path.is_absolute() or ".." in path.parts or path.name in ("", "."):
        sentence = f"{capital(where)} names the picture {name!r}: expected the name of a file in the image folder."
        problems.add("file name that is none", name, sentence)
        return None
    return composed(name)


def split_by_name(records: Sequence[Record]) -> tuple[tuple[Record, ...], str]:
    """The same records with a split for each, and a sentence about it, for files that tell none.

    The order of the SHA-256 of the file names decides: the first 1,000 (a tenth, of fewer than 10,000) are test,
    as many more are val. It is the same on every machine and for any order of the lines.
    """
    held = max(1, min(HELD, len(records) // 10))
    order = sorted(records, key=lambda record: hashlib.sha256(record.filename.encode()).digest())
    split = {record.filename: "test" if at < held else "val" for at, record in enumerate(order[: 2 * held])}
    sentence = (
        f"These files tell no split. In the order of the SHA-256 of the file names the first {held:,} images are test,"
        f" the next {held:,} val, the others train. It is no split of a paper: figures on it compare with no published"
        " ones. Karpathy's dataset_<name>.json in the same folder brings the field's split."
    )
    return tuple(replace(record, split=split.get(record.filename, "train")) for record in records), sentence


def expect_some(records: Sequence[Record | dict], path: Path, problems: Problems) -> None:
    """Raise ``ValueError`` where no record of a file can be used, with the first thing that is wrong."""
    if not records:
        first = f" The first of {len(problems.found):,} problems: {problems.found[0]}" if problems.found else ""
        raise ValueError(f"{path} has no image that can be used.{first}")
