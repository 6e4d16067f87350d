"""Precomputed image features by file name, in the layouts the field ships them in.

- One ``.npz`` for all images: ``filenames`` (N,) and ``features``, (N, D) for one vector an image or
  (N, R, D) for regions, then optionally ``boxes`` (N, R, 4) and ``mask`` (N, R) or ``num_boxes`` (N,).
- A folder with one file an image, as bottom-up attention (Anderson et al., CVPR 2018) is passed on:
  ``<name>.npy`` (R, D), or ``<name>.npz`` with ``features``, ``x`` or ``feat`` and optionally ``bbox`` or ``boxes``.
  TERAN's folder ``bu_att`` has its boxes in ``bu_box`` beside it.
- A feature set, the course's own (:mod:`itr_lib.data.photographs.shards`).

Boxes are ``(x1, y1, x2, y2)``, divided by width and height or in pixels: of the size ``image_w``, ``image_h`` where the
file tells it, else of the upright picture. Without boxes each region gets the whole picture. Nothing is ever unpickled.

All numbers are looked at once, a piece at a time. Up to 256 MB of features are then held in memory; more stay on disk
(:class:`itr_lib.data.rows.Rows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from itr_lib.data.photographs import shards
from itr_lib.data.photographs.arrays import FEATURES, load_arrays, open_arrays
from itr_lib.data.photographs.box_units import (
    NO_CORNERS,
    SizeOf,
    expect_corners,
    expect_whole_pictures,
    relative_to_picture,
)
from itr_lib.data.photographs.problems import Problem, Problems
from itr_lib.data.photographs.records import Regions
from itr_lib.data.rows import (
    Part,
    Rows,
    expect_unchanged,
    finite_rows,
    float_type,
    is_finite,
    read_if_small,
    stamp_of,
)
from itr_lib.data.unicode import composed


@dataclass(frozen=True, eq=False)
class _Entry:
    """What is told of one image, whose features stay where they are."""

    name: str
    place: int | Path  # row of the file for all images, or a file of its own
    mask: Bool[np.ndarray, " regions"]
    shape: tuple[int, ...]  # of its features, padding left out
    dtype: np.dtype
    finite: bool
    boxes: np.ndarray | None
    size: tuple[float, float] | None
    stamp: tuple[int, int] | None = None  # of its own file


def read_features(path, names: Sequence[str], problems: Problems, size_of: SizeOf | None = None) -> Regions:
    """Features of those images ``names`` that have them, padded to the most regions an image has.

    ``size_of`` tells the size of a picture, to divide boxes given in pixels. An image without usable features
    goes to ``problems``. Raises ``ValueError`` where the file as a whole cannot be used.
    """
    path = Path(path).expanduser()
    if shards.is_set(path):
        return _from_set(path, names, problems)
    if path.is_dir():
        shards.expect_no_unfinished(path)
        part, asked = None, _from_folder(path, names, problems)
    elif path.is_file():
        part, asked = _from_file(path, names, problems)
    else:
        raise ValueError(f"feature file {str(path)!r} does not exist: give an .npz file or a folder of .npy files")
    before = len(problems.found)
    rows, entries, boxes = _usable(asked, path, problems, size_of)
    if not entries:
        raise ValueError(_none_usable(path, problems.found[before:]))
    regions = max(entry.shape[0] for entry in entries) if part is None else part.shape[1]
    mask, corners = np.zeros((len(rows), regions), bool), np.zeros((len(rows), regions, 4), np.float32)
    for row, (entry, own) in enumerate(zip(entries, boxes, strict=True)):
        mask[row, : len(entry.mask)] = entry.mask
        corners[row, : len(entry.mask)][entry.mask] = own
    places = [entry.place for entry in entries]
    features = Rows([_Files.of(entries)]) if part is None else Rows([part], np.array(places), mask)
    return Regions(np.array(rows), read_if_small(features), corners, mask)


def _usable(
    asked: Iterator[tuple[int, _Entry]], path: Path, problems: Problems, size_of: SizeOf | None
) -> tuple[list[int], list[_Entry], list[np.ndarray]]:
    """Rows of the names, entries and relative boxes of the images that can be used; the others are problems."""
    rows, entries, corners, flipped, number = [], [], [], 0, 0
    for row, entry in asked:
        number += 1
        boxes, problem = None, _bad_entry(entry, entries[0].shape[-1] if entries else None)
        if problem is None:
            boxes, problem = relative_to_picture(entry.boxes, entry.shape[0], entry.name, entry.size, size_of)
        if problem:
            flipped += problem == NO_CORNERS
            sentence = f"Features of {entry.name!r} in {path}: {problem}."
            problems.add("features that cannot be used", entry.name, sentence)
            continue
        rows.append(row)
        entries.append(entry)
        corners.append(boxes)
    expect_corners(flipped, number, path)
    expect_whole_pictures(corners, path)
    return rows, entries, corners


def _none_usable(path: Path, problems: Sequence[Problem]) -> str:
    first = f" The first of {len(problems):,} problems: {problems[0]}" if problems else ""
    return f"{path} has usable features for none of the images asked for.{first}"


def _from_set(path: Path, names: Sequence[str], problems: Problems) -> Regions:
    before = len(problems.found)
    found = shards.reading(path, problems)
    pairs = list(_found(path, names, found.names, problems))
    if not pairs:
        raise ValueError(_none_usable(path, problems.found[before:]))
    rows, places = np.array(pairs).T
    features = read_if_small(found.features.take(places))
    labels = None if found.labels is None else found.labels[places]
    return Regions(rows, features, found.boxes[places], found.mask[places], labels)


def _found(path: Path, names: Sequence[str], keys: Sequence[str], problems: Problems) -> Iterator[tuple[int, int]]:
    """Rows of the names and of the keys where these are the same image; a name without a key is a problem."""
    row_of = {key: row for row, key in enumerate(keys)}
    if len(row_of) != len(keys):
        twice = next(key for row, key in enumerate(keys) if row_of[key] != row)
        raise ValueError(f"{path} names {twice!r} twice in 'filenames': keep one row an image")
    taken: dict[int, str] = {}
    for row, name in enumerate(names):
        name = composed(name)
        place = row_of.get(name, row_of.get(Path(name).stem))
        if place is None:
            problems.add("no features", name, f"Image {name!r} has no row in {path}: extract its features.")
        elif _is_first(taken, place, name, path, problems):
            yield row, place


def _is_first(taken: dict, place: int | Path, name: str, path: Path, problems: Problems) -> bool:
    """Whether no other image has these features; two images of one stem, a.jpg and a.png, would share them."""
    first = taken.setdefault(place, name)
    if first != name:
        sentence = f"Images {first!r} and {name!r} have one row or file in {path}: name it by the whole file name."
        problems.add("features of another image", name, sentence)
    return first == name


def _from_file(path: Path, names: Sequence[str], problems: Problems) -> tuple[Part, Iterator[tuple[int, _Entry]]]:
    """The features of one .npz for all images, and what it tells of those asked for, by row of ``names``."""
    arrays, part = open_arrays(path)
    if "filenames" not in arrays or part is None:
        raise ValueError(f"{path} holds {sorted(arrays)}: expected the arrays 'filenames' and 'features'")
    keys = [composed(Path(str(key)).name) for key in arrays["filenames"].ravel().astype(str)]
    images, regions, dim = part.shape
    if images != len(keys):
        shape = (images, dim) if regions == 1 else part.shape
        raise ValueError(
            f"'features' of {path} has shape {shape}: expected floats of shape ({len(keys)}, D) or ({len(keys)}, R, D),"
            f" one row for each of its {len(keys)} file names"
        )
    boxes, mask = arrays.get("boxes"), _mask(arrays, (images, regions), path)
    if boxes is not None and boxes.shape != (images, regions, 4):
        raise ValueError(f"'boxes' of {path} has shape {boxes.shape}, expected {(images, regions, 4)}")
    sizes = _sizes(arrays, images, path)
    finite = finite_rows(Rows([part], mask=mask))

    def entry(name: str, at: int) -> _Entry:
        shape = (int(mask[at].sum()), dim)
        own = None if boxes is None else boxes[at][mask[at]]
        return _Entry(name, at, mask[at], shape, part.dtype, bool(finite[at]), own, sizes and sizes[at])

    return part, ((row, entry(names[row], at)) for row, at in _found(path, names, keys, problems))


def _mask(arrays: dict[str, np.ndarray], shape: tuple[int, int], path: Path) -> Bool[np.ndarray, "images regions"]:
    """Which regions of an all-in-one file are real."""
    told = next((arrays[key] for key in ("mask", "num_boxes") if key in arrays), np.ones(shape, bool))
    if told.dtype.kind not in "biuf":
        raise ValueError(f"'mask' or 'num_boxes' of {path} has type {told.dtype}, expected numbers or bools")
    counts = "num_boxes" in arrays and "mask" not in arrays
    mask = np.arange(shape[1]) < told.reshape(-1, 1) if counts else told.astype(bool)
    if mask.shape != shape:
        raise ValueError(f"'mask' or 'num_boxes' of {path} gives shape {mask.shape}, expected {shape}")
    return mask


def _sizes(arrays: dict[str, np.ndarray], images: int, path: Path) -> list[tuple[float, float]] | None:
    """Width and height of each picture as the boxes know it, where the file tells: ``image_w`` and ``image_h``."""
    told = [arrays[key].ravel() for key in ("image_w", "image_h") if key in arrays]
    if len(told) < 2:
        return None
    if any(len(sides) != images or sides.dtype.kind not in "iuf" or not (sides > 0).all() for sides in told):
        raise ValueError(f"'image_w' and 'image_h' of {path} must be {images} numbers above 0, one a picture")
    return list(zip(*(sides.tolist() for sides in told), strict=True))


def _from_folder(path: Path, names: Sequence[str], problems: Problems) -> Iterator[tuple[int, _Entry]]:
    """What a folder with one file an image tells of those asked for, by row of ``names``."""
    present = {composed(file.name): file for file in path.iterdir() if file.suffix in (".npy", ".npz")}
    if not present:
        raise ValueError(f"feature folder {str(path)!r} holds no .npy or .npz file: expected one an image")
    taken: dict[Path, str] = {}
    for row, name in enumerate(names):
        candidates = [composed(stem) + suffix for stem in (name, Path(name).stem) for suffix in (".npy", ".npz")]
        file = next((present[candidate] for candidate in candidates if candidate in present), None)
        if file is None:
            problems.add("no features", name, f"Image {name!r} has no feature file in {path}: extract its features.")
            continue
        if not _is_first(taken, file, name, path, problems):
            continue
        try:
            stamp = stamp_of(file)
            features, arrays = _read(file)
            sizes = _sizes(arrays, 1, file)
        except (OSError, ValueError) as error:
            problems.add("features that cannot be used", name, str(error))
            continue
        finite = features.dtype.kind == "f" and bool(is_finite(features[None])[0])
        boxes, mask = arrays.get("bbox", arrays.get("boxes")), np.ones(features.shape[:1], bool)
        size = sizes and sizes[0]
        yield row, _Entry(name, file, mask, features.shape, features.dtype, finite, boxes, size, stamp)


def _read(file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The features (R, D) of one image's file, and all its arrays."""
    arrays = load_arrays(file)
    folder = file.parent.name
    beside = file.parent.with_name(f"{folder.removesuffix('_att')}_box") / f"{file.stem}.npy"
    if folder.endswith("_att") and beside.is_file():
        arrays["boxes"] = load_arrays(beside)["features"]
    features = next((arrays[key] for key in FEATURES if key in arrays), None)
    if features is None:
        raise ValueError(f"{file} holds {sorted(arrays)}: expected one of the arrays {list(FEATURES)}")
    return features[None] if features.ndim == 1 else features, arrays


