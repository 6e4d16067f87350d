"""Precomputed image features by file name, in the layouts the field ships them in.

- One ``.npz`` for all images: ``filenames`` (N,) and ``features``, (N, D) for one vector an image or
  (N, R, D) for regions, then optionally ``boxes`` (N, R, 4) and ``mask`` (N, R) or ``num_boxes`` (N,).
- A folder with one file an image, as bottom-up attention (Anderson et al., CVPR 2018) is passed on:
  ``<name>.npy`` (R, D), or ``<name>.npz`` with ``features`` or ``x`` and optionally ``bbox`` or ``boxes``.

Boxes are ``(x1, y1, x2, y2)``, divided by width and height or in pixels of the picture; without boxes each
region gets the whole picture. Nothing is ever unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from itr_lib.data.photographs.problems import Problems

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
    rows, entries = [], []
    for row, (features, boxes) in per_image:
        problem = _bad_entry(features, boxes, entries[0][0].shape[-1] if entries else None)
        if problem is None:
            boxes, problem = _relative(boxes, len(features), names[row], size_of)
        if problem:
            problems.add(
                "features that cannot be used",
                names[row],
                f"Features of {names[row]!r} in {path}: {problem}.",
            )
            continue
        rows.append(row)
        entries.append((features, boxes))
    return _padded(rows, entries, path)


def _from_file(path: Path, names: Sequence[str], problems: Problems):
    """Yield (row of ``names``, (features (R, D), boxes (R, 4) or None)) from one .npz for all images."""
    arrays = load_arrays(path)
    if not {"filenames", "features"} <= arrays.keys():
        raise ValueError(f"{path} holds {sorted(arrays)}: expected the arrays 'filenames' and 'features'")
    features, keys = arrays["features"], [Path(str(key)).name for key in arrays["filenames"].ravel()]
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
    for row, name in enumerate(names):
        at = row_of.get(name, row_of.get(Path(name).stem))
        if at is None:
            problems.add("no features", name, f"Image {name!r} has no row in {path}: extract its features.")
        else:
            yield row, (features[at][mask[at]], None if boxes is None else boxes[at][mask[at]])


def _mask(arrays: dict[str, np.ndarray], features: np.ndarray, path: Path) -> Bool[np.ndarray, "images regions"]:
    """Which regions of an all-in-one file are real."""
    images, regions = features.shape[:2]
    if "mask" in arrays:
        mask = arrays["mask"].astype(bool)
    elif "num_boxes" in arrays:
        mask = np.arange(regions) < arrays["num_boxes"].reshape(-1, 1)
    else:
        mask = np.ones((images, regions), dtype=bool)
    if mask.shape != (images, regions):
        raise ValueError(f"'mask' or 'num_boxes' of {path} gives shape {mask.shape}, expected {(images, regions)}")
    return mask


def _from_folder(path: Path, names: Sequence[str], problems: Problems):
    """Yield (row of ``names``, (features, boxes or None)) from a folder with one file an image."""
    present = {file.name: file for file in path.iterdir() if file.suffix in (".npy", ".npz")}
    if not present:
        raise ValueError(f"feature folder {str(path)!r} holds no .npy or .npz file: expected one an image")
    for row, name in enumerate(names):
        candidates = [stem + suffix for stem in (name, Path(name).stem) for suffix in (".npy", ".npz")]
        file = next((present[candidate] for candidate in candidates if candidate in present), None)
        if file is None:
            problems.add("no features", name, f"Image {name!r} has no feature file in {path}: extract its features.")
            continue
        try:
            arrays = load_arrays(file)
        except ValueError as error:
            problems.add("features that cannot be used", name, str(error))
            continue
        features = arrays.get("features", arrays.get("x"))
        if features is None:
            sentence = f"{file} holds {sorted(arrays)}: expected the array 'features' or 'x'"
            problems.add("features that cannot be used", name, sentence)
            continue
        features = features[None] if features.ndim == 1 else features
        yield row, (features, arrays.get("bbox", arrays.get("boxes")))


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``, or of an ``.npy`` under the name ``features``; ``ValueError`` if unreadable."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"features": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as plain numpy arrays ({error}): it is damaged or holds Python objects;"
            " extract or download it again"
        ) from error


def _bad_entry(features: np.ndarray, boxes: np.ndarray | None, dim: int | None) -> str | None:
    """What is wrong with one image's features, or None."""
    if features.ndim != 2 or features.dtype.kind != "f" or 0 in features.shape:
        return f"shape {features.shape} and type {features.dtype}, expected floats of shape (regions, dimensions)"
    if dim is not None and features.shape[1] != dim:
        return f"{features.shape[1]} dimensions a region, where the images before it have {dim}"
    if not np.isfinite(features).all():
        return "NaN or infinite values"
    if boxes is not None and boxes.shape != (len(features), 4):
        return f"boxes of shape {boxes.shape}, expected {(len(features), 4)}"
    return None


def _relative(boxes: np.ndarray | None, regions: int, name: str, size_of: SizeOf | None):
    """Boxes divided by width and height, and what is wrong with them (or None)."""
    if boxes is None:
        return np.tile(np.float32([0, 0, 1, 1]), (regions, 1)), None
    boxes = boxes.astype(np.float32)
    if not np.isfinite(boxes).all() or boxes.min() < -1:
        return None, "boxes with NaN or negative values"
    if boxes.max() > 1.5:  # in pixels
        if size_of is None:
            return None, "boxes in pixels, and no image folder to take the picture's size from"
        try:
            width, height = size_of(name)
        except (OSError, ValueError):
            return None, "boxes in pixels, and the picture to take the size from cannot be read"
        boxes = boxes / np.float32([width, height, width, height])
    return boxes.clip(0, 1), None


def _padded(rows: list[int], entries: list[tuple[np.ndarray, np.ndarray]], path: Path) -> RegionFeatures:
    """Stack images of different numbers of regions, zeros where padded."""
    if not entries:
        raise ValueError(f"{path} has usable features for none of the images asked for: do the file names agree?")
    regions, dim = max(len(features) for features, _ in entries), entries[0][0].shape[1]
    stacked = np.zeros((len(entries), regions, dim), dtype=entries[0][0].dtype)
    boxes, mask = np.zeros((len(entries), regions, 4), np.float32), np.zeros((len(entries), regions), bool)
    for row, (features, corners) in enumerate(entries):
        stacked[row, : len(features)] = features
        boxes[row, : len(features)] = corners
        mask[row, : len(features)] = True
    return RegionFeatures(np.array(rows), stacked, boxes, mask)
