"""The layout of SCAN (Lee et al., ECCV 2018), which VSE-infinity, CHAN and others use: features beside captions.

Of each split a folder holds ``<split>_ims.npy`` (N, R, D), ``<split>_caps.txt`` with five lines, captions, an image,
and mostly ``<split>_ids.txt``. Nothing but the order ties them together, so the counts must agree to the line. Some
copies have each image, or each id, five times, once a caption: then one of five is kept. ``dev`` is val; of COCO,
``testall`` is the 5,000 test images and ``test`` the first 1,000 of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itr_lib.data.boxes import WHOLE
from itr_lib.data.photographs.problems import Problems, read_json, read_lines
from itr_lib.data.photographs.records import Record, Regions, Source, expect_some, usable_captions, usable_name
from itr_lib.data.rows import Rows, finite_rows, map_npy, read_if_small

CAPTIONS = 5  # an image, in every file of this layout
ENDS = ("_ids.txt", "_ims.npy")
SAMPLED = 32  # images whose repeats are compared
NAMES = {"train": "train", "dev": "val", "val": "val", "test": "test", "testall": "test"}


def read_precomputed(folder: Path, problems: Problems) -> Source:
    """The splits of a folder, each checked for counts that agree.

    Raises:
        ValueError: counts that do not fit, ids that stand twice, features that are none.
    """
    parts = [path.name.removesuffix("_caps.txt") for path in sorted(folder.glob("[!.]*_caps.txt"))]
    others = {path.name.rpartition("_")[0]: path for end in ENDS for path in sorted(folder.glob(f"[!.]*{end}"))}
    if lonely := sorted(others.keys() - set(parts)):
        raise ValueError(
            f"{others[lonely[0]]} has no {lonely[0]}_caps.txt beside it: the captions of a split are missing"
        )
    names = {part: NAMES.get(part, part) for part in parts}
    notes = []
    if {"test", "testall"} <= names.keys():
        names["test"] = "test_1k"
        notes.append("The split test is testall, 5,000 images of COCO; test_1k is the first 1,000 of them.")
    if doubled := [split for split, count in Counter(names.values()).items() if count > 1]:
        raise ValueError(f"{folder} holds {parts}, of which two are the split {doubled[0]!r}: remove one")
    files = _file_names(folder)
    records, arrays = [], {}
    for part, split in names.items():
        ids, captions, arrays[split] = _read_part(folder, part)
        records += _records(part, split, ids, captions, files, problems)
        if not (folder / f"{part}_ids.txt").is_file():
            notes.append(f"{part} has no {part}_ids.txt: its images are called by their place in the file.")
    expect_some(records, folder, problems)
    missing = [part for part, split in names.items() if arrays[split] is None]
    if missing:
        notes.append(f"No features: {', '.join(f'{part}_ims.npy' for part in missing)} is missing; captions were read.")
    regions = None if len(missing) == len(parts) else _regions_of(arrays, folder, problems)
    title = folder.name.removesuffix("_precomp")
    return Source(f"SCAN's layout, {folder}", title, tuple(records), tuple(notes), regions)


def has_features(folder: Path) -> bool:
    """Whether the folder brings features along."""
    return any(folder.glob("[!.]*_ims.npy"))


def _read_part(folder: Path, part: str) -> tuple[list[str] | None, list[list[str]], Rows | None]:
    """Ids, captions and features of the images of one split, each once; None where there are none."""
    captions = read_lines(folder / f"{part}_caps.txt")
    ids, rows = _ids(folder / f"{part}_ids.txt"), _features(folder / f"{part}_ims.npy")
    counts = {f"{part}_ids.txt": ids, f"{part}_ims.npy": rows}
    counts = {name: len(part) for name, part in counts.items() if part is not None}
    each = _captions_an_image(folder, part, len(captions), counts, ids, rows)
    images = len(captions) // each
    if ids is not None and len(ids) > images:
        ids = _one_of_five(ids, folder / f"{part}_ids.txt")
    if ids is not None and len(set(ids)) < images:
        twice = next(one for one, count in Counter(ids).items() if count > 1)
        raise ValueError(f"{folder / f'{part}_ids.txt'} names {twice!r} twice: which captions are its own is not known")
    if rows is not None and len(rows) > images:
        _expect_repeats(rows, folder / f"{part}_ims.npy")
        rows = rows.take(np.arange(0, len(rows), CAPTIONS))
    return ids, [captions[start : start + each] for start in range(0, len(captions), each)], rows


def _captions_an_image(folder: Path, part: str, captions: int, counts: dict[str, int], ids, rows) -> int:
    """Five or one, whatever all counts agree on."""
    told = f"{folder} holds {captions:,} lines in {part}_caps.txt"
    told += "".join(f", {count:,} in {name}" for name, count in counts.items())
    expected = f"expected {CAPTIONS} captions an image, or one"
    if not captions or any(count not in (captions, captions / CAPTIONS) for count in counts.values()):
        raise ValueError(f"{told}: {expected}; a line too many or too few gives images the captions of others")
    if captions / CAPTIONS in counts.values() or not counts and captions % CAPTIONS == 0:
        return CAPTIONS
    if not counts:
        raise ValueError(f"{told}, and no ids or features: {expected}")
    if ids is not None:
        return 1 if len(set(ids)) == len(ids) else CAPTIONS
    repeated = _repeated(rows)
    if repeated.any() and not repeated.all():
        raise ValueError(f"{told}, and only some of the images stand there five times: {expected}")
    return CAPTIONS if repeated.any() else 1


def _ids(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    ids = [line.strip() for line in read_lines(path)]
    if "" in ids:
        raise ValueError(f"line {ids.index('') + 1} of {path} is empty: expected an id on each line")
    return ids


def _features(path: Path) -> Rows | None:
    """The array on disk, (N, R, D); it stays there."""
    return Rows([map_npy(path)]) if path.is_file() else None


def _one_of_five(ids: list[str], path: Path) -> list[str]:
    """Ids that stand five times, once each."""
    for start in range(0, len(ids), CAPTIONS):
        five = ids[start : start + CAPTIONS]
        if len(set(five)) > 1:
            lines = f"lines {start + 1} to {start + CAPTIONS} of {path}"
            raise ValueError(f"{lines} are {five}: expected one id five times, or each id once")
    return ids[::CAPTIONS]


def _sample(rows: Rows) -> np.ndarray:
    """First rows of fives spread over the file."""
    return np.unique(np.linspace(0, len(rows) // CAPTIONS - 1, SAMPLED).astype(int)) * CAPTIONS


def _repeated(rows: Rows) -> np.ndarray:
    """For sampled fives, whether their rows are equal."""
    if len(rows) % CAPTIONS:
        return np.zeros(1, bool)
    fives = (rows[start : start + CAPTIONS] for start in _sample(rows))
    return np.array([(five == five[0]).all() for five in fives])


def _expect_repeats(rows: Rows, path: Path) -> None:
    repeated = _repeated(rows)
    if not repeated.all():
        start = int(_sample(rows)[repeated.argmin()])
        raise ValueError(
            f"rows {start} to {start + CAPTIONS - 1} of {path} differ, and there are {CAPTIONS} captions to an image:"
            " expected each image once, or five times, one after the other"
        )


def _file_names(folder: Path) -> dict[str, str]:
    """The file name of each id, where VSE-infinity's ``id_mapping.json`` lies in the folder or the one above."""
    path = next((path for path in (folder, folder.parent) if (path / "id_mapping.json").is_file()), None)
    content = read_json(path / "id_mapping.json") if path else {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise ValueError(f"{path}/id_mapping.json is in another format: expected the file name of each id")
    return content


def _records(part: str, split: str, ids, captions, files: dict[str, str], problems: Problems) -> list[Record]:
    """The images of one split; ``number`` is the row of their features."""
    records = []
    for row, texts in enumerate(captions):
        where = f"row {row} of {part}"
        named = f"{part}/{row}" if ids is None else files.get(ids[row], ids[row])
        name = usable_name(named, where, problems)
        usable = usable_captions(texts, name, where, problems) if name else ()
        if usable:
            folder, _, last = name.rpartition("/")
            filename, folder = (name, "") if ids is None else (last, folder)
            records.append(Record(filename, split, usable, folder, number=str(row)))
    return records


def _regions_of(arrays: dict[str, Rows | None], folder: Path, problems: Problems):
    """What gives the features of some records of a split; each region has the whole picture as its box."""

    def regions(split: str, records: Sequence[Record]) -> Regions:
        rows = arrays[split]
        if rows is None:
            return Regions.none(len(records))
        features = rows.take(np.array([int(record.number or 0) for record in records]))
        finite = finite_rows(features)
        for row in np.flatnonzero(~finite):
            name = records[row].filename
            sentence = f"Features of {name!r} in {folder}: NaN or infinite values, or some too large for 32 bits."
            problems.add("features that cannot be used", name, sentence)
        kept = np.flatnonzero(finite)
        shape = (len(kept), features.shape[1])
        boxes = np.tile(WHOLE, (*shape, 1))
        return Regions(kept, read_if_small(features.take(kept)), boxes, np.ones(shape, bool))

    return regions
