"""Records and what is known of their pictures, put together: the one place where photographs become data.

Images keep the order of the file, captions the order of their image. An image without features, or without its
picture where there is a folder of pictures, is left out and counted.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.photographs.features import read_features
from itr_lib.data.photographs.folders import feature_names
from itr_lib.data.photographs.given_boxes import read_boxes
from itr_lib.data.photographs.pictures import find_file, is_file, open_row, picture_is_there, picture_size
from itr_lib.data.photographs.problems import Problem, Problems, by_cause
from itr_lib.data.photographs.records import SPLITS, Record, Regions, Source

PathOf = Callable[[Record], Path]


@dataclass(frozen=True)
class PhotographData:
    """What was read, and what was not.

    Attributes:
        splits: the data.
        problems: the records that were not read.
        notes: what a reader should know of the data.
        features: the file or folder that the features come from; None where the layout brings them, or there are none.
    """

    splits: dict[str, RetrievalData]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    features: Path | None = None

    def __getitem__(self, split: str) -> RetrievalData:
        if split not in self.splits:
            raise KeyError(f"split {split!r} is not there: this data set has {list(self.splits)}")
        return self.splits[split]

    def report(self) -> str:
        """What was read, from where, and what was skipped, by cause, with the first few names."""
        read = [
            f"{data.name}/{split}: {len(data):,} images, {len(data.captions):,} captions, {_told(data)}"
            for split, data in self.splits.items()
        ]
        return "\n".join([*self.notes, *read, *(by_cause(self.problems) or ["nothing skipped"])])


def _told(data: RetrievalData) -> str:
    if data.feature_dim:
        return f"features {data.features.shape[1]} x {data.feature_dim}"
    boxes = f"{data.region_mask.sum(1).mean():.1f} boxes an image, " if data.region_mask.any() else ""
    return f"{boxes}no features yet" if data.open_picture else f"{boxes}no features and no pictures"


def assemble(
    source: Source,
    problems: Problems,
    *,
    name: str | None = None,
    splits: Sequence[str] | None = None,
    images: Path | None = None,
    features=None,
    boxes: Sequence[Path] = (),
    decode: bool = False,
) -> PhotographData:
    """The data of a source.

    Args:
        source: what a reader found.
        problems: where to note what is left out.
        name: the data set's name; default: what the files say.
        splits: which to take; None: all that are there.
        images: the folder of pictures; None: do without.
        features: a feature file or folder; None: the source's own, or none.
        boxes: files of labelled boxes, the regions of pictures without features.
        decode: decode each picture whole instead of reading its header.

    Raises:
        ValueError: a split asked for is not there, a file as a whole cannot be used, or no image can.
    """
    features = None if features is None else Path(features).expanduser()
    wanted = _present(splits, source)
    path_of: PathOf | None = images and functools.partial(picture_path, images)
    loaded = {}
    for split, (some, regions) in _parts(source, wanted, features, boxes, path_of, problems).items():
        if path_of:
            regions = _with_pictures(some, regions, path_of, decode, problems)
        if len(regions.rows):
            loaded[split] = split_data(name or source.title, split, some, regions, path_of)
        else:
            problems.add("split left empty", split, f"No image of split {split!r} of {source.layout} can be used.")
    if not loaded:
        raise ValueError(f"No image of {source.layout} can be used: " + "; ".join(by_cause(problems.found)))
    told = [] if features is None else [f"Features: {features}."]
    notes = (f"Read: {source.layout}.", *told, *source.notes)
    return PhotographData(loaded, tuple(problems.found), notes, features)


def _present(splits: Sequence[str] | None, source: Source) -> tuple[str, ...]:
    counts = Counter(record.split for record in source.records)
    for split in splits or ():
        if not counts[split]:
            raise ValueError(f"{source.layout} has no image of split {split!r}: it has {dict(counts)}")
    known = [*SPLITS, *sorted(counts.keys() - set(SPLITS))]
    return tuple(split for split in known if (split in splits if splits else counts[split]))


def picture_path(images: Path, record: Record) -> Path:
    """Where a picture lies. COCO's files name a sub-folder, which a copy may lack; some files leave ``.jpg`` out."""
    for folder in dict.fromkeys((record.folder, "")):
        for name in (record.filename, f"{record.filename}.jpg"):
            if is_file(path := find_file(images / folder, name)):
                return path
    return images / record.filename


