"""Precomputed image features by file name, in the layouts the field ships them in.

- One ``.npz`` for all images: ``filenames`` (N,) and ``features``, (N, D) for one vector an image or
  (N, R, D) for regions, then optionally ``boxes`` (N, R, 4) and ``mask`` (N, R) or ``num_boxes`` (N,).
- A folder with one file an image, as bottom-up attention (Anderson et al., CVPR 2018) is passed on:
  ``<name>.npy`` (R, D), or ``<name>.npz`` with ``features``, ``x`` or ``feat`` and optionally ``bbox`` or ``boxes``.

Boxes are ``(x1, y1, x2, y2)``, divided by width and height or in pixels: of the size ``image_w``, ``image_h`` where the
file tells it, else of the upright picture. Without boxes each region gets the whole picture. Nothing is ever unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from itr_lib.data.photographs.box_units import NO_CORNERS, expect_corners, expect_whole_pictures, relative_boxes
from itr_lib.data.photographs.problems import Problem, Problems
from itr_lib.data.unicode import composed

FEATURES = ("features", "x", "feat")  # what the array is called in the files that are about
BOMB_BYTES = 2**30  # of one array, unpacked

SizeOf = Callable[[str], tuple[int, int]]  # file name of an image -> width and height in pixels


@dataclass(frozen=True)
class RegionFeatures:
    """Features of those images that have them: ``rows`` says which of the names asked for these are."""

    rows: Int[np.ndarray, " found"]
    features: Float[np.ndarray, "found regions features"]
    boxes: Float[np.ndarray, "found regions 4"]
    mask: Bool[np.ndarray, "found regions"]


def read_features(path, names: Sequence[str], problems: Problems, size_of: SizeOf | None = None) -> RegionFeatures:
    """Features of the images ``names``, padded to the most regions an image has.

    ``size_of`` tells the size of a picture, to divide boxes given in pixels. An image without usable features
    goes to ``problems``. Raises ``ValueError`` where the file as a whole cannot be used.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        per_image = _from_folder(path, names, problems)
    elif path.is_file():
        per_image = _from_file(path, names, problems)
    else:
        raise ValueError(f"feature file {str(path)!r} does not exist: give an .npz file or a folder of .npy files")
    rows, entries, flipped, asked, before = [], [], 0, 0, len(problems.found)
    for row, (features, boxes, size) in per_image:
        problem = _bad_entry(features, boxes, entries[0][0].shape[-1] if entries else None)
        if problem is None:
            boxes, problem = _relative(boxes, len(features), names[row], size, size_of)
        asked, flipped = asked + 1, flipped + (problem == NO_CORNERS)
        if problem:
            sentence = f"Features of {names[row]!r} in {path}: {problem}."
            problems.add("features that cannot be used", names[row], sentence)
            continue
        rows.append(row)
        entries.append((_plain_floats(features), boxes))
    expect_corners(flipped, asked, path)
    expect_whole_pictures([boxes for _, boxes in entries], path)
    return _padded(rows, entries, path, problems.found[before:])


def _plain_floats(features: np.ndarray) -> Float[np.ndarray, "regions features"]:
    """float16 as it is, all else as float32, in this machine's byte order."""
    return features.astype(np.float16 if features.dtype.itemsize == 2 else np.float32, copy=False)