@dataclass(frozen=True)
class _Files:
    """One file an image, each read when it is asked for: a part of :class:`~itr_lib.data.rows.Rows`."""

    paths: tuple[Path, ...]
    stamps: tuple[tuple[int, int], ...]
    regions: tuple[int, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype

    @classmethod
    def of(cls, entries: Sequence[_Entry]) -> _Files:
        paths = tuple(entry.place for entry in entries)
        regions = tuple(entry.shape[0] for entry in entries)
        shape = (len(paths), max(regions), entries[0].shape[1])
        dtype = np.result_type(*{float_type(entry.dtype) for entry in entries})  # the widest: float16 overflows
        return cls(paths, tuple(entry.stamp for entry in entries), regions, shape, dtype)

    def __getitem__(self, key: tuple[Int[np.ndarray, " some"], slice]) -> np.ndarray:
        rows, width = key
        got = np.zeros((len(rows), self.shape[1], self.shape[2]), self.dtype)
        for place, row in enumerate(rows):
            expect_unchanged(self.paths[row], self.stamps[row])
            features, _ = _read(self.paths[row])
            if features.shape != (self.regions[row], self.shape[2]):
                raise ValueError(
                    f"{self.paths[row]} has shape {features.shape} since it was loaded: load the data again"
                )
            got[place, : len(features)] = features
        return got[:, width]


def _bad_entry(entry: _Entry, dim: int | None) -> str | None:
    """What is wrong with one image's features, or None."""
    shape, boxes = entry.shape, entry.boxes
    if len(shape) != 2 or entry.dtype.kind != "f" or 0 in shape:
        return f"shape {shape} and type {entry.dtype}, expected floats of shape (regions, dimensions)"
    if dim is not None and shape[1] != dim:
        return f"{shape[1]} dimensions a region, where the images before it have {dim}"
    if not entry.finite:
        return "NaN or infinite values, or some too large for 32 bits"
    if boxes is not None and (boxes.shape != (shape[0], 4) or boxes.dtype.kind not in "iuf"):
        return f"boxes of shape {boxes.shape} and type {boxes.dtype}, expected {(shape[0], 4)} numbers"
    return None