def _regions(records: list[Record], features, boxes: Sequence[Path], path_of: PathOf | None, problems: Problems):
    """Features where there are some, else boxes, else nothing."""
    if features is None:
        return _boxes(boxes, records, problems) if boxes else Regions.none(len(records))
    names = feature_names(features, records)
    record_of = dict(zip(names, records, strict=True))
    size_of = path_of and (lambda key: record_of[key].size or picture_size(path_of(record_of[key])))
    return read_features(features, names, problems, size_of)


def _boxes(paths: Sequence[Path], records: Sequence[Record], problems: Problems) -> Regions:
    """The labelled boxes of all records, padded; an image without any is kept, with no region."""
    read = {name: given for path in paths for name, given in read_boxes(path, problems).items()}
    own = [read.get(record.filename) for record in records]
    width = max((len(one.labels) for one in own if one), default=0)
    longest = max((len(label) for one in own if one for label in one.labels), default=1)
    boxes, mask = np.zeros((len(records), width, 4), np.float32), np.zeros((len(records), width), bool)
    labels = np.zeros((len(records), width), f"U{max(1, longest)}")
    for row, one in enumerate(own):
        if one:
            real = len(one.labels)
            boxes[row, :real], mask[row, :real], labels[row, :real] = one.boxes, True, one.labels
    return Regions(np.arange(len(records)), np.zeros((len(records), width, 0), np.float16), boxes, mask, labels)


def _parts(
    source: Source, wanted: Sequence[str], features, boxes: Sequence[Path], path_of: PathOf | None, problems: Problems
) -> dict[str, tuple[list[Record], Regions]]:
    """Records and regions of each split: the layout's own regions, or those of a feature file for all splits."""
    records = [record for record in source.records if record.split in wanted]
    if source.regions and features is None:
        return {split: _own_regions(source, split, records) for split in wanted}
    found = _regions(records, features, boxes, path_of, problems)
    return {split: _of_split(records, found, split) for split in wanted}


def _own_regions(source: Source, split: str, records: list[Record]) -> tuple[list[Record], Regions]:
    some = [record for record in records if record.split == split]
    return some, source.regions(split, some)


def _of_split(records: list[Record], found: Regions, split: str) -> tuple[list[Record], Regions]:
    """The records of one split, and their part of what was found."""
    place, some = {}, []
    for row, record in enumerate(records):
        if record.split == split:
            place[row] = len(some)
            some.append(record)
    chosen = [at for at, row in enumerate(found.rows) if row in place]
    part = found.take(chosen)
    return some, replace(part, rows=np.array([place[row] for row in part.rows], int))


def _with_pictures(records: list[Record], regions: Regions, path_of: PathOf, decode: bool, problems: Problems):
    """What is left of the regions without those images whose picture is missing or no picture."""
    there = [picture_is_there(path_of(records[row]), decode, problems) for row in regions.rows]
    return regions if all(there) else regions.take(np.flatnonzero(there))


def split_data(
    name: str, split: str, records: Sequence[Record], regions: Regions, path_of: PathOf | None
) -> RetrievalData:
    """One split: the records that ``regions`` has, in its order, with their pictures where ``path_of`` says them."""
    images = [records[row] for row in regions.rows]
    paths = path_of and tuple(path_of(image) for image in images)
    return RetrievalData(
        name=name,
        split=split,
        image_ids=tuple(image.filename for image in images),
        captions=tuple(caption for image in images for caption in image.captions),
        image_of_caption=np.repeat(np.arange(len(images)), [len(image.captions) for image in images]),
        features=regions.features,
        boxes=regions.boxes,
        region_mask=regions.mask,
        region_labels=regions.labels,
        open_picture=paths and functools.partial(open_row, paths),
    )