def _from_file(path: Path, names: Sequence[str], problems: Problems):
    """Yield (row of ``names``, (features (R, D), boxes (R, 4) or None, size or None)) from one .npz for all images."""
    arrays = load_arrays(path)
    features = _features_of(arrays)
    if "filenames" not in arrays or features is None:
        raise ValueError(f"{path} holds {sorted(arrays)}: expected the arrays 'filenames' and 'features'")
    keys = [composed(Path(str(key)).name) for key in arrays["filenames"].ravel().astype(str)]
    if features.ndim not in (2, 3) or len(features) != len(keys) or features.dtype.kind != "f":
        raise ValueError(
            f"'features' of {path} has shape {features.shape} and type {features.dtype}: expected floats of shape"
            f" ({len(keys)}, D) or ({len(keys)}, R, D), one row for each of its {len(keys)} file names"
        )
    row_of = {key: row for row, key in enumerate(keys)}
    if len(row_of) != len(keys):
        twice = next(key for row, key in enumerate(keys) if row_of[key] != row)
        raise ValueError(f"{path} names {twice!r} twice in 'filenames': keep one row an image")
    features = features[:, None] if features.ndim == 2 else features
    boxes, mask = arrays.get("boxes"), _mask(arrays, features, path)
    if boxes is not None and boxes.shape != (*features.shape[:2], 4):
        raise ValueError(f"'boxes' of {path} has shape {boxes.shape}, expected {(*features.shape[:2], 4)}")
    sizes = _sizes(arrays, len(keys), path)
    for row, name in enumerate(names):
        name = composed(name)
        at = row_of.get(name, row_of.get(Path(name).stem))
        if at is None:
            problems.add("no features", name, f"Image {name!r} has no row in {path}: extract its features.")
        else:
            yield row, (features[at][mask[at]], None if boxes is None else boxes[at][mask[at]], sizes and sizes[at])


def _mask(arrays: dict[str, np.ndarray], features: np.ndarray, path: Path) -> Bool[np.ndarray, "images regions"]:
    """Which regions of an all-in-one file are real."""
    images, regions = features.shape[:2]
    told = next((arrays[key] for key in ("mask", "num_boxes") if key in arrays), np.ones((images, regions), bool))
    if told.dtype.kind not in "biuf":
        raise ValueError(f"'mask' or 'num_boxes' of {path} has type {told.dtype}, expected numbers or bools")
    mask = (
        told.astype(bool) if "num_boxes" not in arrays or "mask" in arrays else np.arange(regions) < told.reshape(-1, 1)
    )
    if mask.shape != (images, regions):
        raise ValueError(f"'mask' or 'num_boxes' of {path} gives shape {mask.shape}, expected {(images, regions)}")
    return mask


def _sizes(arrays: dict[str, np.ndarray], images: int, path: Path) -> list[tuple[float, float]] | None:
    """Width and height of each picture as the boxes know it, where the file tells: ``image_w`` and ``image_h``."""
    told = [arrays[key].ravel() for key in ("image_w", "image_h") if key in arrays]
    if len(told) < 2:
        return None
    if any(len(sides) != images or sides.dtype.kind not in "iuf" or not (sides > 0).all() for sides in told):
        raise ValueError(f"'image_w' and 'image_h' of {path} must be {images} numbers above 0, one a picture")
    return list(zip(*(sides.tolist() for sides in told), strict=True))


def _features_of(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    return next((arrays[key] for key in FEATURES if key in arrays), None)


def _from_folder(path: Path, names: Sequence[str], problems: Problems):
    """Yield (row of ``names``, (features, boxes or None, size or None)) from a folder with one file an image."""
    present = {composed(file.name): file for file in path.iterdir() if file.suffix in (".npy", ".npz")}
    if not present:
        raise ValueError(f"feature folder {str(path)!r} holds no .npy or .npz file: expected one an image")
    for row, name in enumerate(names):
        candidates = [composed(stem) + suffix for stem in (name, Path(name).stem) for suffix in (".npy", ".npz")]
        file = next((present[candidate] for candidate in candidates if candidate in present), None)
        if file is None:
            problems.add("no features", name, f"Image {name!r} has no feature file in {path}: extract its features.")
            continue
        try:
            arrays = load_arrays(file)
            features, sizes = _features_of(arrays), _sizes(arrays, 1, file)
            if features is None:
                raise ValueError(f"{file} holds {sorted(arrays)}: expected one of the arrays {list(FEATURES)}")
        except ValueError as error:
            problems.add("features that cannot be used", name, str(error))
            continue
        features = features[None] if features.ndim == 1 else features
        yield row, (features, arrays.get("bbox", arrays.get("boxes")), sizes and sizes[0])


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``, or of an ``.npy`` under the name ``features``; ``ValueError`` if unreadable."""
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                _expect_no_bomb(zipfile.ZipFile(file).infolist())
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                if file.read(1):
                    raise ValueError("it goes on after its last number")
                return {"features": loaded}
            with loaded:
                return {key: loaded[key] for key in loaded.files}
    except Exception as error:  # damaged bytes raise nearly anything: zlib.error, TokenError, MemoryError, KeyError
        raise ValueError(
            f"{path} cannot be read as plain numpy arrays ({error}): it is damaged or holds Python objects;"
            " extract or download it again"
        ) from error


def _expect_no_bomb(members: Sequence[zipfile.ZipInfo]) -> None:
    """Zipped features hardly shrink: what does so a hundredfold, and is huge unpacked, was made to fill the memory."""
    for one in members:
        if one.file_size > max(BOMB_BYTES, 100 * one.compress_size):
            raise ValueError(
                f"{one.filename} would take {one.file_size / 2**30:.1f} GB, from {one.compress_size} bytes"
            )


def _bad_entry(features: np.ndarray, boxes: np.ndarray | None, dim: int | None) -> str | None:
    """What is wrong with one image's features, or None."""
    if features.ndim != 2 or features.dtype.kind != "f" or 0 in features.shape:
        return f"shape {features.shape} and type {features.dtype}, expected floats of shape (regions, dimensions)"
    if dim is not None and features.shape[1] != dim:
        return f"{features.shape[1]} dimensions a region, where the images before it have {dim}"
    with np.errstate(over="ignore"):
        if not np.isfinite(_plain_floats(features)).all():
            return "NaN or infinite values, or some too large for 32 bits"
    if boxes is not None and (boxes.shape != (len(features), 4) or boxes.dtype.kind not in "iuf"):
        return f"boxes of shape {boxes.shape} and type {boxes.dtype}, expected {(len(features), 4)} numbers"
    return None


def _relative(boxes: np.ndarray | None, regions: int, name: str, size, size_of: SizeOf | None):
    """Boxes divided by width and height, and what is wrong with them (or None)."""
    if boxes is None:
        return np.tile(np.float32([0, 0, 1, 1]), (regions, 1)), None
    if not boxes.max() > 1.5:  # divided already
        return relative_boxes(boxes, (1, 1))
    if size is None and size_of is None:
        return None, "boxes in pixels, and no image folder to take the picture's size from"
    try:
        return relative_boxes(boxes, size or size_of(name))
    except (OSError, ValueError):
        return None, "boxes in pixels, and the picture to take the size from cannot be read"


def _padded(
    rows: list[int], entries: list[tuple[np.ndarray, np.ndarray]], path: Path, problems: Sequence[Problem]
) -> RegionFeatures:
    """Stack images of different numbers of regions, zeros where padded."""
    if not entries:
        first = f" The first of {len(problems):,} problems: {problems[0]}" if problems else ""
        raise ValueError(f"{path} has usable features for none of the images asked for.{first}")
    regions, dim = max(len(features) for features, _ in entries), entries[0][0].shape[1]
    dtype = np.result_type(*{features.dtype for features, _ in entries})  # the widest: float32 overflows in float16
    stacked = np.zeros((len(entries), regions, dim), dtype)
    boxes, mask = np.zeros((len(entries), regions, 4), np.float32), np.zeros((len(entries), regions), bool)
    for row, (features, corners) in enumerate(entries):
        stacked[row, : len(features)] = features
        boxes[row, : len(features)] = corners
        mask[row, : len(features)] = True
    return RegionFeatures(np.array(rows), stacked, boxes, mask)
